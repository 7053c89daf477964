"""Puts a gateway together and runs it: from settings to a listening address, and to an orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llm_router.config import Settings, user_directory
from llm_router.errors import ConfigError, LLMRouterError
from llm_router.gateway.app import Gateway
from llm_router.gateway.guard import is_loopback
from llm_router.gateway.keys import Keys, load_keys
from llm_router.gateway.log import RequestLog
from llm_router.gateway.metrics import Metrics
from llm_router.gateway.observers import Observer, Observers
from llm_router.gateway.pages import pages
from llm_router.gateway.recording import Recording
from llm_router.gateway.tracing import Tracing
from llm_router.hosts.poll import Poller
from llm_router.http1.server import Limits, Server
from llm_router.huge_pages import collapse
from llm_router.preloading import preload_predicted
from llm_router.records.reader import answers_before, measured_before, records_path
from llm_router.records.writer import Recorder
from llm_router.request import RouteRequest
from llm_router.router import Router
from llm_router.serve_settings import ServeSettings

log = logging.getLogger("llm_router.gateway")

LOOK_EVERY_S = 2.0
"""How often files of settings are looked at for a change."""

Load = Callable[[], Settings]


def keys_path(settings: ServeSettings) -> Path | None:
    """The file of keys, where there is one. Raises ConfigError where the one that is named is missing."""
    if settings.keys is not None:
        named = Path(settings.keys).expanduser()
        if not named.is_file():
            raise ConfigError(
                "serve.keys names a file that is not there",
                path=named,
                hint="make one with: llm-router keys add NAME",
            )
        return named
    usual = user_directory() / "keys.yaml"
    return usual if usual.is_file() else None


def keys_of(settings: ServeSettings) -> Keys:
    path = keys_path(settings)
    return Keys(load_keys(path).keys, required=True) if path is not None else Keys()


def check_reach(settings: ServeSettings, keys: Keys) -> None:
    """Raises ConfigError where the gateway would be open to the network without anybody having said so."""
    if is_loopback(settings.host) or keys.required or settings.open_without_keys:
        return
    raise ConfigError(
        f"not listening on {settings.host} without API keys",
        why="everyone on the network could use every model",
        hint="make a key with: llm-router keys add NAME; or set serve.open_without_keys",
    )


class Serving:
    """A gateway and its server. ``start``, then ``until_stopped``; ``stop`` may be called at any time.

    ``load`` reads the settings again for a reload; without it they stay as they are. ``files`` are looked at
    for changes.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        router: Router | None = None,
        load: Load | None = None,
        files: Sequence[Path] = (),
        more: Sequence[Observer] = (),
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        serve = settings.serve
        self.settings = settings
        keys = keys_of(serve)
        check_reach(serve, keys)
        self.recorder = (
            Recorder(records_path(settings.records), settings.records) if settings.records.enabled else None
        )
        self.metrics = Metrics() if serve.metrics else None
        self._tracing = Tracing() if serve.traces else None
        self.gateway = Gateway(
            router or Router(settings=settings),
            serve,
            pages=pages(manages=serve.manage_models, metrics=self.metrics, recorder=self.recorder),
            keys=keys,
            observer=Observers([*self._observers(), *more]),
        )
        limits = Limits(body_bytes=int(serve.max_body_mb * 1e6), connections=serve.max_connections)
        self.server = Server(self.gateway.handle, limits)
        self._load = load
        self._files = tuple(files)
        self._look_every_s = look_every_s
        self._reload_lock = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[bool] | None = None
        self._polling: asyncio.Task[None] | None = None

    def _observers(self) -> Iterator[Observer]:
        if self.recorder is not None:
            yield Recording(self.recorder)
        if self.metrics is not None:
            yield self.metrics
        if self._tracing is not None:
            yield self._tracing
        if self.settings.serve.log != "off":
            yield RequestLog(as_json=self.settings.serve.log == "json")

    async def start(self) -> tuple[str, int]:
        """Listens; gives the address. Raises ConfigError where it is taken or cannot be used."""
        serve = self.settings.serve
        try:
            bound = await self.server.start(serve.host, serve.port)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {serve.host}:{serve.port}",
                why=(os.strerror(error.errno) if error.errno else str(error)).lower(),
                hint="stop what listens there, or choose another: llm-router serve --port 11436",
            ) from error
        self._warming = asyncio.ensure_future(self._warm())
        self._begin_polling(self.settings)
        if self._load is not None and serve.reload and self._files:
            self._looking = asyncio.ensure_future(self._look())
        return bound[0]

    async def _remember(self, router: Router) -> None:
        """Lets the router know how fast its hosts were before it."""
        router.remember(await asyncio.to_thread(measured_before, self.settings.records))

    async def _warm(self) -> None:
        """Makes before the first request what it would wait for: the encoder's weights, what hosts have
        and how fast they were. What is there then stays, so it goes onto huge pages."""
        with suppress(LLMRouterError):
            await self._remember(self.gateway.router)
            await self.gateway.router.decide(RouteRequest.from_text("hello"))
        await asyncio.to_thread(collapse)
        await self._preload(self.gateway.router, self.settings)

    async def _preload(self, router: Router, settings: Settings) -> None:
        """Loads what will be asked for by these settings, while nobody asks for anything."""
        if settings.residency.preload == "off":
            return
        answers = {}
        if settings.residency.preload == "predicted":
            answers = await asyncio.to_thread(answers_before, self.settings.records)
        with suppress(LLMRouterError):
            await preload_predicted(router, answers)

    def _begin_polling(self, settings: Settings) -> None:
        """By these settings from now on, and no longer by those before."""
        if self._polling is not None:
            self._polling.cancel()
            self._polling = None
        residency = settings.residency
        if residency.manage and residency.look_every_s:
            self._polling = asyncio.ensure_future(self._poll(residency.look_every_s))

    async def _poll(self, every_s: float) -> None:
        """Looks at the hosts beside the requests: what others load is known before the next one."""
        poller = Poller(every_s)
        while True:
            await asyncio.sleep(every_s)
            router = self.gateway.router
            if poller.due(busy=router.busy, now_s=asyncio.get_running_loop().time()):
                with suppress(LLMRouterError):
                    await router.world()

    def stop(self) -> None:
        self.gateway.ending = True
        self._stopping.set()

    async def until_stopped(self) -> None:
        """Serves until ``stop`` or a signal, then lets what streams end. SIGHUP reads the settings again."""
        with _signals({signal.SIGTERM: self.stop, signal.SIGINT: self.stop, **self._hangup()}):
            await self._stopping.wait()
            await self.close()

    def _hangup(self) -> dict[signal.Signals, Callable[[], None]]:
        hangup = getattr(signal, "SIGHUP", None)
        return {hangup: self._reload_soon} if hangup is not None else {}

    def _reload_soon(self) -> None:
        self._reloading = asyncio.ensure_future(self.reload())

    async def close(self) -> None:
        # Last what the first two may have begun anew.
        for task in (self._looking, self._reloading, self._warming, self._polling):
            await _ended(task)
        await self.server.shutdown(self.settings.serve.shutdown_grace_s)
        await self.gateway.router.close()
        self.gateway.observer.tell()
        if self._tracing is not None:
            self._tracing.close()
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.close)

    async def reload(self) -> bool:
        """Fleet, hosts and keys as the files say now; address and limits stay. A bad file changes nothing."""
        if self._load is None:
            return False
        async with self._reload_lock:
            try:
                await self._read_again(self._load)
            except LLMRouterError as error:
                log.error("settings not read again, the ones before stay: %s", error)
                return False
            except Exception:
                log.exception("settings not read again, the ones before stay")
                return False
        log.warning("settings, fleet and keys were read again")
        return True

    async def _read_again(self, load: Load) -> None:
        settings = await asyncio.to_thread(load)
        keys = keys_of(settings.serve)
        check_reach(self.settings.serve, keys)
        if self.gateway.keys.required and not keys.required:
            raise ConfigError(
                "the file of keys is gone",
                why="everyone who reaches this address could use every model",
                hint="put it back; to ask for no keys, start the gateway again without one",
            )
        router = await asyncio.to_thread(lambda: Router(settings=settings))
        try:
            router.take_over(self.gateway.router)
            await self._remember(router)
            await router.classify("hello")  # loads what the first request would wait for
        except BaseException:
            await router.close()
            raise
        self.gateway.keys = keys
        self._begin_polling(settings)
        await _ended(self._warming)  # of the router before, which nobody may use once it is closed
        self._warming = asyncio.ensure_future(self._preload(router, settings))
        await self.gateway.exchange_router(router)
        await asyncio.to_thread(collapse)

    async def _look(self) -> None:
        before = self._stamps()
        while True:
            await asyncio.sleep(self._look_every_s)
            now = self._stamps()
            if now != before:
                before = now
                await self.reload()

    def _stamps(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(_stamp, self._files))


async def _ended(task: asyncio.Task[Any] | None) -> None:
    """Cancels it, and waits until it has ended."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@contextmanager
def _signals(handlers: dict[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Signals call these inside the block, where the loop can do that."""
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)
