"""Carries out over HTTP what a ``Desk`` decides: who may ask now, what is loaded, what leaves the memory.

    seat = await residency.seat(candidate)     # waits for a load where one is needed
    try: …ask the model…
    finally: seat.leave()

A load belongs to nobody: who stops waiting does not end it for the others. Where nobody waits any more, it is
given up. One that takes far longer than its size explains counts as hung, and all who wait for it go on with
their next model.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from llm_router.decision import Candidate
from llm_router.errors import HostBusy, HostTimeout, HostUnreachable, ProviderError, RunnerFailed
from llm_router.fleet.schema import Machine
from llm_router.hosts.desk import Desk, Load, Start, Ticket, Unload
from llm_router.hosts.load import HostLoad
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.hosts.snapshot import HostSnapshot, ResidentModel
from llm_router.hosts.speeds import LEAST_LOAD_S, NOT_MEASURED, Measured
from llm_router.names import canonical
from llm_router.request import Json

HUNG_GB_PER_S = 0.3
HUNG_OVERHEAD_S = 30.0
"""A load slower than that does not come to an end; the slowest disks seen read 1 GB in a second."""

_LARGE_SHARE = 1 / 3
_FIRST_LOOK_S, _LAST_LOOK_S = 0.02, 0.5
_FOREVER = -1
_OTHER_CLOCK = timedelta(seconds=60)
"""So far a host's clock may be from this machine's, when its times are compared."""


class Loader(Protocol):
    """What is asked of a host whose memory is managed."""

    name: str

    async def preload(self, model: str, *, num_ctx: int | None, keep_alive: Json) -> float | None: ...

    async def resident(self) -> Sequence[ResidentModel]: ...


class Seat:
    """The place of one request at a host; ``leave`` it whatever happened."""

    __slots__ = ("_future", "_here", "_loop", "_number", "load_s", "measured")

    def __init__(self, here: _Host | None = None, number: int = 0) -> None:
        self._here = here
        self._number = number
        self.load_s = 0.0
        """Seconds of a load that this request waited for."""
        self.measured = NOT_MEASURED
        """The same where it tells how fast the model loads; of many who waited for one load, one has it."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._future: asyncio.Future[None] | None = None

    def leave(self) -> None:
        here, self._here = self._here, None
        if here is not None:
            here.left(self._number)

    def prepare(self) -> None:
        """Before anybody can tell it anything."""
        self._loop = asyncio.get_running_loop()
        self._future = self._loop.create_future()

    @property
    def waits(self) -> bool:
        return self._future is not None and not self._future.done()

    async def wait(self) -> None:
        """Until the model may be asked. Raises the ProviderError of a load that failed; whoever does not wait
        to the end has left."""
        if self._future is not None:
            try:
                await self._future
            except BaseException:
                self.leave()
                raise

    def tell(self, error: ProviderError | None = None) -> None:
        """From any thread: it may ask now, or its load has failed."""
        loop, future = self._loop, self._future
        if loop is None or future is None:
            return

        def settle() -> None:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is loop:
            settle()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(settle)


NO_SEAT = Seat()
"""At hosts whose memory is nobody's business here."""


