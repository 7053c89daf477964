"""One box with Ollama on it: its scheduler rule by rule, and what loading, reading and writing take.

The rules are those of Ollama's ``server/sched.go`` (0.33), numbered as in docs/concepts/simulation.md:

1. A request for a loaded model goes straight to its runner, past the queue, and waits there for a free slot.
2. Every other request waits in one queue; one loader serves it in order and loads one model at a time.
3. As many models loaded as may be: one is evicted. Else the model must be predicted to need no more than
   80 % of the free memory; where it does not, one is evicted and the question is asked again.
4. The victim is an idle model with the shortest keep-alive, then the first by name; where none is idle, the
   one with the shortest keep-alive, and the loader waits until some model has left.
5. Into an empty box any model is loaded.
6. Memory is free as soon as a model has left.
7. The time to keep a model begins anew whenever its last request has ended; an own one in a request stays.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from llm_router.fleet.fleet import Fleet
from llm_router.fleet.schema import Model
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel, ResidentModel
from llm_router.policy.estimates import Speed, speed_of
from llm_router.simulate.engine import Engine, Timer
from llm_router.simulate.silicon import Silicon

FREE_MEMORY_SHARE = 0.8
_GIB = 1.073741824
_BATCHES = ((32_768, 0.60, 2.0 * _GIB), (4_096, 0.75, 0.75 * _GIB))
"""Beyond so much context Ollama reads prompts in larger steps, where the model takes no more than that share
of the free memory; it costs so many GB."""


@dataclass(frozen=True, slots=True)
class BoxSettings:
    """The box, and what its operator has set. The defaults are Ollama's own, with one GPU.

    ``max_loaded`` is OLLAMA_MAX_LOADED_MODELS, ``num_parallel`` OLLAMA_NUM_PARALLEL, ``keep_alive_s``
    OLLAMA_KEEP_ALIVE; infinity keeps for ever. ``one_processor`` is a box without an accelerator, on which
    reading, writing and loading take from each other.
    """

    memory_gb: float
    max_loaded: int = 3
    num_parallel: int = 1
    keep_alive_s: float = 300.0
    one_processor: bool = False
    version: str = "0.33.0"


@dataclass(frozen=True, slots=True)
class Work:
    """One request as the box sees it. A request without anything to read only loads its model.

    ``thinking_tokens`` are written before the ``output_tokens`` and are no part of the next turn's prompt.
    ``keep_alive_s`` None leaves the model's time to be kept as it is.
    """

    model: str
    prompt_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    conversation: str = ""
    keep_alive_s: float | None = None
    on_first: Callable[[], None] | None = None
    on_done: Callable[[], None] | None = None


What = Literal["load", "loaded", "evict", "unload", "expire"]


@dataclass(frozen=True, slots=True)
class Event:
    """A step in a model's residency. ``unload`` was asked for, ``evict`` made room, ``expire`` ran out."""

    at_s: float
    what: What
    model: str


@dataclass(slots=True)
class _Slot:
    """A place for one request in a runner; it remembers what was read last, so that a next turn need not."""

    conversation: str = ""
    tokens: int = 0
    used_at_s: float = -1.0
    busy: bool = False


@dataclass(slots=True, eq=False)
class _Runner:
    model: str
    memory_gb: float
    session_s: float
    slots: list[_Slot]
    waiting: deque[Work] = field(default_factory=deque)
    refs: int = 0
    timer: Timer | None = None
    expires_at_s: float | None = None
    leaves_as: What = "unload"


