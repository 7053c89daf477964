"""What an installation compiled (``_arithmetic.c``), where it did."""

from __future__ import annotations

import importlib
from types import ModuleType

REVISION = 5
"""Of what is asked of the compiled module, which says the same number."""


def compiled() -> ModuleType:
    """The module. Raises ImportError where there is none, or one that was made from other sources."""
    found = importlib.import_module("llm_router.classify._arithmetic")
    if found.REVISION != REVISION:
        raise ImportError("what was compiled is of other sources\nhint: install the package again")
    return found


def is_compiled() -> bool:
    try:
        compiled()
    except ImportError:
        return False
    return True


def chosen(wanted: bool | None = None) -> ModuleType | None:
    """The module, or None for what is in Python; None wants it where there is one. Raises ImportError where
    it is wanted and there is none."""
    return compiled() if (is_compiled() if wanted is None else wanted) else None
