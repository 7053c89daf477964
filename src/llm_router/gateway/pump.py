"""One answer on its way to one client: pieces as they come, signs of life meanwhile, one honest end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from llm_router.answer import Answer, Attempt, Delta, Finished, Switched
from llm_router.decision import Decision
from llm_router.errors import LLMRouterError
from llm_router.gateway.waiting import waits_for
from llm_router.gateway.wires.base import Renderer, Told
from llm_router.http1.server import Exchange
from llm_router.request import RouteRequest
from llm_router.router import Router

Headers = Sequence[tuple[str, str]]
_OF_THE_MODEL = ("x-router-model", "x-router-fallback")


@dataclass(slots=True)
class Outcome:
    """What became of one answer, for the records."""

    answer: Answer | None = None
    error: LLMRouterError | None = None
    attempts: list[Attempt] = field(default_factory=list)


class Stream:
    """A streamed answer. ``told`` and ``headers`` are asked once the model that answers is known."""

    def __init__(
        self,
        exchange: Exchange,
        renderer: Renderer,
        *,
        told: Callable[[str, Outcome], Told],
        headers: Callable[[str, Outcome], Headers],
        heartbeat_s: float,
    ) -> None:
        self._exchange = exchange
        self._renderer = renderer
        self._told = told
        self._headers = headers
        self._heartbeat_s = heartbeat_s
        self._timer: asyncio.TimerHandle | None = None
        self._quiet = True
        self._outcome = Outcome()
        self._model = ""
        self._named = ""
        self._begun = False
        self._waits_for: Callable[[], str] | None = None

    async def send(self, router: Router, request: RouteRequest, decision: Decision, outcome: Outcome) -> None:
        """Sends the answer. An error before the first byte is raised; a later one is told on the wire.

        Nothing of a model is shown before its first real word: until then another one may still take over.
        """
        self._outcome = outcome
        self._model = decision.answer_model or ""
        host = decision.chain[0].host if decision.chain else ""
        self._waits_for = lambda: _state(router, decision, self._model, host)
        held: list[Delta] = []
        self._wait()
        try:
            async with aclosing(router.stream(request, decision=decision)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        if not self._begun:
                            held.append(event)
                            if event.empty:
                                continue
                            self._begin(held)
                        else:
                            self._quiet = False
                            self._exchange.write(self._renderer.piece(event))
                        await self._exchange.drain()
                    elif isinstance(event, Switched):
                        outcome.attempts.append(event.failed)
                        self._model, host = event.next_model, event.next_host
                        held.clear()
                    elif isinstance(event, Finished):
                        self._finish(event.answer, held)
        except LLMRouterError as error:
            outcome.error = error
            if not self._exchange.started:
                raise
            self._exchange.end(self._renderer.broken(error, self._told(self._model, outcome)))
        finally:
            self._stop()

    def _begin(self, held: list[Delta]) -> None:
        self._begun, self._quiet = True, False
        self._start()
        taken_over = self._taken_over()
        begin = self._renderer.begin(self._told(self._model, self._outcome))
        self._exchange.write(taken_over + begin + b"".join(map(self._renderer.piece, held)))
        held.clear()

    def _start(self) -> None:
        if not self._exchange.started:
            self._named = self._model
            self._exchange.start(200, self._headers(self._model, self._outcome))

    def _taken_over(self) -> bytes:
        """The headers that hold no longer, as comments of a stream of events; other wires have no such thing.

        A sign of life sent them before it was known that another model would answer.
        """
        if self._model == self._named or self._renderer.stream_type != "text/event-stream":
            return b""
        found = [line for line in self._headers(self._model, self._outcome) if line[0] in _OF_THE_MODEL]
        return "".join(f": {name}: {' '.join(value.split())}\n" for name, value in found).encode() + b"\n"

    def _finish(self, answer: Answer, held: list[Delta]) -> None:
        self._outcome.answer = answer
        if not self._begun:
            self._begin(held)
        self._exchange.end(self._renderer.final(answer, self._told(answer.model, self._outcome)))

    def _wait(self) -> None:
        if self._heartbeat_s > 0 and self._renderer.heartbeat:
            self._timer = asyncio.get_running_loop().call_later(self._heartbeat_s, self._beat)

    def _beat(self) -> None:
        """A sign of life where nothing was written since the last look."""
        if self._quiet:
            self._start()
            self._exchange.write(self._sign_of_life())
        self._quiet = True
        self._timer = asyncio.get_running_loop().call_later(self._heartbeat_s, self._beat)

    def _sign_of_life(self) -> bytes:
        """With what is waited for in a comment, where the wire has such a thing and nothing has come yet."""
        beat = self._renderer.heartbeat
        if self._begun or self._waits_for is None or self._renderer.stream_type != "text/event-stream":
            return beat
        comment = f": waiting for {self._waits_for()}\n".encode()
        return comment + (b"\n" if beat.startswith(b":") else beat)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _state(router: Router, decision: Decision, model: str, host: str) -> str:
    for candidate in decision.chain:
        if candidate.model == model and candidate.host == host:
            return waits_for(candidate, router.loads().get(host))
    return model
