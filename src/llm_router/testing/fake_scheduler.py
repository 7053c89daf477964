"""Which models are resident: loads one at a time, evicts and reloads by Ollama's rules, keeps a log."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from llm_router.testing.fake_faults import (
    BUSY_TEXT,
    OOM_LOAD_TEXT,
    UNKNOWN_ARCHITECTURE_TEXT,
    Fault,
    Gate,
    Strike,
)
from llm_router.testing.fake_models import GIB, FakeModel, details, rfc3339
from llm_router.testing.fake_wire import RefusedError, check_options

_DEFAULT_KEEP_ALIVE_S = 300.0
_FOREVER = timedelta(days=292 * 365)
_RESIDENT_LOAD_S = 0.06
_FREE_MEMORY_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the pretended hardware is. Reported durations follow these rates whether or not time passes.

    With `real_time` the server also takes that long; without, it answers at once, so tests need no clock.
    """

    load_s_per_gb: float = 0.33
    prompt_tokens_per_s: float = 1_000.0
    tokens_per_s: float = 50.0
    real_time: bool = False


@dataclass(frozen=True, slots=True)
class FakeSettings:
    """What an operator would set on a real server, and what the machine has."""

    version: str = "0.33.0"
    memory_bytes: int = 120 * GIB
    max_loaded_models: int = 3
    default_num_ctx: int = 4096
    num_parallel: int = 1
    max_queue: int = 512
    call_tools: bool = False
    clock_ahead_s: float = 0.0
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True)
class LoadEvent:
    """One step in a model's residency.

    `reason` is `load` or `reload:<option>` when a load ended well; `evict` (made room for another model),
    `unload` (keep_alive 0), `expire` (keep_alive ran out), `oom` or `died` when it left memory; `abort` when
    the client went away in mid-load. A reload is one event: the old runner's end has none of its own.
    """

    model: str
    num_ctx: int
    reason: str


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """The options that belong to a loaded runner: another value for any of them reloads the model."""

    num_ctx: int
    num_batch: int
    num_gpu: int
    main_gpu: int | None
    use_mmap: bool | None
    num_thread: int
    draft_num_predict: int
    shift: bool


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request asks of the runner it needs."""

    options: RunnerOptions
    num_ctx_is_automatic: bool
    keep_alive_s: float | None


@dataclass(slots=True, eq=False)
class Runner:
    """One loaded model."""

    model: FakeModel
    options: RunnerOptions
    num_ctx_is_automatic: bool
    session_s: float
    slots: asyncio.Semaphore
    size_bytes: int
    in_use: int = 0
    leaving_as: str = "unload"
    expires_at: datetime | None = None
    timer: asyncio.TimerHandle | None = None

    def option_that_differs(self, demand: Demand) -> str | None:
        """The first runner option that forces a reload for this demand; None when none does."""
        for spec in fields(RunnerOptions):
            mine, wanted = getattr(self.options, spec.name), getattr(demand.options, spec.name)
            if spec.name == "num_ctx" and self.num_ctx_is_automatic and demand.num_ctx_is_automatic:
                continue
            if (spec.name == "num_gpu" and wanted < 0) or (spec.name == "use_mmap" and wanted is None):
                continue
            if mine != wanted:
                return spec.name
        return None


@dataclass(frozen=True, slots=True)
class Lease:
    """A runner in use by one request, and how long the request waited for it."""

    runner: Runner
    load_s: float


class Scheduler:
    """The residency of one fake server. Runs on that server's event loop."""

    def __init__(self, settings: FakeSettings, events: list[LoadEvent], changed: Callable[[], None]) -> None:
        self._settings = settings
        self._events = events
        self._changed = changed
        self._loaded: dict[str, Runner] = {}
        self._turn = asyncio.Lock()
        self._pending = 0
        self.most_pending = 0
        self._left = asyncio.Event()
        self._wedge: Gate | None = None
        self.loading: str | None = None

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the loaded models, in the order they were loaded."""
        return tuple(runner.model.name for runner in tuple(self._loaded.values()))

    @property
    def wedged(self) -> bool:
        """Whether every load is stuck."""
        return self._wedge is not None

    def demand(
        self, model: FakeModel, options: dict[str, Any], keep_alive_s: float | None, shift: bool | None
    ) -> Demand:
        """What a request with these options asks of the model's runner.

        Raises:
            RefusedError: 500 for an option of the wrong type.
        """
        check_options(options)
        num_ctx = max(int(options.get("num_ctx") or self._settings.default_num_ctx), 4)
        if model.can("vision"):
            num_ctx = max(num_ctx, 2048)
        num_ctx = min(num_ctx, model.context_length)
        batch_default = min(2048, num_ctx) if model.can("embedding") else 512
        can_shift = model.architecture != "deepseek2" if shift is None else shift
        runner_options = RunnerOptions(
            num_ctx=num_ctx,
            num_batch=int(options.get("num_batch") or batch_default),
            num_gpu=int(options.get("num_gpu", -1)),
            main_gpu=options.get("main_gpu"),
            use_mmap=options.get("use_mmap"),
            num_thread=int(options.get("num_thread") or 0),
            draft_num_predict=int(options.get("draft_num_predict") or 0),
            shift=can_shift,
        )
        return Demand(runner_options, options.get("num_ctx") is None, keep_alive_s)

    @asynccontextmanager
    async def lease(self, model: FakeModel, demand: Demand, strike: Strike) -> AsyncIterator[Lease]:
        """Hold the model's runner, loading it first where needed, for the length of one request.

        Raises:
            RefusedError: what the server answers when the queue is full or the load fails.
        """
        started = time.monotonic()
        runner, pretended_s = await self._runner_for(model, demand, strike)
        try:
            yield Lease(runner, max(time.monotonic() - started, pretended_s))
        finally:
            self._give_back(runner)

    async def _runner_for(self, model: FakeModel, demand: Demand, strike: Strike) -> tuple[Runner, float]:
        runner = self._loaded.get(model.tag)
        if runner is not None and runner.option_that_differs(demand) is None:
            return self._take(runner, demand), _RESIDENT_LOAD_S
        if self._pending > self._settings.max_queue:
            raise RefusedError(503, BUSY_TEXT)
        self._pending += 1
        self.most_pending = max(self.most_pending, self._pending)
        try:
            async with self._turn:
                return await self._make_room_and_load(model, demand, strike)
        finally:
            self._pending -= 1

    async def _make_room_and_load(
        self, model: FakeModel, demand: Demand, strike: Strike
    ) -> tuple[Runner, float]:
        await self._wait_while_wedged(strike)
        reason = "load"
        while True:
            runner = self._loaded.get(model.tag)
            if runner is not None:
                differs = runner.option_that_differs(demand)
                if differs is None:
                    return self._take(runner, demand), _RESIDENT_LOAD_S
                reason = f"reload:{differs}"
                await self._expire_and_wait(runner, "reload")
            elif self._loaded and (self._is_full() or not self._fits(model, demand)):
                await self._expire_and_wait(self._victim(), "evict")
            else:
                return await self._load(model, demand, reason, strike)

    async def _wait_while_wedged(self, strike: Strike) -> None:
        scripted = strike(Fault.WEDGED)
        if scripted is not None and self._wedge is None:
            self._wedge = scripted.gate
        if self._wedge is not None:
            self._changed()
            await self._wedge.wait(None)
            self._wedge = None

    def _is_full(self) -> bool:
        return len(self._loaded) >= self._settings.max_loaded_models

    def _fits(self, model: FakeModel, demand: Demand) -> bool:
        num_ctx = demand.options.num_ctx
        surcharge = 0 if num_ctx <= 4096 else 2 * GIB if num_ctx > 32_768 else 3 * GIB // 4
        used = sum(runner.size_bytes for runner in self._loaded.values())
        free = self._settings.memory_bytes - used
        return self._size(model, num_ctx) + surcharge <= free * _FREE_MEMORY_SHARE

    def _size(self, model: FakeModel, num_ctx: int) -> int:
        return model.size_bytes + model.kv_bytes(num_ctx, self._settings.num_parallel)

    def _victim(self) -> Runner:
        def rank(runner: Runner) -> tuple[bool, float, str]:
            return (runner.in_use > 0, runner.session_s, runner.model.tag)

        return min(self._loaded.values(), key=rank)

    async def _load(
        self, model: FakeModel, demand: Demand, reason: str, strike: Strike
    ) -> tuple[Runner, float]:
        num_ctx = demand.options.num_ctx
        self._refuse_what_cannot_run(model, strike)
        if model.size_bytes > self._settings.memory_bytes or strike(Fault.OOM):
            await self._leave_all("evict")
            raise RefusedError(500, OOM_LOAD_TEXT.format(mib=self._size(model, num_ctx) / (1 << 20)))
        pretended_s = model.size_bytes / 1e9 * self._settings.pace.load_s_per_gb
        self.loading = model.name
        self._changed()
        try:
            held = strike(Fault.SLOW_LOAD)
            if held is not None:
                await held.gate.wait(held.seconds)
            await asyncio.sleep(pretended_s if self._settings.pace.real_time else 0)
        except asyncio.CancelledError:
            self._record(model, num_ctx, "abort")
            raise
        finally:
            self.loading = None
        runner = Runner(
            model=model,
            options=demand.options,
            num_ctx_is_automatic=demand.num_ctx_is_automatic,
            session_s=_DEFAULT_KEEP_ALIVE_S,
            slots=asyncio.Semaphore(self._settings.num_parallel if model.can("completion") else 1),
            size_bytes=min(self._size(model, num_ctx), self._settings.memory_bytes),
        )
        self._loaded[model.tag] = runner
        self._record(model, num_ctx, reason)
        return self._take(runner, demand), pretended_s

    def _refuse_what_cannot_run(self, model: FakeModel, strike: Strike) -> None:
        numbers = [int(part) for part in self._settings.version.split("-")[0].split(".")[:2]]
        dropped = model.architecture == "mllama" and numbers >= [0, 30]
        if dropped or strike(Fault.UNKNOWN_ARCHITECTURE):
            raise RefusedError(500, UNKNOWN_ARCHITECTURE_TEXT.format(architecture=model.architecture))

    def _take(self, runner: Runner, demand: Demand) -> Runner:
        runner.in_use += 1
        self._stop_timer(runner)
        if demand.keep_alive_s is not None:
            # This also un-marks a runner that is on its way out: the scheduler then waits for an unload that
            # may never come. Ollama 0.33 does exactly this, and a router has to cope with it.
            runner.session_s = demand.keep_alive_s
        return runner

    def _give_back(self, runner: Runner) -> None:
        runner.in_use -= 1
        if runner.in_use > 0 or self._loaded.get(runner.model.tag) is not runner:
            return
        if runner.session_s <= 0:
            self._leave(runner, runner.leaving_as)
            return
        runner.leaving_as = "unload"
        runner.expires_at = self._expiry(runner)
        if not math.isinf(runner.session_s):
            loop = asyncio.get_running_loop()
            runner.timer = loop.call_later(runner.session_s, self._leave, runner, "expire")

    def _expiry(self, runner: Runner) -> datetime:
        stay = _FOREVER if math.isinf(runner.session_s) else timedelta(seconds=runner.session_s)
        return datetime.now(UTC) + timedelta(seconds=self._settings.clock_ahead_s) + stay

    async def _expire_and_wait(self, runner: Runner, why: str) -> None:
        self._left.clear()
        self._expire(runner, why)
        if self._loaded.get(runner.model.tag) is runner:
            await self._left.wait()

    def _expire(self, runner: Runner, why: str) -> None:
        self._stop_timer(runner)
        runner.session_s = 0.0
        runner.leaving_as = why
        if runner.in_use == 0:
            self._leave(runner, why)

    async def _leave_all(self, why: str) -> None:
        for runner in tuple(self._loaded.values()):
            await self._expire_and_wait(runner, why)

    def _leave(self, runner: Runner, why: str) -> None:
        if self._loaded.get(runner.model.tag) is not runner:
            return
        self._stop_timer(runner)
        del self._loaded[runner.model.tag]
        self._left.set()
        if why != "reload":
            self._record(runner.model, runner.options.num_ctx, why)

    def _stop_timer(self, runner: Runner) -> None:
        if runner.timer is not None:
            runner.timer.cancel()
            runner.timer = None

    def _record(self, model: FakeModel, num_ctx: int, reason: str) -> None:
        self._events.append(LoadEvent(model.name, num_ctx, reason))
        self._changed()

    def unload(self, model: FakeModel) -> None:
        """Let the model go as soon as nobody uses it (keep_alive 0 with nothing to answer)."""
        runner = self._loaded.get(model.tag)
        if runner is not None:
            self._expire(runner, "unload")

    def died(self, model: FakeModel) -> None:
        """Forget the model's runner at once: its process is gone."""
        runner = self._loaded.get(model.tag)
        if runner is not None:
            self._leave(runner, "died")

    def out_of_memory(self) -> None:
        """Let every model go once it is idle, as the server does after an allocation failed in mid-answer."""
        for runner in tuple(self._loaded.values()):
            self._expire(runner, "oom")

    def close(self) -> None:
        """Stop every timer."""
        for runner in self._loaded.values():
            self._stop_timer(runner)

    def ps_body(self) -> dict[str, Any]:
        """The answer of GET /api/ps: the longest stay first. A model that is still loading is not listed."""
        now_and_stay = [(runner, self._stay_of(runner)) for runner in self._loaded.values()]
        ordered = sorted(now_and_stay, key=lambda pair: int(pair[1].timestamp()), reverse=True)
        return {"models": [_ps_entry(runner, expires_at) for runner, expires_at in ordered]}

    def _stay_of(self, runner: Runner) -> datetime:
        return self._expiry(runner) if runner.expires_at is None else runner.expires_at


def _ps_entry(runner: Runner, expires_at: datetime) -> dict[str, Any]:
    return {
        "name": runner.model.tag,
        "model": runner.model.tag,
        "size": runner.size_bytes,
        "digest": runner.model.digest,
        "details": details(runner.model),
        "expires_at": rfc3339(expires_at),
        "size_vram": runner.size_bytes,
        "context_length": runner.options.num_ctx,
    }