class OllamaBox:
    """Memory is in GB, time in virtual seconds of the engine.

    ``loads``, ``loaded_gb`` and ``gb_s`` (memory filled, integrated over time) add up; ``events`` has every
    step. ``changed`` may be set: it is called whenever a model has come or gone.
    """

    def __init__(self, engine: Engine, fleet: Fleet, settings: BoxSettings, name: str = "box") -> None:
        self.name = name
        self.settings = settings
        self.events: list[Event] = []
        self.loads = 0
        self.loaded_gb = 0.0
        self.changed: Callable[[], None] = lambda: None
        self._engine = engine
        self._fleet = fleet
        self._silicon = Silicon(engine, one_processor=settings.one_processor)
        self._runners: dict[str, _Runner] = {}
        self._queue: deque[Work] = deque()
        self._loading: _Runner | None = None
        self._waits_for_exit = False
        self._advancing = False
        self._gb_s = 0.0
        self._counted_until_s = 0.0
        self._speeds: dict[str, Speed] = {}
        self._snapshot: HostSnapshot | None = None
        self._installed = {
            tag: InstalledModel(tag, size_bytes=round(model.file_gb * 1e9))
            for tag, model in fleet.models.items()
        }

    # ── what a client can ask for ────────────────────────────────────────────────────────────────────

    def submit(self, work: Work) -> None:
        """A request. ``on_first`` is called with its first token, ``on_done`` with its last."""
        runner = self._runners.get(work.model)
        if runner is not None:
            self._use(runner, work)
        else:
            self._queue.append(work)
            self._advance()

    def preload(
        self, model: str, keep_alive_s: float | None = None, on_done: Callable[[], None] | None = None
    ) -> None:
        """A request without a prompt: it waits for its turn at the loader like any other."""
        self.submit(Work(model, keep_alive_s=keep_alive_s, on_done=on_done))

    def unload(self, model: str) -> None:
        """A request without a prompt and with ``keep_alive`` 0: the model leaves as soon as it is idle."""
        runner = self._runners.get(model)
        if runner is not None:
            self._expire(runner, "unload")

    # ── what can be seen ─────────────────────────────────────────────────────────────────────────────

    @property
    def resident(self) -> tuple[str, ...]:
        """Loaded models, the first to be loaded first."""
        return tuple(self._runners)

    def has(self, model: str) -> bool:
        """Whether it is loaded."""
        return model in self._runners

    @property
    def loading(self) -> str | None:
        return self._loading.model if self._loading is not None else None

    @property
    def queued(self) -> int:
        """Requests that wait for a load; the one that is being loaded for is not counted."""
        return len(self._queue)

    def in_use(self, model: str) -> int:
        """Requests that the model has, in a slot or waiting for one."""
        runner = self._runners.get(model)
        return runner.refs if runner is not None else 0

    @property
    def used_gb(self) -> float:
        loading = self._loading.memory_gb if self._loading is not None else 0.0
        return loading + sum(runner.memory_gb for runner in self._runners.values())

    @property
    def free_gb(self) -> float:
        return max(self.settings.memory_gb - self.used_gb, 0.0)

    @property
    def gb_s(self) -> float:
        """Memory filled until now, in GB times seconds."""
        return self._gb_s + self.used_gb * (self._engine.now_s - self._counted_until_s)

    def needs_gb(self, model: str) -> float:
        """What Ollama predicts of it: the file, and the KV cache of every slot."""
        return self._fleet.model(model).memory_gb_for(self.settings.num_parallel)

    def fits_beside(self, model: str, used_gb: float) -> bool:
        """Whether Ollama would load it without evicting, beside so much that is loaded already."""
        return used_gb <= 0 or self.needs_gb(model) <= FREE_MEMORY_SHARE * (self.settings.memory_gb - used_gb)

    def memory_of(self, model: str) -> float:
        """GB that a loaded model fills; 0 where it is not loaded."""
        runner = self._runners.get(model)
        return runner.memory_gb if runner is not None else 0.0

    def speed(self, model: str) -> Speed:
        speed = self._speeds.get(model)
        if speed is None:
            speed = self._speeds[model] = speed_of(self._fleet.model(model), self._fleet.machine)
        return speed

    def snapshot(self) -> HostSnapshot:
        """What ``/api/ps`` and ``/api/tags`` would tell; one value as long as no model comes or goes."""
        if self._snapshot is None:
            self._snapshot = HostSnapshot(
                name=self.name,
                kind="ollama",
                url="http://box",
                reachable=True,
                version=self.settings.version,
                installed=self._installed,
                resident={tag: self._resident(runner) for tag, runner in self._runners.items()},
                usable_memory_gb=self.settings.memory_gb,
                parallel=self.settings.num_parallel,
                taken_at_s=self._engine.now_s,
            )
        return self._snapshot

    def _resident(self, runner: _Runner) -> ResidentModel:
        filled = round(runner.memory_gb * 1e9)
        num_ctx = self._fleet.model(runner.model).planned_num_ctx
        return ResidentModel(runner.model, filled, filled, num_ctx)

    # ── the scheduler ────────────────────────────────────────────────────────────────────────────────

    def _advance(self) -> None:
        """The loader goes on with its queue until it loads, waits for a model to leave, or is done."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._queue and self._loading is None and not self._waits_for_exit:
                self._serve(self._queue[0])
        finally:
            self._advancing = False

    def _serve(self, work: Work) -> None:
        runner = self._runners.get(work.model)
        if runner is not None:
            self._queue.popleft()
            self._use(runner, work)
        elif self._has_room(work.model):
            self._queue.popleft()
            self._load(work)
        else:
            victim = self._victim()
            self._waits_for_exit = victim.refs > 0
            self._expire(victim, "evict")

    def _has_room(self, model: str) -> bool:
        most = self.settings.max_loaded
        return not (most and len(self._runners) >= most) and self.fits_beside(model, self.used_gb)

    def _victim(self) -> _Runner:
        """Idle ones first, then the shortest keep-alive, then the name."""
        return min(
            self._runners.values(), key=lambda runner: (runner.refs > 0, runner.session_s, runner.model)
        )

    def _load(self, work: Work) -> None:
        facts = self._fleet.model(work.model)
        self._count_memory()
        self._loading = _Runner(
            work.model,
            self._filled_gb(facts, self.needs_gb(work.model)),
            self.settings.keep_alive_s if work.keep_alive_s is None else work.keep_alive_s,
            [_Slot() for _ in range(self._slots_of(facts))],
        )
        self.loads += 1
        self.loaded_gb += facts.file_gb
        self._tell("load", work.model)
        load_s = self.speed(work.model).load_s
        if self.settings.one_processor:
            self._silicon.work(work.model, "load", load_s, 1.0, lambda: self._loaded(work))
        else:
            self._engine.after(load_s, lambda: self._loaded(work))

    def _loaded(self, work: Work) -> None:
        runner, self._loading = self._loading, None
        if runner is None:
            raise AssertionError("a load has ended that was not begun")
        self._runners[work.model] = runner
        self._tell("loaded", work.model)
        self._use(runner, work)
        self._advance()
        self.changed()

    def _expire(self, runner: _Runner, why: What) -> None:
        """Its time is over: it leaves now where it is idle, else with the end of its last request."""
        runner.session_s = 0.0
        runner.leaves_as = why
        self._stop_timer(runner)
        if runner.refs == 0:
            self._leave(runner, why)

    def _leave(self, runner: _Runner, why: What) -> None:
        self._count_memory()
        del self._runners[runner.model]
        self._stop_timer(runner)
        self._tell(why, runner.model)
        self._waits_for_exit = False
        self._advance()
        self.changed()

    # ── a runner ─────────────────────────────────────────────────────────────────────────────────────

    def _use(self, runner: _Runner, work: Work) -> None:
        runner.refs += 1
        self._stop_timer(runner)
        if work.keep_alive_s is not None:
            runner.session_s = work.keep_alive_s
        if not work.prompt_tokens:
            self._ended(runner, work)
        elif all(slot.busy for slot in runner.slots):
            runner.waiting.append(work)
        else:
            self._read(runner, work)

    def _read(self, runner: _Runner, work: Work) -> None:
        free = [slot for slot in runner.slots if not slot.busy]
        slot = next((s for s in free if s.conversation and s.conversation == work.conversation), None)
        known = min(slot.tokens, work.prompt_tokens - 1) if slot is not None else 0
        if slot is None:
            slot = min(free, key=lambda s: s.used_at_s)
        slot.busy, slot.conversation = True, work.conversation
        self._silicon.work(
            runner.model,
            "read",
            work.prompt_tokens - known,
            self.speed(runner.model).prefill_tokens_per_s,
            lambda: self._has_read(runner, work, slot),
        )

    def _has_read(self, runner: _Runner, work: Work, slot: _Slot) -> None:
        to_write = work.thinking_tokens + work.output_tokens
        if to_write:
            self._silicon.work(
                runner.model,
                "write",
                to_write,
                self.speed(runner.model).decode_tokens_per_s,
                lambda: self._has_written(runner, work, slot),
            )
        if work.on_first is not None:
            work.on_first()
        if not to_write:
            self._has_written(runner, work, slot)

    def _has_written(self, runner: _Runner, work: Work, slot: _Slot) -> None:
        slot.busy, slot.used_at_s = False, self._engine.now_s
        slot.tokens = work.prompt_tokens + (0 if work.thinking_tokens else work.output_tokens)
        if runner.waiting:
            self._read(runner, runner.waiting.popleft())
        self._ended(runner, work)

    def _ended(self, runner: _Runner, work: Work) -> None:
        runner.refs -= 1
        if runner.refs == 0:
            if runner.session_s <= 0:
                self._leave(runner, runner.leaves_as)
            elif runner.session_s < math.inf:
                runner.expires_at_s = self._engine.now_s + runner.session_s
                runner.timer = self._engine.at(runner.expires_at_s, lambda: self._expire(runner, "expire"))
        if work.on_done is not None:
            work.on_done()

    def _stop_timer(self, runner: _Runner) -> None:
        if runner.timer is not None:
            runner.timer.cancel()
        runner.timer = runner.expires_at_s = None

    # ── arithmetic ───────────────────────────────────────────────────────────────────────────────────

    def _slots_of(self, facts: Model) -> int:
        return facts.places(self.settings.num_parallel)

    def _filled_gb(self, facts: Model, needs_gb: float) -> float:
        """With the larger steps for reading, where they leave it under its share of the free memory."""
        if "completion" not in facts.capabilities:
            return needs_gb
        room_gb = FREE_MEMORY_SHARE * self.free_gb - needs_gb
        for beyond_tokens, share, takes_gb in _BATCHES:
            fits = needs_gb <= share * self.free_gb and takes_gb <= room_gb
            if facts.planned_num_ctx > beyond_tokens and fits:
                return needs_gb + takes_gb
        return needs_gb

    def _count_memory(self) -> None:
        self._gb_s = self.gb_s
        self._counted_until_s = self._engine.now_s

    def _tell(self, what: What, model: str) -> None:
        self._snapshot = None
        self.events.append(Event(self._engine.now_s, what, model))
