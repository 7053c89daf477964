"""The same Router without ``await``: one thin bridge to an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Generator, Sequence
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Self, TypeVar

from llm_router.answer import Answer, EmbeddingAnswer, StreamEvent
from llm_router.decision import Classification, Decision
from llm_router.errors import LLMRouterError
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.policy.why_not import WhyNot
from llm_router.request import RouteRequest
from llm_router.router import Router

T = TypeVar("T")

CANCEL_WAIT_S = 5.0
"""How long closing waits for calls under way to end after they were cancelled."""


class SyncRouter:
    """Blocking calls to a Router; works inside a running event loop too, and from several threads at once.

        with SyncRouter() as router:
            print(router.run("What's 2+2?").text)

    Takes what ``Router`` takes, or a ``router`` that is already made. Every method raises what the method of
    the same name of ``Router`` raises, and LLMRouterError once it is closed. Ctrl-C cancels the call that is
    under way. One that nobody holds any more closes itself once its calls are done.
    """

    def __init__(self, router: Router | None = None, **arguments: Any) -> None:
        self._router = router if router is not None else Router(**arguments)
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._closed = False
        # The thread must not hold this object, or one that nobody else holds would live for ever.
        self._thread = threading.Thread(target=_serve, args=(self._loop,), name="llm-router", daemon=True)
        self._thread.start()
        self._left = weakref.finalize(self, _leave, self._loop, self._router)
        self._left.atexit = False

    @property
    def router(self) -> Router:
        """The Router behind it: its fleet and its settings."""
        return self._router

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def decide(self, request: RouteRequest | str, *, category: str | None = None) -> Decision:
        return self._wait(self._router.decide(request, category=category))

    def classify(self, request: RouteRequest | str) -> Classification:
        return self._wait(self._router.classify(request))

    def hosts(self) -> tuple[HostSnapshot, ...]:
        return self._wait(self._router.hosts())

    def explain(self, request: RouteRequest | str, model: str) -> tuple[Decision, WhyNot]:
        return self._wait(self._router.explain(request, model))

    def run(self, request: RouteRequest | str, *, decision: Decision | None = None) -> Answer:
        return self._wait(self._router.run(request, decision=decision))

    def embed(self, request: RouteRequest | str | Sequence[str]) -> EmbeddingAnswer:
        return self._wait(self._router.embed(request))

    def stream(
        self, request: RouteRequest | str, *, decision: Decision | None = None
    ) -> Generator[StreamEvent, None, None]:
        """The events of ``Router.stream``. Leaving the loop early cancels the generation."""
        events = self._router.stream(request, decision=decision)
        try:
            while True:
                try:
                    yield self._wait(anext(events))
                except StopAsyncIteration:
                    return
        finally:
            try:
                self._wait(events.aclose())
            except LLMRouterError:
                if not self._closed:  # closing the router has ended the generation too
                    raise

    def close(self) -> None:
        """Cancels the calls under way, closes the router and ends the thread. May be called twice.

        Threads that wait for a call get an LLMRouterError.
        """
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            self._left.detach()
            asyncio.run_coroutine_threadsafe(_shut_down(self._router), self._loop).result()
        self._thread.join()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a call to ``router`` on its thread. Cancelling the future cancels it, and so does close.

        Raises LLMRouterError where it is closed.
        """
        with self._lock:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise _closed_error()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = self.submit(coroutine)
        try:
            return future.result()
        except CancelledError:
            if self._closed:
                raise _closed_error() from None
            raise
        except BaseException:
            future.cancel()
            raise


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _shut_down(router: Router, *, cancel: bool = True) -> None:
    """Ends every call, closes the router, and stops the loop once whoever waits for this was told.

    Without ``cancel`` the calls under way go on to their end first: somebody may hold the future of one.
    """
    loop = asyncio.get_running_loop()
    try:
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        if cancel:
            for call in calls:
                call.cancel()
        if calls:
            await asyncio.wait(calls, timeout=CANCEL_WAIT_S if cancel else None)
        await loop.shutdown_asyncgens()
        await router.close()
    finally:
        loop.call_later(0, loop.stop)


def _leave(loop: asyncio.AbstractEventLoop, router: Router) -> None:
    """What ``close`` does, without waiting: the garbage collector may call this from any thread."""
    loop.call_soon_threadsafe(lambda: loop.create_task(_shut_down(router, cancel=False)))


def _closed_error() -> LLMRouterError:
    return LLMRouterError("the router is closed", why="close() was called", hint="make a new one")
