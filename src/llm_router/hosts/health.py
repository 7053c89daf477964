"""What the router learned from failures: a circuit breaker per model and host, and models a host cannot load.

The clock is handed in, so tests move time instead of waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llm_router.errors import ModelUnusable, ProviderError
from llm_router.names import canonical


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until_s: float = 0.0
    last_problem: str = ""


class Health:
    """Counts consecutive failures. After ``threshold`` of them a model rests for ``rest_s`` seconds.

    When the rest is over the next request may try it again: one more failure closes it off anew, one
    success clears it.
    """

    def __init__(self, clock_s: Callable[[], float], *, threshold: int = 3, rest_s: float = 30.0) -> None:
        self._clock_s = clock_s
        self._threshold = threshold
        self._rest_s = rest_s
        self._circuits: dict[tuple[str, str], _Circuit] = {}
        self._unusable: dict[tuple[str, str, str], str] = {}

    def succeeded(self, host: str, model: str) -> None:
        self._circuits.pop((host, canonical(model)), None)

    def failed(self, host: str, model: str, error: ProviderError, *, version: str = "") -> None:
        """Remembers a failure. A model that this version of a host cannot load is remembered for good."""
        if isinstance(error, ModelUnusable):
            self._unusable[(host, version, canonical(model))] = error.why or error.what
            return
        if not error.next_may_help:
            return
        circuit = self._circuits.setdefault((host, canonical(model)), _Circuit())
        circuit.failures += 1
        circuit.last_problem = error.what
        if circuit.failures >= self._threshold:
            circuit.open_until_s = self._clock_s() + self._rest_s

    def unhealthy(self, host: str) -> Mapping[str, str]:
        """Models that rest right now, each with what happened."""
        now = self._clock_s()
        return {
            model: f"failed {circuit.failures} times in a row, last: {circuit.last_problem}"
            for (where, model), circuit in self._circuits.items()
            if where == host and circuit.open_until_s > now
        }

    def unusable(self, host: str, version: str) -> Mapping[str, str]:
        return {m: why for (where, v, m), why in self._unusable.items() if (where, v) == (host, version)}
