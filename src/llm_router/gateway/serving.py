"""Puts a gateway together and runs it: from settings to a listening address, and to an orderly end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from llm_router import assembly
from llm_router.config import Settings, user_directory
from llm_router.errors import ConfigError, LLMRouterError
from llm_router.gateway.app import Gateway
from llm_router.gateway.guard import is_loopback
from llm_router.gateway.keys import Keys, load_keys
from llm_router.gateway.observers import Observer, Observers
from llm_router.gateway.pages import pages
from llm_router.http1.server import Limits, Server
from llm_router.router import Router
from llm_router.serve_settings import ServeSettings


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
    """A gateway and its server. ``start``, then ``until_stopped``; ``stop`` may be called at any time."""

    def __init__(
        self, settings: Settings, *, router: Router | None = None, observers: Sequence[Observer] = ()
    ) -> None:
        self.settings = settings
        self.keys = keys_of(settings.serve)
        check_reach(settings.serve, self.keys)
        self.observers = Observers(observers)
        self.gateway = Gateway(
            router or Router(settings=settings),
            settings.serve,
            pages=pages(manages=settings.serve.manage_models),
            keys=self.keys,
            observer=self.observers,
        )
        serve = settings.serve
        limits = Limits(body_bytes=int(serve.max_body_mb * 1e6), connections=serve.max_connections)
        self.server = Server(self.gateway.handle, limits)
        self._stopping = asyncio.Event()

    async def start(self) -> tuple[str, int]:
        """Listens; gives the address. Raises ConfigError where it is taken or cannot be used."""
        serve = self.settings.serve
        try:
            bound = await self.server.start(serve.host, serve.port)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {serve.host}:{serve.port}",
                why=(error.strerror or str(error)).lower(),
                hint="stop what listens there, or choose another: llm-router serve --port 11436",
            ) from error
        return bound[0]

    def stop(self) -> None:
        self.gateway.ending = True
        self._stopping.set()

    async def until_stopped(self) -> None:
        """Serves until ``stop`` or a signal, then lets what streams end."""
        with _signals(self.stop):
            await self._stopping.wait()
        await self.close()

    async def close(self) -> None:
        await self.server.shutdown(self.settings.serve.shutdown_grace_s)
        await self.gateway.router.close()


class _signals:  # noqa: N801 - reads as a statement
    """SIGTERM and SIGINT call ``stop`` inside the block."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self._stop)

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)


__all__ = ["LLMRouterError", "Serving", "assembly"]
