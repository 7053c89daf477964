"""Which models to load before anybody asks: those that never leave, and those that were asked for lately.

Pure: values in, names out. What is loaded this way never makes another model leave, and is the first to leave
when something is asked for: nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from llm_router.hosts.load import HostLoad, missing_gb
from llm_router.hosts.snapshot import HostSnapshot

LEAST_ANSWERS = 3
"""Answers within the time looked at from which a model is likely to be asked for again."""


class Wanted(Struct, frozen=True):
    """A model that a host has, by its canonical name there: what its place takes, what a load takes, how many
    answers it lately gave. ``kept`` ones never leave and come first."""

    name: str
    memory_gb: float
    load_s: float
    answers: int = 0
    kept: bool = False


def to_preload(
    host: HostSnapshot, load: HostLoad, wanted: Iterable[Wanted], usable_gb: float, most: int | None = None
) -> tuple[str, ...]:
    """Names in the order in which to load them, as far as there is room by Ollama's rule; none while anything
    goes on there.

    Among those that may leave the ones go first whose being there spares most seconds of loading per GB.
    ``most`` is how many models the host holds at once, None where nobody knows.
    """
    if not host.reachable or host.kind != "ollama" or not load.idle:
        return ()
    filled_gb, count = sum(host.resident_gb.values()), len(host.resident_gb)
    found: list[str] = []
    for one in sorted(wanted, key=_order):
        if one.name in host.resident_gb or not (one.kept or one.answers >= LEAST_ANSWERS):
            continue
        full = most is not None and count + len(found) >= most
        if full or one.memory_gb > usable_gb or missing_gb(one.memory_gb, filled_gb, usable_gb) > 0:
            continue
        found.append(one.name)
        filled_gb += one.memory_gb
    return tuple(found)


def _order(one: Wanted) -> tuple[bool, float, str]:
    spared = one.answers * one.load_s / max(one.memory_gb, 1e-3)
    return not one.kept, -spared, one.name


__all__ = ["LEAST_ANSWERS", "Wanted", "to_preload"]
