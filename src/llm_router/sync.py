"""The same Router without ``await``: one thin bridge to an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from llm_router.answer import Answer, EmbeddingAnswer, StreamEvent
from llm_router.decision import Classification, Decision
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.policy.why_not import WhyNot
from llm_router.request import RouteRequest
from llm_router.router import Router

T = TypeVar("T")


class SyncRouter:
    """Blocking calls to a Router; works inside a running event loop too, and from several threads at once.

        with SyncRouter() as router:
            print(router.run("What's 2+2?").text)

    Takes what ``Router`` takes, or a ``router`` that is already made. Every method raises what the method of
    the same name of ``Router`` raises. Ctrl-C cancels the call that is under way.
    """

    def __init__(self, router: Router | None = None, **arguments: Any) -> None:
        self._router = router if router is not None else Router(**arguments)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="llm-router", daemon=True)
        self._thread.start()

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
    ) -> Iterator[StreamEvent]:
        """The events of ``Router.stream``. Leaving the loop early cancels the generation."""
        events = self._router.stream(request, decision=decision)
        try:
            while True:
                try:
                    yield self._wait(anext(events))
                except StopAsyncIteration:
                    return
        finally:
            self._wait(events.aclose())

    def close(self) -> None:
        """Closes the router and ends the thread. May be called twice."""
        if self._loop.is_closed():
            return
        self._wait(self._router.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a call to ``router`` on its thread. Cancelling the future cancels the call."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = self.submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
