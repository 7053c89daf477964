"""What the router learned from failures: a circuit breaker per model and host, and models a host cannot load.

The clock is handed in, so tests move time instead of waiting for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llm_router.errors import HostTimeout, ModelUnusable, ProviderError
from llm_router.hosts.rests import HostRests, Rest
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.names import canonical

LONGEST_REST_S = 600.0
"""Whoever tries it again pays for that, a load that hangs with minutes: not more than one in ten minutes."""


@dataclass(slots=True)
class _Pause:
    """When something is tried again: ``rest_s`` after it failed, and twice as long after each further failure
    of such a try, up to ``LONGEST_REST_S``."""

    rest_s: float
    until_s: float = -math.inf
    rests: int = 0

    def begin(self, now_s: float) -> None:
        """What fails while it rests was under way before, and makes the rest begin anew but no longer."""
        if now_s >= self.until_s:
            self.rests += 1
        longest_s = max(self.rest_s, LONGEST_REST_S)
        self.until_s = now_s + min(self.rest_s * 2.0 ** min(self.rests - 1, _DOUBLINGS), longest_s)

    def left_s(self, now_s: float) -> float:
        return max(0.0, self.until_s - now_s)


_DOUBLINGS = 64
"""More of them make no difference, and in the end a number that cannot be written."""


@dataclass(slots=True)
class _Circuit:
    pause: _Pause
    failures: int = 0
    last_problem: str = ""
    last_failure: ProviderError | None = None

    @property
    def why(self) -> str:
        return f"failed {self.failures} times in a row, last: {self.last_problem}"


@dataclass(slots=True)
class _Stuck:
    pause: _Pause
    why: str = ""


class Health:
    """Counts consecutive failures. After ``threshold`` of them a model rests for ``rest_s`` seconds, and all
    loads of a host where one did not come to its end.

    When the rest is over the next request may try it again: one more failure closes it off anew, for twice as
    long as before up to ``LONGEST_REST_S``, one success clears it.
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
        if loaded:
            self.loaded(host)
        if known is not None:
            self.changes += 1

    def loaded(self, host: str) -> None:
        """A model came into memory there, so the loader works."""
        if self._stuck.pop(host, None) is not None:
            self.changes += 1

    def failed(self, host: str, model: str, error: ProviderError, *, version: str = "") -> None:
        """Remembers a failure: once, however many waited for the load that failed. A model that this version
        of a host cannot load is remembered for good."""
        self.changes += 1
        if isinstance(error, ModelUnusable):
            self._unusable[(host, version, canonical(model))] = error.why or error.what
            return
        if isinstance(error, HostTimeout):
            stuck = self._stuck.setdefault(host, _Stuck(_Pause(self._rest_s)))
            stuck.pause.begin(self._clock_s())
            stuck.why = f"loads may hang there: {error.why or error.what}"
        if not error.blames_model:
            return
        circuit = self._circuits.setdefault((host, canonical(model)), _Circuit(_Pause(self._rest_s)))
        failure = error.repeats or error
        if circuit.last_failure is failure:
            return
        circuit.last_failure = failure
        circuit.failures += 1
        circuit.last_problem = error.what
        if circuit.failures >= self._threshold:
            circuit.pause.begin(self._clock_s())

    def unhealthy(self, snapshot: HostSnapshot) -> Mapping[str, str]:
        """Models of a host that rest right now, each with what happened.

        Where an answer did not begin in time, the host's loader may hang while everything else stays green;
        then all models that would have to be loaded rest, and resident ones go on.
        """
        rests = self.rests(snapshot.name)
        resting = {model: rest.why for model, rest in rests.models.items()}
        if rests.loads is not None:
            for name in snapshot.installed:
                if snapshot.find_resident(name) is None:
                    resting.setdefault(canonical(name), rests.loads.why)
        return resting

    def rests(self, host: str) -> HostRests:
        """What rests there right now, and for how long."""
        now_s = self._clock_s()
        stuck = self._stuck.get(host)
        loads = Rest(stuck.why, stuck.pause.left_s(now_s)) if stuck is not None else None
        models = {
            model: Rest(circuit.why, circuit.pause.left_s(now_s))
            for (where, model), circuit in self._circuits.items()
            if where == host
        }
        return HostRests(
            loads if loads is not None and loads.left_s > 0 else None,
            {model: rest for model, rest in models.items() if rest.left_s > 0},
        )

    def unusable(self, host: str, version: str) -> Mapping[str, str]:
        return {m: why for (where, v, m), why in self._unusable.items() if (where, v) == (host, version)}
