"""What an installation compiled, where it did. All of it is in Python as well (docs/decisions/0012)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True, slots=True)
class Extension:
    """A compiled module. ``revision`` is of what is asked of it: the module says the same number."""

    name: str
    revision: int

    def module(self) -> ModuleType:
        """The module. Raises ImportError where there is none, or one that was made from other sources."""
        found = importlib.import_module(self.name)
        if self.revision != found.REVISION:
            raise ImportError("what was compiled is of other sources\nhint: install the package again")
        return found

    def is_compiled(self) -> bool:
        try:
            self.module()
        except ImportError:
            return False
        return True

    def chosen(self, wanted: bool | None = None) -> ModuleType | None:
        """The module, or None for what is in Python; None wants it where there is one. Raises ImportError
        where it is wanted and there is none."""
        return self.module() if (self.is_compiled() if wanted is None else wanted) else None


TEXT = Extension("llm_router._text", revision=4)
"""What is counted in a text before a word of it is read: tokens, and letters of each script."""

ARITHMETIC = Extension("llm_router.classify._arithmetic", revision=7)
"""How a text is looked up, weighed and judged by the encoder."""


def all_compiled() -> bool:
    return TEXT.is_compiled() and ARITHMETIC.is_compiled()
