"""Leaves alone what failed several times in a row, and then lets one caller find out whether it is back."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Record:
    failures: int = 0
    rests_until_s: float = 0.0
    probed: bool = False


class Breaker(Generic[K]):
    """One record per key.

    After ``failures_until_rest`` failures in a row nobody is admitted for ``rest_s`` seconds. Then one caller
    is: if it succeeds all are, if it fails the rest begins anew. Whoever was admitted must call one of
    ``succeeded``, ``failed`` and ``abandoned``.
    """

    def __init__(self, failures_until_rest: int, rest_s: float, clock_s: Callable[[], float]) -> None:
        self._failures_until_rest = failures_until_rest
        self._rest_s = rest_s
        self._clock_s = clock_s
        self._records: dict[K, _Record] = {}

    def refusal(self, key: K) -> str:
        """Why a caller is not admitted now; empty where it is."""
        record = self._records.get(key)
        if record is None or record.failures < self._failures_until_rest:
            return ""
        if self._clock_s() < record.rests_until_s:
            return f"resting after {record.failures} failures in a row"
        return f"being tried again after {record.failures} failures in a row" if record.probed else ""

    def admit(self, key: K) -> None:
        """To be called where ``refusal`` was empty, before anything else runs."""
        record = self._records.get(key)
        if record is not None and record.failures >= self._failures_until_rest:
            record.probed = True

    def succeeded(self, key: K) -> None:
        self._records.pop(key, None)

    def failed(self, key: K) -> None:
        record = self._records.setdefault(key, _Record())
        record.failures += 1
        record.probed = False
        if record.failures >= self._failures_until_rest:
            record.rests_until_s = self._clock_s() + self._rest_s

    def abandoned(self, key: K) -> None:
        """The caller went away: nothing was learned, and the next one may try."""
        record = self._records.get(key)
        if record is not None:
            record.probed = False
