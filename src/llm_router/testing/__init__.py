"""Doubles that speak the real protocol, for this project's tests and for yours.

`llm_router.testing.fake_ollama` is an Ollama server on loopback HTTP that needs no model and no GPU.
It is not imported here, so that importing this package does not load an HTTP server. The server is aiohttp's,
which the extra `[testing]` brings; without it this import raises MissingExtra.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

from llm_router.errors import MissingExtra


def _require_aiohttp() -> None:
    if find_spec("aiohttp") is not None:
        return
    missing = MissingExtra.needed("testing", "llm_router.testing", "aiohttp")
    if sys.argv[:1] == ["-m"]:  # Python looks for a module to run as a command, and would show a traceback
        sys.exit(f"error: {missing}\nhint: {missing.hint}")
    raise missing


_require_aiohttp()
