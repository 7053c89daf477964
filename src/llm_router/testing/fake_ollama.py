"""A fake Ollama server on loopback: the real protocol over real HTTP, without a model or a GPU.

It answers deterministically, keeps track of which models are resident by Ollama's own rules, records what it
was asked, and misbehaves on request. Modelled on Ollama 0.33.

In an asynchronous test: `async with FakeOllama() as server: ...`. In a synchronous one:
`with FakeOllama().in_thread() as server: ...`. In a terminal: `python -m llm_router.testing.fake_ollama`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from llm_router.http1.listening import stop_listening
from llm_router.testing.fake_answers import Answer, Reply, Token, ToolCall
from llm_router.testing.fake_faults import HTML_PAGE, Fault, FaultScript, ScriptedFault
from llm_router.testing.fake_inference import Backend
from llm_router.testing.fake_models import (
    DEFAULT_MODELS,
    FLEET_NAMES,
    GIB,
    FakeModel,
    canonical_name,
    fleet_models,
)
from llm_router.testing.fake_openai import error_body, openai_routes
from llm_router.testing.fake_routes import native_routes
from llm_router.testing.fake_scheduler import FakeSettings, LoadEvent, Pace, Scheduler
from llm_router.testing.fake_streams import ConnectionCutError, cut_connection, json_answer
from llm_router.testing.fake_wire import RefusedError

__all__ = [
    "DEFAULT_MODELS",
    "FLEET_NAMES",
    "Answer",
    "FakeModel",
    "FakeOllama",
    "Fault",
    "LoadEvent",
    "Pace",
    "RecordedRequest",
    "Token",
    "ToolCall",
    "fleet_models",
]

_MAX_BODY_BYTES = 256 << 20
_WAIT_S = 5.0
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as it arrived. `body` is None when there was none or no JSON; header names ignore case."""

    method: str
    path: str
    body: Any
    headers: Mapping[str, str]


