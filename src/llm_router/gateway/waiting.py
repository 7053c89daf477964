"""What a stream that has not begun waits for, in words for whoever looks at its signs of life."""

from __future__ import annotations

from llm_router.decision import Candidate
from llm_router.hosts.load import HostLoad
from llm_router.names import canonical


def waits_for(candidate: Candidate, load: HostLoad | None) -> str:
    """One line: the model, what goes on at its host, and about how long that still takes, if known."""
    model, host = candidate.model, candidate.host
    name = canonical(candidate.served_as)
    if load is None:
        found = f"{model} on {host}"
    elif load.loading == name:
        found = f"{model}, which is being loaded on {host}: about {load.loading_left_s:.0f} s"
    elif name in load.loads_waiting:
        before = load.loads_waiting.index(name) + bool(load.loading)
        found = f"{model}, to be loaded on {host} after {before} other{'s' if before != 1 else ''}"
    else:
        before = max(load.of(name).running + load.of(name).waiting - 1, 0)
        found = f"{model} on {host}" + (f", {before} before or beside it" if before else "")
    return " ".join(found.split())


__all__ = ["waits_for"]
