"""Model names the way Ollama reads them.

A name without a tag means ``:latest`` and letter case does not matter (``phi4`` = ``phi4:latest`` =
``Phi4:LATEST``), while ``llama3.1`` and ``llama3.1:70b`` are two models.
"""

from __future__ import annotations

import functools

AUTO_NAMES = frozenset({"", "auto", "auto:latest"})
"""Names that leave the choice to the router. Some clients add ``:latest`` to whatever they are given."""

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


def is_auto(name: str | None) -> bool:
    return name is None or name.strip().lower() in AUTO_NAMES


def is_cloud(name: str) -> bool:
    """Whether Ollama would send a request for this name to a server on the internet.

    A ``:latest`` that a client appended to the name hides nothing.
    """
    return name.strip().lower().removesuffix(":latest").endswith(_CLOUD_SUFFIXES)
