"""Model names the way Ollama reads them.

A name without a tag means ``:latest`` and letter case does not matter (``phi4`` = ``phi4:latest`` =
``Phi4:LATEST``), while ``llama3.1`` and ``llama3.1:70b`` are two models.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

Preference = Literal["fast", "best"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a virtual name says beside "you choose": the kind of task, and what to look for in a model."""

    category: str | None = None
    prefer: Preference | None = None


AUTO_NAMES = ("auto", "auto-fast", "auto-best")
"""Virtual names. Each may be followed by ``:latest``, as some clients do with whatever they are given, or by
a category: ``auto:structured_data``."""

_AUTO: dict[str, Wish] = {
    "": Wish(),
    "auto": Wish(),
    "auto-fast": Wish(prefer="fast"),
    "auto-best": Wish(prefer="best"),
}

SCRIPT_LANGUAGES = ("ko", "ja", "zh", "ru", "ar", "el", "he", "hi", "th")
"""Languages (ISO 639-1) that the script of a text gives away, as far as a router has to know."""

_CLOUD_SUFFIXES = (":cloud", "-cloud")


@functools.lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """The form in which two names can be compared: lower case, with a tag.

    >>> canonical("Phi4")
    'phi4:latest'
    """
    name = name.strip().lower()
    for prefix in ("registry.ollama.ai/library/", "ollama/", "library/"):
        name = name.removeprefix(prefix)
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def same_model(left: str, right: str) -> bool:
    return canonical(left) == canonical(right)


@functools.lru_cache(maxsize=4096)
def wish_of(name: str) -> Wish | None:
    """What a virtual name wishes; None for the name of a model. Nothing is said of whether a category exists.

    >>> wish_of("auto-fast:structured_data")
    Wish(category='structured_data', prefer='fast')
    """
    base, _, category = name.strip().lower().removesuffix(":latest").partition(":")
    wish = _AUTO.get(base)
    if wish is None or (category and not base):
        return None
    return Wish(category, wish.prefer) if category else wish


def is_auto(name: str | None) -> bool:
    """Whether the router is to choose."""
    return name is None or wish_of(name) is not None


def is_cloud(name: str) -> bool:
    """Whether Ollama would send a request for this name to a server on the internet.

    A ``:latest`` that a client appended to the name hides nothing.
    """
    return name.strip().lower().removesuffix(":latest").endswith(_CLOUD_SUFFIXES)