class Residency:
    """One desk for each host that can be told to load and unload.

    ``machine`` has the memory and the speed of loads that count where a host tells and shows no other.
    ``kept_gb`` are the models that are never told to leave, with the memory that they take: where a host has
    them it is left for them. ``changed`` is called with a host's name whenever
    something was loaded or unloaded there, ``measured`` with a host, a model and what a load told of its
    speed. ``clock_s`` is a steady clock.
    """

    def __init__(
        self,
        loaders: Iterable[Loader],
        settings: ResidencySettings,
        *,
        machine: Machine,
        kept_gb: Mapping[str, float],
        clock_s: Callable[[], float],
        changed: Callable[[str], None],
        measured: Callable[[str, str, Measured], None],
    ) -> None:
        self._clock_s = clock_s

        def desk() -> Desk:
            return Desk(
                machine.usable_memory_gb,
                kept=frozenset(map(canonical, kept_gb)),
                parallel=settings.parallel,
                load_gb_per_s=machine.load_gb_per_s,
                load_overhead_s=machine.load_overhead_s,
                max_models=settings.max_loaded,
            )

        self._hosts = {
            loader.name: _Host(loader, desk(), settings, clock_s, changed, kept_gb=kept_gb, measured=measured)
            for loader in loaders
        }

    def seen(self, snapshots: Iterable[HostSnapshot], looked_s: Mapping[str, float]) -> None:
        """What was found at the hosts, and when each look began on the clock: older news count nothing."""
        for snapshot in snapshots:
            here = self._hosts.get(snapshot.name)
            if here is not None and snapshot.reachable:
                here.seen(snapshot, looked_s.get(snapshot.name, 0.0))

    def loads(self) -> Mapping[str, HostLoad]:
        """What goes on at each host."""
        now_s = self._clock_s()
        return {name: here.load(now_s) for name, here in self._hosts.items()}

    async def seat(self, candidate: Candidate) -> Seat:
        """Waits until the candidate may be asked. Raises a ProviderError where its load fails, or HostBusy
        where too many wait."""
        seat = self.enter(candidate)
        await seat.wait()
        return seat

    def enter(self, candidate: Candidate) -> Seat:
        """The same for a caller that waits for its seat itself, where it has to."""
        here = self._hosts.get(candidate.host)
        return NO_SEAT if here is None or candidate.remote else here.enter(candidate)

    async def unload(self, host: str, served_as: str) -> bool:
        """Has a model leave the memory as soon as it is idle; who comes for it meanwhile waits until it is
        loaded again. Waits for that as long as for any unload. False where the host is not managed here."""
        here = self._hosts.get(host)
        if here is None:
            return False
        await here.unload(served_as)
        return True

    def keeps(self, host: str, served_as: str) -> bool:
        """Whether the host is managed here and the model never leaves it."""
        here = self._hosts.get(host)
        return here is not None and here.keeps(served_as)

    async def close(self) -> None:
        """Gives up what is being loaded from here. Who waits for a load, or comes later, gets
        HostUnreachable."""
        for here in self._hosts.values():
            await here.close()