class FakeOllama:
    """One fake server.

    `requests` and `loads` grow as it is used; `cancelled` counts requests whose client went away too early.
    All of them, and `fault`, `release` and `clear_faults`, may be used from any thread.
    """

    def __init__(
        self,
        models: Iterable[FakeModel] = DEFAULT_MODELS,
        *,
        version: str = "0.33.0",
        memory_bytes: int = 120 * GIB,
        max_loaded_models: int = 3,
        default_num_ctx: int = 4096,
        num_parallel: int = 1,
        max_queue: int = 512,
        pace: Pace | None = None,
        reply: Reply | None = None,
        call_tools: bool = False,
        clock_ahead_s: float = 0.0,
        faults: Iterable[Fault] = (),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Describe a server; nothing listens before it is entered. Port 0 takes any free port.

        `clock_ahead_s` is how far its wall clock is ahead of this machine's, as /api/ps shows it.

        Raises:
            ValueError: when `host` is not a loopback address.
        """
        _require_loopback(host)
        self._settings = FakeSettings(
            version=version,
            memory_bytes=memory_bytes,
            max_loaded_models=max_loaded_models,
            default_num_ctx=default_num_ctx,
            num_parallel=num_parallel,
            max_queue=max_queue,
            call_tools=call_tools,
            clock_ahead_s=clock_ahead_s,
            pace=pace or Pace(),
        )
        self._models = tuple(models)
        self._reply = reply
        self._host = host
        self._port = port
        self._script = FaultScript()
        self._changed = threading.Condition()
        self._scheduler: Scheduler | None = None
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self._handling: set[asyncio.Task[Any]] = set()
        self._closing = False
        self.requests: list[RecordedRequest] = []
        self.loads: list[LoadEvent] = []
        self.cancelled = 0
        for fault in faults:
            self.fault(fault)

    @property
    def url(self) -> str:
        """Where it listens, without a trailing slash."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    @property
    def port(self) -> int:
        """The port it listens on; 0 before it is entered, when any port will do."""
        return self._port

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the models in memory."""
        return self._scheduler.resident if self._scheduler else ()

    @property
    def loading(self) -> str | None:
        """The model whose load is under way (or held), if any."""
        return self._scheduler.loading if self._scheduler else None

    @property
    def wedged(self) -> bool:
        """Whether a WEDGED fault has struck and blocks every load."""
        return self._scheduler is not None and self._scheduler.wedged

    @property
    def most_pending(self) -> int:
        """The most requests that ever waited for its loader at a time, the one being loaded for included."""
        return self._scheduler.most_pending if self._scheduler else 0

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return len(self._handling)

    def fault(
        self,
        fault: Fault,
        *,
        model: str | None = None,
        times: int | None = None,
        path: str | None = None,
        after: int = 1,
        seconds: float | None = None,
        status: int | None = None,
    ) -> None:
        """Script a fault, for one model or path or for all, for the next `times` requests or for good.

        `after` is the number of chunks before a fault in mid-stream; `seconds` how long a slow one waits
        (None: until `release()`); `status` that of an HTML page (502) or a redirect (307). Without `path`,
        HTML, REDIRECT and DROP_BEFORE_FIRST_BYTE strike every route and the others those that run a model.
        """
        wanted = None if model is None else canonical_name(model)
        self._script.add(ScriptedFault(fault, wanted, path, times, after, seconds, status))

    def clear_faults(self) -> None:
        """Behave again: forget every fault, end a wedge, and let go of what is held."""
        self._script.clear()

    def release(self, model: str | None = None) -> None:
        """Let go of the loads and answers that SLOW_LOAD and SLOW_TOKENS hold, and hold no more of them."""
        self._script.release(model)

    def wait_until(self, condition: Callable[[FakeOllama], bool], timeout_s: float = _WAIT_S) -> None:
        """Block until the condition holds. Not for the server's own event loop: use `until` there.

        Raises:
            TimeoutError: when it does not come to hold in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout_s):
                raise TimeoutError(
                    f"the condition did not hold within {timeout_s:g} s; resident: {self.resident}"
                )

    async def until(self, condition: Callable[[FakeOllama], bool], timeout_s: float = _WAIT_S) -> None:
        """As `wait_until`, from a coroutine.

        Raises:
            TimeoutError: when it does not come to hold in time.
        """
        await asyncio.to_thread(self.wait_until, condition, timeout_s)

    async def __aenter__(self) -> Self:
        """Listen."""
        self._closing = False
        self._scheduler = Scheduler(self._settings, self.loads, self._notify)
        installed = {model.tag: model for model in self._models}
        backend = Backend(self._settings, self._script, self._scheduler, installed, self._reply)
        app = web.Application(middlewares=[self._serve], client_max_size=_MAX_BODY_BYTES)
        app.add_routes([*native_routes(backend), *openai_routes(backend)])
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0, access_log=None)
        await self._runner.setup()
        protocol = self._runner.server
        assert protocol is not None  # noqa: S101 - set up above
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(protocol, self._host, self._port)
        self._port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close at once, whatever is still held or streaming."""
        self._closing = True
        if self._scheduler is not None:
            self._scheduler.close()
        for task in tuple(self._handling):
            task.cancel()
        if self._listening is not None:
            await stop_listening(self._listening)
        if self._runner is not None:
            await self._runner.cleanup()
        self._listening = self._runner = None

    @contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Run on a thread and event loop of its own, for tests that have none.

        Raises:
            TimeoutError: when the thread does not end within a few seconds.
        """
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="fake-ollama", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.__aenter__(), loop).result(_WAIT_S)
            try:
                yield self
            finally:
                asyncio.run_coroutine_threadsafe(self.__aexit__(None, None, None), loop).result(_WAIT_S)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_WAIT_S)
            if thread.is_alive():
                raise TimeoutError(f"the fake server's thread did not end within {_WAIT_S:g} s")
            loop.close()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    @web.middleware
    async def _serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler always runs in one
        self._handling.add(task)
        try:
            body = await self._recorded_body(request)
            return await self._strike_or_answer(request, handler, _model_in(body))
        except ConnectionCutError:
            return web.Response()  # which never leaves, since the connection is gone
        except (asyncio.CancelledError, ConnectionResetError):
            if not self._closing:
                self.cancelled += 1
            raise
        finally:
            self._handling.discard(task)
            self._notify()

    async def _recorded_body(self, request: web.Request) -> Any:
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        self.requests.append(RecordedRequest(request.method, request.path, body, request.headers))
        self._notify()
        return body

    async def _strike_or_answer(
        self, request: web.Request, handler: Handler, model: str | None
    ) -> web.StreamResponse:
        if not _is_local_host(request.host):
            return web.Response(status=403)
        if self._script.strike(Fault.DROP_BEFORE_FIRST_BYTE, request.path, model):
            cut_connection(request)
        if page := self._script.strike(Fault.HTML, request.path, model):
            status = page.status or 502
            reason = "OK" if status == 200 else "Bad Gateway"
            text = HTML_PAGE.format(status=status, reason=reason)
            return web.Response(status=status, text=text, content_type="text/html")
        if redirect := self._script.strike(Fault.REDIRECT, request.path, model):
            location = f"{self.url}/elsewhere{request.path}"
            return web.Response(status=redirect.status or 307, headers={"Location": location})
        return await _answer(request, handler)


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusedError as refused:
        is_openai = request.path.startswith("/v1/")
        body = error_body(refused.status, refused.text) if is_openai else {"error": refused.text}
        return json_answer(body, refused.status)
    except web.HTTPNotFound:
        return web.Response(status=404, text="404 page not found")
    except web.HTTPMethodNotAllowed as wrong:
        allowed = {"Allow": ", ".join(sorted(wrong.allowed_methods))}
        return web.Response(status=405, text="405 method not allowed", headers=allowed)


def _model_in(body: Any) -> str | None:
    named = (body.get("model") or body.get("name")) if isinstance(body, dict) else None
    return named if isinstance(named, str) else None


def _is_local_host(host_header: str) -> bool:
    # The real server, bound to loopback, turns away a foreign Host header: a web page could send one.
    host = host_header.rsplit(":", 1)[0] if not host_header.endswith("]") else host_header
    host = host.strip("[]").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in ("", "localhost") or host.endswith(_LOCAL_SUFFIXES)
    return address.is_loopback or address.is_private or address.is_unspecified


def _require_loopback(host: str) -> None:
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        raise ValueError(
            f"cannot listen on {host!r}: the fake has no access control and serves loopback only\n"
            "hint: use 127.0.0.1, ::1 or localhost"
        )


if __name__ == "__main__":
    from llm_router.testing.fake_command import run

    run()
