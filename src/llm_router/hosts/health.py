"""What the router learned from failures: a circuit breaker per model and host, and models a host cannot load.

The clock is handed in, so tests move time instead of waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llm_router.errors import HostTimeout, ModelUnusable, ProviderError
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.names import canonical


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until_s: float = 0.0
    last_problem: str = ""
    last_failure: ProviderError | None = None


@dataclass(frozen=True, slots=True)
class _Stuck:
    until_s: float
    why: str


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
        self._stuck: dict[str, _Stuck] = {}
        self._unusable: dict[tuple[str, str, str], str] = {}
        self.changes = 0
        """Grows with everything that is learned."""

    def succeeded(self, host: str, model: str, *, loaded: bool = False) -> None:
        """An answer came. With ``loaded`` the model was not resident before, so the host's loader works."""
        known = self._circuits.pop((host, canonical(model)), None)
        if loaded and self._stuck.pop(host, None) is not None:
            self.changes += 1
        if known is not None:
            self.changes += 1

    def failed(self, host: str, model: str, error: ProviderError, *, version: str = "") -> None:
        """Remembers a failure: once, however many waited for the load that failed. A model that this version
        of a host cannot load is remembered for good."""
        self.changes += 1
        if isinstance(error, ModelUnusable):
            self._unusable[(host, version, canonical(model))] = error.why or error.what
            return
        if isinstance(error, HostTimeout):
            self._stuck[host] = _Stuck(self._clock_s() + self._rest_s, error.why or error.what)
        if not error.blames_model:
            return
        circuit = self._circuits.setdefault((host, canonical(model)), _Circuit())
        failure = error.repeats or error
        if circuit.last_failure is failure:
            return
        circuit.last_failure = failure
        circuit.failures += 1
        circuit.last_problem = error.what
        if circuit.failures >= self._threshold:
            circuit.open_until_s = self._clock_s() + self._rest_s

    def unhealthy(self, snapshot: HostSnapshot) -> Mapping[str, str]:
        """Models of a host that rest right now, each with what happened.

        Where an answer did not begin in time, the host's loader may hang while everything else stays green;
        then all models that would have to be loaded rest, and resident ones go on.
        """
        now, host = self._clock_s(), snapshot.name
        resting = {
            model: f"failed {circuit.failures} times in a row, last: {circuit.last_problem}"
            for (where, model), circuit in self._circuits.items()
            if where == host and circuit.open_until_s > now
        }
        stuck = self._stuck.get(host)
        if stuck is not None and stuck.until_s > now:
            for name in snapshot.installed:
                if snapshot.find_resident(name) is None:
                    resting.setdefault(canonical(name), f"loads may hang there: {stuck.why}")
        return resting

    def unusable(self, host: str, version: str) -> Mapping[str, str]:
        return {m: why for (where, v, m), why in self._unusable.items() if (where, v) == (host, version)}
