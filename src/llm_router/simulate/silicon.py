"""Compute and memory bandwidth of one box, shared by everything that reads or writes tokens at a time.

Reading a prompt is bound by compute: prompts that are read at a time get an equal share each. Writing an
answer is bound by bandwidth: models that write at a time get an equal share each, and the answers of one
model are written in the same step, so that a second one does not slow the first. The two do not disturb each
other, and neither disturbs a load.

On a box without an accelerator there is one processor for all of it: every prompt that is read, every model
that writes and the load under way get an equal share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from llm_router.simulate.engine import Engine, Timer

Phase = Literal["read", "write", "load"]

_LEAST_TOKENS = 1e-6
"""Less than that is what rounding has left over."""


@dataclass(slots=True, eq=False)
class _Stretch:
    model: str
    phase: Phase
    left_tokens: float
    alone_tokens_per_s: float
    done: Callable[[], None]
    tokens_per_s: float = 0.0


class Silicon:
    """Work goes on at speeds that change with whatever else goes on. ``one_processor`` does all of it."""

    def __init__(self, engine: Engine, *, one_processor: bool = False) -> None:
        self._engine = engine
        self._one_processor = one_processor
        self._active: list[_Stretch] = []
        self._since_s = 0.0
        self._next: Timer | None = None

    def work(
        self, model: str, phase: Phase, tokens: float, alone_tokens_per_s: float, done: Callable[[], None]
    ) -> None:
        """Reads or writes so many tokens and calls ``done``. ``alone_tokens_per_s`` is the whole speed.

        Of a load the tokens are the seconds that it takes alone, at a speed of 1.
        """
        self._catch_up()
        self._active.append(_Stretch(model, phase, tokens, alone_tokens_per_s, done))
        self._share_out()

    def _catch_up(self) -> None:
        elapsed_s = self._engine.now_s - self._since_s
        self._since_s = self._engine.now_s
        for stretch in self._active:
            stretch.left_tokens -= elapsed_s * stretch.tokens_per_s

    def _share_out(self) -> None:
        readers = sum(stretch.phase == "read" for stretch in self._active)
        writers = len({stretch.model for stretch in self._active if stretch.phase == "write"})
        loaders = sum(stretch.phase == "load" for stretch in self._active)
        at_work = {"read": readers, "write": writers, "load": loaders}
        everything = sum(at_work.values())
        next_s = None
        for stretch in self._active:
            shared_by = everything if self._one_processor else at_work[stretch.phase]
            stretch.tokens_per_s = stretch.alone_tokens_per_s / shared_by
            left_s = max(stretch.left_tokens, 0.0) / stretch.tokens_per_s
            next_s = left_s if next_s is None else min(next_s, left_s)
        if self._next is not None:
            self._next.cancel()
        self._next = None if next_s is None else self._engine.after(next_s, self._finished)

    def _finished(self) -> None:
        self._catch_up()
        ended = [s for s in self._active if s.left_tokens <= _LEAST_TOKENS * max(1.0, s.tokens_per_s)]
        self._active = [stretch for stretch in self._active if stretch not in ended]
        self._share_out()
        for stretch in ended:
            stretch.done()
