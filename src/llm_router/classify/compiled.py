"""The encoder's arithmetic as an installation compiled it (``_arithmetic.c``), where it did."""

from __future__ import annotations

from llm_router.compiled import Extension

REVISION = 7
"""Of what is asked of the compiled module, which says the same number."""

_ARITHMETIC = Extension("llm_router.classify._arithmetic", REVISION)
compiled = _ARITHMETIC.module
is_compiled = _ARITHMETIC.is_compiled
chosen = _ARITHMETIC.chosen
