"""The gateway, and the page to read first: from one HTTP request to one reply.

    exchange ─▶ guard, key ─▶ wire.parse ─▶ Router.decide ─▶ Router.stream ─▶ wire.render ─▶ exchange
                                                 │                              │
                                                 └────────── record ◀───────────┘

Paths that answer tasks are ``Endpoint``s of a wire; all others (lists of models, health, metrics, models to
pull) are plain functions in ``pages`` and ``manage``. A refusal has the shape that clients of its path read.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping

from msgspec import structs

from llm_router.answer import Answer, Attempt, EmbeddingAnswer
from llm_router.decision import Decision
from llm_router.errors import (
    AllAttemptsFailed,
    InvalidRequest,
    LLMRouterError,
    NoModelAvailable,
    NotInTime,
)
from llm_router.gateway import told
from llm_router.gateway.coding import decoded
from llm_router.gateway.guard import Guard
from llm_router.gateway.keys import ANYONE, Caller, Keys
from llm_router.gateway.observers import Observers, Served
from llm_router.gateway.pump import Outcome, Stream
from llm_router.gateway.refusals import Failed, NotHere, NoWords, Overloaded, Refused, TooLarge, WrongMethod
from llm_router.gateway.wires import endpoints
from llm_router.gateway.wires.base import Asked, Endpoint, Preload, Told
from llm_router.gateway.wires.openai_errors import error_body
from llm_router.http1.server import BodyTooLarge, ClientGone, Exchange
from llm_router.ids import fresh_id
from llm_router.request import ApiKind, RouteRequest
from llm_router.router import Router
from llm_router.serve_settings import ServeSettings

Page = Callable[["Visit"], Awaitable[None]]
"""A path that is no wire's endpoint; it replies itself, or raises an error."""

log = logging.getLogger("llm_router.gateway")
_JSON = ("content-type", "application/json")
_AS_IT_COMES = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))
"""Proxies on the way, nginx among them, pass a stream on piece by piece then."""

_REQUEST_ID_CHARACTERS = 24
_RETRY_AFTER_S = 5
"""Told with a refusal that passes by itself, where nothing better is known."""


class Visit:
    """One exchange on its way through the gateway: who calls, and what is known of it so far."""

    __slots__ = (
        "begun_s",
        "caller",
        "cors",
        "created_s",
        "decision",
        "exchange",
        "gateway",
        "is_known",
        "is_task",
        "request_id",
        "router",
    )

    def __init__(self, gateway: Gateway, router: Router, exchange: Exchange) -> None:
        self.gateway = gateway
        self.router = router
        self.exchange = exchange
        self.begun_s = time.perf_counter()
        self.created_s = time.time()
        self.request_id = _request_id(exchange.headers.get("x-request-id"))
        self.caller: Caller = ANYONE
        self.is_known = False
        self.is_task = False
        self.decision: Decision | None = None
        self.cors: tuple[tuple[str, str], ...] = ()

    async def body(self) -> bytes:
        """The body, unpacked. Raises Refused for one that is too large."""
        settings = self.gateway.settings
        limit = int(settings.max_body_mb * 1e6)
        try:
            data = await self.exchange.body(limit_bytes=limit)
        except BodyTooLarge:
            raise TooLarge(
                "the body is too large",
                why=f"the limit is {settings.max_body_mb:g} MB",
                hint="send less at once, or raise serve.max_body_mb",
            ) from None
        coding = self.exchange.headers.get("content-encoding")
        return data if coding is None else await decoded(data, coding, limit)

    def timeout_s(self) -> float | None:
        """How long the caller wants to wait, None where it does not say. Raises InvalidRequest."""
        asked = self.exchange.headers.get("x-router-timeout-s")
        if asked is None:
            return None
        try:
            timeout_s = float(asked)
        except ValueError:
            timeout_s = math.nan
        if not 0 < timeout_s < math.inf:
            raise InvalidRequest(
                "cannot read the header x-router-timeout-s",
                why=f"{asked[:40]!r} is not a number of seconds above 0",
                hint="write it like 60 or 2.5, or leave it out for all the time that the settings give",
            )
        return timeout_s

    def may_ask(self, request: RouteRequest) -> None:
        """Raises NotAllowed for what the caller's key forbids, NoWords where an answer would be a vector.

        Who asks for vectors in words still gets them as text: there the router understood the task.
        """
        self.caller.may_ask(request)
        wish = request.wish
        if wish is None or wish.category is None or request.kind is ApiKind.EMBEDDING:
            return
        wanted = self.router.fleet.categories.get(wish.category)
        if wanted is not None and wanted.requires.capability == "embedding":
            raise NoWords(wish.category)

    def reply(
        self, status: int, body: bytes, *headers: tuple[str, str], kind: str = "application/json"
    ) -> None:
        """A whole reply, with the headers that every reply has."""
        self.exchange.reply(
            status, (("content-type", kind), ("x-request-id", self.request_id), *headers, *self.cors), body
        )


