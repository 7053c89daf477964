"""When the hosts are looked at although nobody asks. Only the decision: the gateway sleeps and looks."""

from __future__ import annotations

MOST_S = 60.0


class Poller:
    """A look every ``every_s`` while something goes on. While nothing does, each pause is twice the one
    before, up to ``most_s``; the next thing that goes on ends them."""

    def __init__(self, every_s: float, *, most_s: float = MOST_S) -> None:
        self._every_s = every_s
        self._most_s = max(most_s, every_s)
        self._pause_s = every_s
        self._looked_s: float | None = None

    def due(self, *, busy: bool, now_s: float) -> bool:
        """Whether to look now, on a steady clock; a look counts as made where it says so."""
        if busy:
            self._pause_s = self._every_s
        if self._looked_s is not None and now_s - self._looked_s < self._pause_s:
            return False
        self._looked_s = now_s
        if not busy:
            self._pause_s = min(2 * self._pause_s, self._most_s)
        return True
