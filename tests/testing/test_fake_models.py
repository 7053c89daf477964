"""What the fake has installed: the reference fleet, and changing the installation over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llm_router.testing.fake_ollama import FLEET_NAMES, FakeOllama, fleet_models
from llm_router.testing.raw_http import RawClient


@pytest.fixture
async def client() -> AsyncIterator[RawClient]:
    async with FakeOllama() as server, RawClient(server.url) as client:
        yield client


async def test_show_carries_the_geometry_a_router_needs() -> None:
    async with FakeOllama(fleet_models(FLEET_NAMES)) as server, RawClient(server.url) as client:
        shown = {name: await client.post("/api/show", {"model": name}) for name in FLEET_NAMES}
        assert len((await client.get("/api/tags"))["models"]) == 19
    big = shown["llama3.1:70b"]["model_info"]
    assert big["general.architecture"] == "llama"
    assert (big["llama.block_count"], big["llama.attention.head_count_kv"]) == (80, 8)
    assert (big["llama.attention.key_length"], big["llama.context_length"]) == (128, 131_072)
    assert big["general.parameter_count"] == 70_600_000_000
    assert shown["llava:13b"]["projector_info"]
    assert shown["nomic-embed-text"]["capabilities"] == ["embedding"]
    assert "CC-BY-NC" in shown["solar"]["license"]


@pytest.mark.parametrize(
    ("name", "kib"),
    [("qwen2.5:72b", 320), ("command-r-plus", 256), ("llava:13b", 800), ("phi4", 200), ("gpt-oss:20b", 48),
     ("gemma2:9b", 336), ("llama3.2:1b", 32), ("mistral:7b", 128), ("solar", 192), ("command-r", 160)],
)  # fmt: skip
def test_the_key_value_cache_of_a_fleet_model_has_its_known_size_per_token(name: str, kib: int) -> None:
    (model,) = fleet_models([name])
    assert model.kv_bytes(1) == kib * 1024


def test_an_unknown_fleet_tag_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no fleet model is called 'nope'[\s\S]*hint: use one of .*phi4"):
        fleet_models(["nope"])


async def test_pull_streams_progress_and_installs(client: RawClient) -> None:
    lines = await client.lines("/api/pull", {"model": "solar"})
    assert lines[0] == {"status": "pulling manifest"}
    assert lines[-1] == {"status": "success"}
    assert lines[-4]["completed"] == lines[-4]["total"] == 6_100_000_000
    await client.chat("solar")


async def test_pulling_an_unknown_name_fails_in_the_last_line(client: RawClient) -> None:
    for name in ("no-such-model", "apriel-1.5-15b-thinker"):
        lines = await client.lines("/api/pull", {"model": name})
        assert lines == [
            {"status": "pulling manifest"},
            {"error": "pull model manifest: file does not exist"},
        ]
    refused = await client.request("POST", "/api/pull", {"model": "no-such-model", "stream": False})
    assert refused == (500, {"error": "pull model manifest: file does not exist"})


async def test_copy_create_and_delete_change_what_is_installed(client: RawClient) -> None:
    assert await client.request("POST", "/api/copy", {"source": "phi4", "destination": "mine"}) == (200, "")
    made = await client.lines("/api/create", {"model": "yours", "from": "mine"})
    assert made[-1] == {"status": "success"}
    assert (await client.chat("Yours:latest"))["message"]["content"] == "yours:latest heard: hi"
    assert await client.request("DELETE", "/api/delete", {"model": "mine"}) == (200, "")
    refused = await client.request("DELETE", "/api/delete", {"model": "mine"})
    assert refused == (404, {"error": "model 'mine' not found"})
    refused = await client.request("POST", "/api/copy", {"source": "mine", "destination": "x"})
    assert refused == (404, {"error": 'model "mine" not found'})
