"""What every test gets: a home of its own, no user settings, and no way to reach a server by accident."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says something about the machine, not about the code.
settings.register_profile("here", deadline=None)
settings.load_profile("here")

_CLEARED = ("OLLAMA_HOST", "OLLAMA_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_COLOR")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty HOME and no variable that would change settings; the model cache stays the user's."""
    home = tmp_path / "home"
    home.mkdir()
    cache = os.environ.get("LLM_ROUTER_CACHE_DIR") or _usual_cache()
    for name in list(os.environ):
        own = name.startswith("LLM_ROUTER_") and not name.startswith("LLM_ROUTER_TEST_")
        if own or name in _CLEARED or name.startswith("XDG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LLM_ROUTER_CACHE_DIR", cache)
    yield home


def _usual_cache() -> str:
    import platformdirs

    return platformdirs.user_cache_dir("llm-router", appauthor=False)