class Gateway:
    """What ``http1.Server`` calls for every request. ``router`` may be exchanged while it runs."""

    def __init__(
        self,
        router: Router,
        settings: ServeSettings,
        *,
        pages: Mapping[str, Mapping[str, Page]],
        keys: Keys,
        observer: Observers,
    ) -> None:
        self.settings = settings
        self.manages = settings.manage_models
        self.keys = keys
        self.observer = observer
        self.running = 0
        self.ending = False
        self._guard = Guard(settings)
        self._router = router
        self._users: dict[Router, int] = {}
        self._endpoints: Mapping[str, Endpoint] = {endpoint.path: endpoint for endpoint in endpoints()}
        self._pages = pages
        self._named_pages = [(p, methods) for p, methods in pages.items() if p != "/" and p.endswith("/")]

    @property
    def router(self) -> Router:
        return self._router

    async def exchange_router(self, router: Router) -> None:
        """From now on requests go to ``router``; the one before is closed when its last request has ended."""
        before, self._router = self._router, router
        if not self._users.get(before):
            await before.close()

    async def handle(self, exchange: Exchange) -> None:
        router = self._router
        visit = Visit(self, router, exchange)
        endpoint = self._endpoints.get(exchange.path)
        visit.is_known = endpoint is not None
        self._users[router] = self._users.get(router, 0) + 1
        try:
            await self._visit(visit, endpoint)
        except LLMRouterError as error:
            self._refuse(visit, endpoint, error)
        except ClientGone:
            raise
        except Exception as error:
            log.error("%s failed; request id %s", exchange.path, visit.request_id, exc_info=error)
            self._refuse(visit, endpoint, Failed())
        finally:
            if self._was_last(router):
                await router.close()

    def _was_last(self, router: Router) -> bool:
        """Whether nobody uses a router any more that was exchanged for another."""
        self._users[router] -= 1
        if self._users[router]:
            return False
        del self._users[router]
        return router is not self._router

    async def _visit(self, visit: Visit, endpoint: Endpoint | None) -> None:
        exchange = visit.exchange
        visit.cors = self._guard.admit(exchange)
        if exchange.method == "OPTIONS":
            self._guard.preflight(visit.exchange, visit.cors)
            return
        if endpoint is None:
            await self._page(visit)
            return
        if exchange.method != "POST":
            raise WrongMethod(exchange.method, exchange.path, ("POST",))
        visit.caller = self.keys.caller(exchange.headers)
        with visit.caller.one_more(), self._one_more():
            await self._task(visit, endpoint)

    async def _page(self, visit: Visit) -> None:
        path = visit.exchange.path
        methods = self._methods(path)
        if methods is None:
            raise NotHere(f"there is nothing at {path[:80]}", hint="see the paths at /openapi.json")
        method = "GET" if visit.exchange.method == "HEAD" and "HEAD" not in methods else visit.exchange.method
        page = methods.get(method)
        if page is None:
            raise WrongMethod(visit.exchange.method, path, tuple(methods))
        self.observer.tell()  # what a page shows is up to date
        await page(visit)

    def _methods(self, path: str) -> Mapping[str, Page] | None:
        """What a path takes. A page that ends in ``/`` takes a name after it, which may have slashes too."""
        if path == "/" or not path.endswith("/"):
            exact = self._pages.get(path)
            if exact is not None:
                return exact
        for start, methods in self._named_pages:
            if path.startswith(start) and len(path) > len(start):
                return methods
        return None

    def _one_more(self) -> _Running:
        if self.running >= self.settings.max_requests:
            raise Overloaded(
                "too many requests at once",
                why=f"{self.running} are being answered (serve.max_requests)",
                hint="come back in a moment",
                retry_after_s=1,
            )
        return _Running(self)

    async def _task(self, visit: Visit, endpoint: Endpoint) -> None:
        asked = endpoint.parse(await visit.body())
        if isinstance(asked, Preload):
            await self._page_preload(visit, endpoint, asked)
            self.observer.done(visit)
            return
        if endpoint.direct is not None:
            visit.reply(200, endpoint.direct(asked))
            self.observer.done(visit)
            return
        asked = _in_its_time(visit, asked)
        served = Served(visit, endpoint, asked)
        visit.is_task = True
        try:
            await self._answer(visit, endpoint, asked, served)
        except asyncio.CancelledError:
            served.gone = True
            raise
        except LLMRouterError as error:
            served.error = error
            raise
        except Exception:
            served.error = Failed()
            raise
        finally:
            self.observer.served(served)

    async def _page_preload(self, visit: Visit, endpoint: Endpoint, asked: Preload) -> None:
        from llm_router.gateway.preload import preload

        await preload(visit, endpoint.path, asked)

    async def _answer(self, visit: Visit, endpoint: Endpoint, asked: Asked, served: Served) -> None:
        request = asked.request
        visit.may_ask(request)
        without_fallback = self._without_fallback(visit)
        decision = served.decision = visit.decision = await visit.router.decide(request)
        decision = visit.caller.allowed(decision)
        if without_fallback:
            decision = decision.with_chain(decision.chain[:1])
        served.decision = decision
        if request.kind is ApiKind.EMBEDDING:
            await self._vectors(visit, asked, decision, served)
        elif asked.stream:
            await self._stream(visit, asked, decision, served)
        else:
            await self._whole(visit, asked, decision, served)

    def _without_fallback(self, visit: Visit) -> bool:
        asked = visit.exchange.headers.get("x-router-fallback")
        if asked is None:
            return self.settings.fallback == "never"
        wanted = asked.strip().lower()
        if wanted not in ("", "auto", "never"):
            raise InvalidRequest(
                "cannot read the header x-router-fallback",
                why=f"{asked[:40]!r} is neither auto nor never",
                hint="leave it out for what the settings say",
            )
        return (wanted or self.settings.fallback) == "never"

    async def _stream(self, visit: Visit, asked: Asked, decision: Decision, served: Served) -> None:
        def headers(model: str, outcome: Outcome) -> list[tuple[str, str]]:
            lines = self._headers(visit, decision, model, outcome.attempts, asked.renderer.stream_type)
            lines += _AS_IT_COMES
            return lines

        def tell(model: str, outcome: Outcome) -> Told:
            return self._told(visit, decision, model, outcome)

        stream = Stream(
            visit.exchange,
            asked.renderer,
            told=tell,
            headers=headers,
            heartbeat_s=self.settings.heartbeat_s,
        )
        await stream.send(visit.router, asked.request, decision, served.outcome)

    async def _whole(self, visit: Visit, asked: Asked, decision: Decision, served: Served) -> None:
        outcome = served.outcome
        answer = await visit.router.run(asked.request, decision=decision, failed=outcome.attempts)
        outcome.answer = answer
        body = asked.renderer.whole(answer, self._told(visit, decision, answer.model, outcome))
        headers = self._headers(visit, decision, answer.model, outcome.attempts, "application/json")
        visit.exchange.reply(200, headers, body)

    async def _vectors(self, visit: Visit, asked: Asked, decision: Decision, served: Served) -> None:
        answer = await visit.router.embed(asked.request, decision=decision)
        served.vectors = answer
        outcome = served.outcome
        outcome.attempts += [attempt for attempt in answer.attempts if attempt.error is not None]
        body = asked.renderer.vectors(answer, self._told(visit, decision, answer.model, outcome))
        headers = self._headers(visit, decision, answer.model, outcome.attempts, "application/json")
        visit.exchange.reply(200, headers, body)

    def _headers(
        self, visit: Visit, decision: Decision, model: str, failed: list[Attempt], kind: str
    ) -> list[tuple[str, str]]:
        lines = told.headers(decision, model, failed)
        lines += (("content-type", kind), ("x-request-id", visit.request_id), *visit.cors)
        return lines

    def _told(self, visit: Visit, decision: Decision, model: str, outcome: Outcome) -> Told:
        answer = outcome.answer
        host = answer.host if answer is not None else _host_of(decision, model)
        reason = told.router_object(decision, model, host, outcome.attempts, answer)
        return Told(model, reason, visit.created_s, decision.decision_id[:24])

    def _refuse(self, visit: Visit, endpoint: Endpoint | None, error: LLMRouterError) -> None:
        """One honest error, in the shape that clients of this path read."""
        exchange = visit.exchange
        if exchange.started:
            if not exchange.ended:
                exchange.abort()
            return
        status = status_of(error)
        shape = endpoint.error if endpoint is not None else _shape_of(exchange.path)
        lines = [_JSON, ("x-request-id", visit.request_id), *visit.cors]
        if visit.decision is not None:
            lines += told.headers_of_failure(visit.decision)
        if isinstance(error, WrongMethod):
            lines.append(("allow", ", ".join(error.allowed)))
        if status in (429, 503) and not (isinstance(error, NoModelAvailable) and not _passes(error)):
            after = error.retry_after_s if isinstance(error, Refused) else None
            lines.append(("retry-after", str(after or _RETRY_AFTER_S)))
        if status == 401:
            lines.append(("www-authenticate", "Bearer"))
        if not visit.is_task:
            self.observer.refused(visit, error, status)
        exchange.reply(status, lines, shape(error, status, visit.request_id))


