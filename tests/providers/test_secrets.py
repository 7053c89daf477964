"""A user and a password in a host's address reach no error, no snapshot and no log."""

from __future__ import annotations

import pytest

from llm_router.errors import HostUnreachable
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.providers.address import masked
from llm_router.providers.base import Timeouts
from llm_router.providers.http import HttpHost
from llm_router.providers.meaning import provider_error
from llm_router.providers.ollama import OllamaProvider
from llm_router.providers.openai_compat import OpenAICompatProvider

URL = "http://somebody:hunter2@127.0.0.1:9/v2"


@pytest.mark.parametrize("kind", [OllamaProvider, OpenAICompatProvider])
async def test_a_snapshot_of_a_host_that_is_down_shows_no_password(
    kind: type[OllamaProvider] | type[OpenAICompatProvider],
) -> None:
    provider = kind("box", URL)
    try:
        snapshot: HostSnapshot = await provider.snapshot()
    finally:
        await provider.close()
    assert not snapshot.reachable
    assert "hunter2" not in repr(snapshot)
    assert "127.0.0.1:9" in snapshot.url


async def test_an_error_names_the_place_and_no_password() -> None:
    host = HttpHost("box", URL, timeouts=Timeouts(), read_status=provider_error)
    with pytest.raises(HostUnreachable) as caught:
        await host.get("/api/tags")
    assert "hunter2" not in str(caught.value) + repr(host)
    assert "***@127.0.0.1:9" in str(caught.value)


def test_an_address_without_a_user_stays_as_it_is() -> None:
    assert masked("http://127.0.0.1:11434/a@b") == "http://127.0.0.1:11434/a@b"