class _Host:
    """One host: its desk, and the tasks that carry out what the desk says."""

    def __init__(
        self,
        loader: Loader,
        desk: Desk,
        settings: ResidencySettings,
        clock_s: Callable[[], float],
        changed: Callable[[str], None],
        *,
        kept_gb: Mapping[str, float],
        measured: Callable[[str, str, Measured], None],
    ) -> None:
        self._kept_gb = kept_gb
        self._loader = loader
        self._desk = desk
        self._settings = settings
        self._clock_s = clock_s
        self._changed = changed
        self._measured = measured
        self._changed_s = -1.0
        self._seats: dict[int, Seat] = {}
        self._numbers = itertools.count(1)
        self._served: dict[str, str] = {}
        self._contexts: dict[str, int | None] = {}
        self._given: dict[str, tuple[int | None, int | None]] = {}
        """The context that a load asked for, and the one it got."""
        self._listed: dict[str, ResidentModel] = {}
        """What the host last said is in its memory."""
        self._told_to_stay: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._load_task: tuple[str, asyncio.Task[None]] | None = None
        self._lock = threading.RLock()
        self._closed = False

    def seen(self, snapshot: HostSnapshot, looked_s: float) -> None:
        with self._lock:
            self._desk.speeds = snapshot.speeds
            self._desk.kept = frozenset(canonical(snapshot.served_as(tag)) for tag in self._kept_gb)
            self._desk.owed_gb = {
                canonical(snapshot.served_as(tag)): gb
                for tag, gb in self._kept_gb.items()
                if snapshot.find_installed(tag) is not None
            }
            if looked_s < self._changed_s:
                return
            self._take(snapshot.resident.values())
            if snapshot.usable_memory_gb is not None:
                self._desk.usable_gb = snapshot.usable_memory_gb
            if not self._listed and self._load_task is None and not self._desk.leaving:
                self._desk.forget_most()
            self._have_kept_stay()

    def _take(self, models: Iterable[ResidentModel], just_loaded: str | None = None) -> None:
        """What has just been loaded is there, whatever the list says: it may call it by the name of another
        model with the same weights, or have given it another context than asked for. Else it would be loaded
        again without an end."""
        self._listed = resident = {canonical(model.name): model for model in models}
        filled_gb = {name: model.size_gb for name, model in resident.items()}
        if just_loaded is not None:
            filled_gb.setdefault(just_loaded, self._desk.resident_gb[just_loaded])
            given = resident[just_loaded].context_length if just_loaded in resident else None
            self._given[just_loaded] = self._contexts.get(just_loaded), given
        self._desk.seen(filled_gb, self._stale())

    def _stale(self) -> frozenset[str]:
        return frozenset(name for name, model in self._listed.items() if not self._as_planned(name, model))

    def _as_planned(self, name: str, model: ResidentModel) -> bool:
        planned = self._contexts.get(name)
        if planned is None or model.context_length in (None, 0, planned):
            return True
        return self._given.get(name) == (planned, model.context_length)

    def _have_kept_stay(self) -> None:
        """Another program that loaded a model which is kept has given it an end: it is told once to stay.

        Never while something is loaded or leaves, for then a ``keep_alive`` can block all loads for good; and
        only with the context that is planned, for with another one it is loaded anew anyway.
        """
        self._told_to_stay &= {name for name, model in self._listed.items() if not model.for_ever}
        if self._closed or not _loop_runs() or self._load_task is not None or self._desk.leaving:
            return
        for name, model in self._listed.items():
            short = bool(model.expires_at) and not model.for_ever
            ours = name in self._desk.kept and name in self._contexts and self._as_planned(name, model)
            if short and ours and name not in self._told_to_stay:
                self._told_to_stay.add(name)
                self._begin(self._stay(name, model.context_length or self._contexts[name]))

    async def _stay(self, model: str, num_ctx: int | None) -> None:
        with suppress(TimeoutError, ProviderError):
            async with asyncio.timeout(self._settings.unload_s):
                await self._loader.preload(
                    self._served.get(model, model), num_ctx=num_ctx, keep_alive=_FOREVER
                )
            with self._lock:
                self._note_change()

    def load(self, now_s: float) -> HostLoad:
        with self._lock:
            return self._desk.load(now_s)

    def enter(self, candidate: Candidate) -> Seat:
        with self._lock:
            if self._closed:
                raise self._no_more()
            name = canonical(candidate.served_as)
            if name not in self._desk.kept and self._desk.queued >= self._settings.max_waiting:
                raise HostBusy(
                    f"{candidate.host} is busy",
                    why=f"{self._desk.queued} requests wait there (residency.max_waiting)",
                    hint="come back in a moment",
                    host=candidate.host,
                    model=candidate.model,
                )
            number = next(self._numbers)
            seat = self._seats[number] = Seat(self, number)
            self._served[name] = candidate.served_as
            self._plan_context(name, candidate.num_ctx)
            estimate = candidate.estimate
            self._desk.enter(
                Ticket(number, name, estimate.memory_gb, estimate.load_s, estimate.answering_s),
                self._clock_s(),
            )
            self._act(seat)
        return seat

    def _plan_context(self, name: str, num_ctx: int | None) -> None:
        """Before the desk hears of the request: what others loaded otherwise is loaded anew first."""
        if name not in self._contexts or self._contexts[name] != num_ctx:
            self._contexts[name] = num_ctx
            self._desk.seen(self._desk.resident_gb, self._stale())

    def keeps(self, served_as: str) -> bool:
        return canonical(served_as) in self._desk.kept

    async def unload(self, served_as: str) -> None:
        name = canonical(served_as)
        with self._lock:
            self._served.setdefault(name, served_as)
            self._desk.send_away(name)
            self._act()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.unload_s):
                look_s = _FIRST_LOOK_S
                while name in self._desk.leaving:
                    await asyncio.sleep(look_s)
                    look_s = min(2 * look_s, _LAST_LOOK_S)

    def left(self, number: int) -> None:
        with self._lock:
            self._seats.pop(number, None)
            self._desk.ended(number)
            loading = self._load_task
            if loading is not None and self._desk.loads_for_nobody == loading[0]:
                loop = loading[1].get_loop()
                if not loop.is_closed():
                    # Not at once: of a task that has not begun nothing would run, and nobody be told.
                    loop.call_soon_threadsafe(self._give_up, *loading)
            self._act()

    def _give_up(self, model: str, task: asyncio.Task[None]) -> None:
        """Ends a load, unless somebody waits for it again."""
        with self._lock:
            if self._load_task == (model, task) and self._desk.loads_for_nobody == model:
                task.cancel()

    def _act(self, newcomer: Seat | None = None) -> None:
        """Does what the desk says, after which the newcomer may have to wait. Called with the lock held."""
        waits = newcomer is not None
        if self._closed or not _loop_runs():
            return
        for action in self._desk.next(self._clock_s()):
            match action:
                case Start(ticket):
                    seat = self._seats.get(ticket.number)
                    if seat is newcomer and seat is not None:
                        waits = False
                    elif seat is not None:
                        seat.tell()
                case Unload(model):
                    self._begin(self._unload(model))
                case Load(model, memory_gb):
                    self._load_task = model, self._begin(self._load(model, memory_gb))
        if waits and newcomer is not None:
            newcomer.prepare()

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _load(self, model: str, memory_gb: float) -> None:
        error: ProviderError | None = None
        load_s: float | None = None
        resident: Sequence[ResidentModel] | None = None
        limit_s = memory_gb / HUNG_GB_PER_S + HUNG_OVERHEAD_S
        served = self._served.get(model, model)
        listed = self._listed
        begun_s = self._clock_s()
        try:
            async with asyncio.timeout(limit_s):
                load_s = await self._loader.preload(
                    served, num_ctx=self._contexts.get(model), keep_alive=self._keep_alive(model, memory_gb)
                )
            if load_s is None:  # Ollama does not tell it where nothing was asked but the load
                load_s = self._clock_s() - begun_s
            resident = await self._in_memory()
        except TimeoutError:
            error = HostTimeout(
                f"{served} was not loaded within {limit_s:.0f} s",
                why=f"{memory_gb:.0f} GB take no longer than that on any disk, so the load hangs",
                host=self._loader.name,
                model=served,
            )
        except ProviderError as failed:
            error = failed
        except BaseException:
            error = RunnerFailed(
                f"the loading of {served} was given up", host=self._loader.name, model=served
            )
            raise
        finally:
            if error is None:
                self._loaded(model, load_s or 0.0, resident, listed)
            else:
                self._not_loaded(model, error)

    async def _in_memory(self) -> Sequence[ResidentModel] | None:
        """What the load really takes is known now; the next one is planned with it."""
        try:
            return await self._loader.resident()
        except ProviderError:
            return None

    def _loaded(
        self,
        model: str,
        load_s: float,
        resident: Sequence[ResidentModel] | None,
        before: Mapping[str, ResidentModel],
    ) -> None:
        with self._lock:
            self._load_task = None
            self._note_change()
            there = set(self._desk.resident_gb)
            if resident is None:
                self._desk.loaded(model)
            else:
                found_gb = {canonical(one.name): one.size_gb for one in resident}
                now = datetime.now(UTC) + _OTHER_CLOCK
                self._desk.loaded(model, found_gb, {name for name, one in before.items() if one.lasts(now)})
                self._take(resident, model)
            seats = [self._seats[n] for n in self._desk.waiting_for(model) if n in self._seats]
            for waiting in seats:
                waiting.load_s = load_s
            # Where another one has come as well, somebody else's load was waited for too.
            alone = resident is not None and set(self._desk.resident_gb) - there <= {model}
            if alone and load_s >= LEAST_LOAD_S:
                sample = Measured(load_s=load_s)
                self._measured(self._loader.name, model, sample)
                if seats:
                    seats[0].measured = sample
            self._act()

    def _not_loaded(self, model: str, error: ProviderError) -> None:
        """One error for all who waited for it; behind a load that hangs also for all who wait for another,
        which would hang in its turn."""
        with self._lock:
            self._load_task = None
            self._note_change()
            errors = {model: error}
            hung = isinstance(error, HostTimeout)
            for ticket in self._desk.load_hung(model) if hung else self._desk.load_failed(model):
                if ticket.model not in errors:
                    errors[ticket.model] = self._behind(error, ticket.model)
                seat = self._seats.get(ticket.number)
                if seat is not None:
                    seat.tell(errors[ticket.model].repeated())
            self._act()

    def _behind(self, hung: ProviderError, model: str) -> ProviderError:
        served = self._served.get(model, model)
        return HostTimeout(
            f"{served} was not loaded: a load before it hangs", why=hung.what, host=hung.host, model=served
        )

    async def _unload(self, model: str) -> None:
        try:
            async with asyncio.timeout(self._settings.unload_s):
                await self._loader.preload(self._served.get(model, model), num_ctx=None, keep_alive=0)
                look_s = _FIRST_LOOK_S
                while any(canonical(one.name) == model for one in await self._loader.resident()):
                    await asyncio.sleep(look_s)
                    look_s = min(2 * look_s, _LAST_LOOK_S)
        except (TimeoutError, ProviderError):
            pass  # others use it: then Ollama makes room by itself, as it would without this router
        finally:
            with self._lock:
                self._note_change()
                self._desk.unloaded(model)
                self._act()

    def _note_change(self) -> None:
        self._changed_s = self._clock_s()
        self._changed(self._loader.name)

    def _keep_alive(self, model: str, memory_gb: float) -> Json:
        if model in self._desk.kept:
            return _FOREVER
        large = memory_gb > _LARGE_SHARE * self._desk.usable_gb
        seconds = self._settings.keep_alive_large_s if large else self._settings.keep_alive_s
        return f"{seconds:.0f}s"

    async def close(self) -> None:
        self._closed = True
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is loop]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        with self._lock:
            for seat in self._seats.values():
                seat.tell(self._no_more())

    def _no_more(self) -> ProviderError:
        name = self._loader.name
        return HostUnreachable(f"{name} is asked nothing more", why="the router was closed", host=name)


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
