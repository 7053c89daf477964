"""What all commands share: the global options, how a Router is built from them, how a coroutine is run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llm_router.cli import output
from llm_router.cli.ending import Terminated

if TYPE_CHECKING:
    from llm_router.config import Configuration
    from llm_router.fleet import Fleet
    from llm_router.policy import World
    from llm_router.router import Router

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """The options before the command."""

    config: Path | None = None
    fleets: tuple[Path, ...] = ()

    def configuration(self) -> Configuration:
        """Everything that is set, flags included. Raises ConfigError."""
        from llm_router.config import load_configuration

        flags = {"fleet": [str(path) for path in self.fleets]} if self.fleets else {}
        return load_configuration(flags=flags, path=self.config)

    def fleet(self, configuration: Configuration | None = None) -> Fleet:
        """The fleet that these options name. Raises ConfigError."""
        from llm_router.assembly import fleet_of

        return fleet_of((configuration or self.configuration()).settings)

    def router(
        self,
        configuration: Configuration | None = None,
        *,
        progress: Callable[[str], None] | None = None,
    ) -> Router:
        """A Router over the user's settings; nothing is opened yet. Raises ConfigError.

        ``progress`` is told on another thread what takes long: the embedded model's file being fetched.
        """
        from llm_router.assembly import fleet_of, providers_of
        from llm_router.router import Router

        settings = (configuration or self.configuration()).settings
        fleet = fleet_of(settings)
        return Router(fleet, settings=settings, providers=providers_of(settings, fleet, progress=progress))


pass_options = click.make_pass_decorator(Options, ensure=True)


async def world_now(options: Options) -> World:
    """The fleet and what is true of every host now. Raises ConfigError."""
    from llm_router.policy import World

    with output.waiting("looking at the hosts"):
        async with options.router() as router:
            return World(router.fleet, await router.hosts(), router.settings.policy)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end. Ctrl-C and SIGTERM cancel it first, so that no host goes on for nobody."""
    return _finished(_with_sigterm(coroutine))


def run_reader(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that reads a file or a pipe, waits there, and does so inside ``interruptible``.

    SIGTERM ends it at once: the handler of asyncio would only take effect after the read.
    """
    return _finished(coroutine)


class _Interrupted(Exception):
    """Ctrl-C inside a coroutine: asyncio logs a KeyboardInterrupt that comes out of one as a defect."""


def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    import asyncio

    async def quiet() -> T:
        try:
            return await coroutine
        except KeyboardInterrupt:
            raise _Interrupted from None

    try:
        return asyncio.run(quiet())
    except _Interrupted:
        raise KeyboardInterrupt from None


async def _with_sigterm(coroutine: Coroutine[Any, Any, T]) -> T:
    import asyncio

    task = asyncio.current_task()
    if threading.current_thread() is not threading.main_thread() or task is None:
        return await coroutine
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await coroutine
    except asyncio.CancelledError:
        if terminated:
            raise Terminated from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends a blocking read or write inside a coroutine, which asyncio's own handler would wait for.

    Only in the coroutine that ``run`` was given, and around nothing that awaits: in another task the
    interrupt would be logged as a defect of that task.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
