"""This router in the simulation: the very ``decide`` and the very ``Desk`` that serve requests."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from llm_router.hosts.desk import Desk, Load, Start, Ticket, Unload
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.names import canonical
from llm_router.policy import World, decide
from llm_router.policy.waits import Moment, Place
from llm_router.simulate.play import Case, Outcome, Stage, classification, play
from llm_router.simulate.traces import Task, as_request


class Ours:
    """Decides by what is resident, what waits and what is in demand; owns what is loaded and unloaded.

    ``kept`` are models that nothing evicts, beside those that the fleet reserves; ``pinned`` too, and their
    room is left for them before they are loaded. ``max_loaded`` is how many models the box holds at a time,
    None for as many as fit.
    """

    def __init__(
        self,
        kept: frozenset[str] = frozenset(),
        pinned: frozenset[str] = frozenset(),
        max_loaded: int | None = None,
    ) -> None:
        self._kept = kept | pinned
        self._pinned = pinned
        self._max_loaded = max_loaded

    def start(self, stage: Stage) -> None:
        self.stage = stage
        fleet, box = stage.case.fleet, stage.box
        kept = {canonical(tag) for tag in (*fleet.reserved, *self._kept)}
        self._tags = {canonical(tag): tag for tag in fleet.models}
        self._desk = Desk(
            box.settings.memory_gb,
            kept=frozenset(kept),
            parallel=box.settings.num_parallel,
            load_gb_per_s=fleet.machine.load_gb_per_s,
            load_overhead_s=fleet.machine.load_overhead_s,
            max_models=self._max_loaded,
        )
        self._desk.owed_gb = {canonical(tag): box.needs_gb(tag) for tag in self._pinned}
        self._tasks: dict[int, tuple[Task, str, float]] = {}
        self._numbers: dict[int, int] = {}
        self._before: dict[str, Place] = {}
        self._worlds: tuple[HostSnapshot, World] | None = None
        self._leaving: set[str] = set()
        box.changed = self._changed

    def arrived(self, task: Task) -> None:
        stage, now_s = self.stage, self.stage.now_s
        moment = Moment({stage.box.name: self._desk.load(now_s)}, self._before.get(task.conversation))
        decision = decide(
            as_request(task, stage.case.fleet), classification(task.category), self._world(), moment
        )
        answer = decision.chain[0]
        ticket = Ticket(
            len(self._tasks),
            canonical(answer.model),
            stage.box.needs_gb(answer.model),
            stage.box.speed(answer.model).load_s,
            answer.estimate.answering_s,
        )
        self._tasks[ticket.number] = task, answer.model, answer.quality
        self._numbers[id(task)] = ticket.number
        if task.conversation:
            self._before[task.conversation] = Place(answer.model, answer.host)
        self._desk.enter(ticket, now_s)
        self._act()

    def answered(self, task: Task, model: str) -> None:
        self._desk.ended(self._numbers.pop(id(task)))
        self._act()

    def _act(self) -> None:
        for action in self._desk.next(self.stage.now_s):
            match action:
                case Start(ticket):
                    task, model, quality = self._tasks[ticket.number]
                    self.stage.send(task, model, quality, self)
                case Unload(model):
                    self._leaving.add(model)
                    self.stage.box.unload(self._tags[model])
                case Load(model):
                    self.stage.box.preload(self._tags[model], math.inf, self._loaded(model))

    def _loaded(self, model: str) -> Callable[[], None]:
        def done() -> None:
            self._desk.loaded(model)
            self._look()  # it may fill more than was planned for it, and the next load is begun at once
            self._act()

        return done

    def _look(self) -> dict[str, float]:
        box = self.stage.box
        resident = {canonical(tag): box.memory_of(tag) for tag in box.resident}
        self._desk.seen(resident)
        return resident

    def _changed(self) -> None:
        resident = self._look()
        for model in [model for model in self._leaving if model not in resident]:
            self._leaving.discard(model)
            self._desk.unloaded(model)
        self._act()

    def _world(self) -> World:
        snapshot = self.stage.box.snapshot()
        if self._worlds is None or self._worlds[0] is not snapshot:
            case = self.stage.case
            self._worlds = snapshot, World(case.fleet, (snapshot,), settings=case.policy)
        return self._worlds[1]


def ours(case: Case) -> Outcome:
    """On a box that leaves everything to the router: nothing expires, as many models as fit."""
    return play(case, Ours(), replace(case.box, max_loaded=0, keep_alive_s=math.inf))


__all__ = ["Ours", "ours"]