class _Running:
    """Counts a request while it is being answered."""

    __slots__ = ("_gateway",)

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __enter__(self) -> None:
        self._gateway.running += 1

    def __exit__(self, *_: object) -> None:
        self._gateway.running -= 1


_PASSING = frozenset({"host_unreachable", "unhealthy"})
"""Reasons against a model that pass by themselves; a caller may come back with the same request."""


def _passes(error: NoModelAvailable) -> bool:
    return not error.rejected or any(rejection.code in _PASSING for rejection in error.rejected)


def _status_of_none(error: NoModelAvailable) -> int:
    """Whose affair it is that no model may take a task: a client repeats what gets a 503, again and again."""
    codes = {rejection.code for rejection in error.rejected}
    if _passes(error):
        return 503
    if "context" in codes or codes == {"capability"}:
        return 400
    return 404 if codes == {"not_installed"} and len(error.rejected) == 1 else 503


def status_of(error: LLMRouterError) -> int:
    """Of a chain that failed, the status of its last failure where all failed alike."""
    if isinstance(error, NoModelAvailable):
        return _status_of_none(error)
    if isinstance(error, AllAttemptsFailed) and not isinstance(error, NotInTime):
        found = {attempt.error.http_status for attempt in error.attempts if attempt.error is not None}
        if len(found) == 1:
            return found.pop()
    return error.http_status


def _in_its_time(visit: Visit, asked: Asked) -> Asked:
    timeout_s = visit.timeout_s()
    if timeout_s is None:
        return asked
    return structs.replace(asked, request=structs.replace(asked.request, timeout_s=timeout_s))


def _shape_of(path: str) -> Callable[[LLMRouterError, int, str], bytes]:
    from llm_router.gateway.wires import ollama

    return ollama.error if path.startswith("/api/") else error_body


def _host_of(decision: Decision, model: str) -> str:
    return next((candidate.host for candidate in decision.chain if candidate.model == model), "")


def _request_id(given: str | None) -> str:
    """The caller's own id where it is harmless, else a new one."""
    if given and len(given) <= 128 and given.isascii() and given.isprintable():
        return given
    return fresh_id()[:_REQUEST_ID_CHARACTERS]


__all__ = ["Answer", "EmbeddingAnswer", "Gateway", "Page", "Visit"]
