"""Everything that is no task: lists of models, health, decisions, metrics, and models to manage."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec.structs import replace

from llm_router.errors import InvalidRequest, LLMRouterError, NoModelAvailable
from llm_router.gateway import listing
from llm_router.gateway.app import Page, Visit
from llm_router.gateway.dry_run import request_of
from llm_router.gateway.metrics import CONTENT_TYPE, Metrics
from llm_router.gateway.refusals import NotHere
from llm_router.names import is_auto
from llm_router.policy.inventory import world_told
from llm_router.providers.ollama import OllamaProvider
from llm_router.records.reader import NothingYet, Records
from llm_router.records.writer import WRITE_EVERY_S, Recorder
from llm_router.request import JsonObject, refuse_lookalikes

_encoder = msgspec.json.Encoder()
_DIGEST = re.compile("sha256(:|-|%3[aA])[0-9a-fA-F]{64}")
MOST_RECORDS = 1000
Pages = dict[str, Mapping[str, Page]]


def pages(*, manages: bool, metrics: Metrics | None = None, recorder: Recorder | None = None) -> Pages:
    """Paths and what each does; a path that ends in ``/`` takes a name after it."""
    found: Pages = {
        "/": {"GET": _root},
        "/health": {"GET": _health},
        "/ready": {"GET": _ready},
        "/api/version": {"GET": _version},
        "/api/tags": {"GET": _tags},
        "/api/ps": {"GET": _ps},
        "/api/show": {"POST": _show},
        "/v1/models": {"GET": _models},
        "/v1/models/": {"GET": _model},
        "/router/route": {"POST": _route},
        "/router/hosts": {"GET": _hosts},
        "/openapi.json": {"GET": _openapi},
    }
    if metrics is not None:
        found["/metrics"] = {"GET": _metrics_page(metrics, recorder)}
    if recorder is not None:
        found["/router/decisions"] = {"GET": _latest(recorder)}
        found["/router/decisions/"] = {"GET": _decision(recorder)}
    if manages:
        for path in ("/api/pull", "/api/push", "/api/create", "/api/copy"):
            found[path] = {"POST": _pass_on}
        found["/api/delete"] = {"DELETE": _pass_on}
        found["/api/blobs/"] = {"POST": _pass_on_blob, "HEAD": _pass_on_blob}
    return found


async def _root(visit: Visit) -> None:
    """What Ollama says: programs look for it."""
    visit.reply(200, b"Ollama is running", kind="text/plain; charset=utf-8")


async def _health(visit: Visit) -> None:
    visit.reply(200, b'{"status":"ok"}')


async def _ready(visit: Visit) -> None:
    """Whether a task could be answered now, and by which hosts."""
    hosts = await visit.router.hosts()
    told: list[JsonObject] = [
        {"name": h.name, "reachable": h.reachable, "models": len(h.installed), "problem": h.problem or None}
        for h in hosts
    ]
    ready = any(host.reachable and host.installed for host in hosts) and not visit.gateway.ending
    body: dict[str, Any] = {"status": "ready" if ready else "not ready", "hosts": told}
    visit.reply(200 if ready else 503, _encoder.encode(body))


async def _version(visit: Visit) -> None:
    visit.reply(200, _encoder.encode({"version": await listing.version(visit.router)}))


async def _tags(visit: Visit) -> None:
    caller = visit.gateway.keys.caller(visit.exchange.headers)
    visit.reply(200, _encoder.encode(await listing.tags(visit.router, caller)))


async def _ps(visit: Visit) -> None:
    caller = visit.gateway.keys.caller(visit.exchange.headers)
    visit.reply(200, _encoder.encode(await listing.resident(visit.router, caller)))


async def _show(visit: Visit) -> None:
    caller = visit.gateway.keys.caller(visit.exchange.headers)
    body = _json_of(await visit.body())
    name = body.get("model") or body.get("name")
    if not isinstance(name, str):
        raise InvalidRequest("no model is named", why="the body has no model", hint='send {"model": "auto"}')
    visit.reply(200, _encoder.encode(await listing.show(visit.router, name, body, caller)))


async def _models(visit: Visit) -> None:
    caller = visit.gateway.keys.caller(visit.exchange.headers)
    models = await listing.openai_models(visit.router, caller)
    if "anthropic-version" in visit.exchange.headers:
        visit.reply(200, _encoder.encode(listing.anthropic_models(models)))
        return
    visit.reply(200, _encoder.encode({"object": "list", "data": models}))


async def _model(visit: Visit) -> None:
    caller = visit.gateway.keys.caller(visit.exchange.headers)
    name = unquote(visit.exchange.path.removeprefix("/v1/models/"))
    model = await listing.openai_model(visit.router, name, caller)
    if "anthropic-version" in visit.exchange.headers:
        model = listing.anthropic_model(model)
    visit.reply(200, _encoder.encode(model))


async def _route(visit: Visit) -> None:
    """The decision for a body of any wire, without running it."""
    caller = visit.caller = visit.gateway.keys.caller(visit.exchange.headers)
    with caller.one_more():
        data = await visit.body()
        speaks_anthropic = "anthropic-version" in visit.exchange.headers
        request = request_of(data, query_of(visit).get("path"), anthropic=speaks_anthropic)
        timeout_s = visit.timeout_s()
        if timeout_s is not None:
            request = replace(request, timeout_s=timeout_s)
        visit.may_ask(request)
        decision = caller.allowed(await visit.router.decide(request))
        visit.reply(200, decision.encoded())


async def _hosts(visit: Visit) -> None:
    """What is in each host's memory, who waits and what is loaded there."""
    visit.gateway.keys.admin(visit.exchange.headers)
    router = visit.router
    told = world_told(await router.world(), router.loads(), router.rests(), time.time())
    visit.reply(200, _encoder.encode(told))


def _metrics_page(metrics: Metrics, recorder: Recorder | None) -> Page:
    async def page(visit: Visit) -> None:
        visit.gateway.keys.admin(visit.exchange.headers)
        visit.reply(200, metrics.text(visit.gateway, recorder), kind=CONTENT_TYPE)

    return page


def _latest(recorder: Recorder) -> Page:
    """The last decisions, without their details."""

    async def page(visit: Visit) -> None:
        visit.gateway.keys.admin(visit.exchange.headers)
        asked = query_of(visit).get("limit", "20")
        if len(asked) > 9 or not asked.isdecimal() or not 1 <= int(asked) <= MOST_RECORDS:
            raise InvalidRequest(
                "cannot read limit",
                why=f"{asked[:40]!r} is not a whole number from 1 to {MOST_RECORDS}",
                hint="leave it out for the last 20",
            )
        found = await asyncio.to_thread(_read_latest, recorder, int(asked))
        visit.reply(200, _encoder.encode({"decisions": found}))

    return page


def _read_latest(recorder: Recorder, limit: int) -> list[JsonObject]:
    try:
        with Records(recorder.path) as records:
            return records.latest(limit)
    except NothingYet:
        return []


def _decision(recorder: Recorder) -> Page:
    """One decision, explained later: of one's own key, or any for an admin."""

    async def page(visit: Visit) -> None:
        caller = visit.gateway.keys.caller(visit.exchange.headers)
        wanted = unquote(visit.exchange.path.removeprefix("/router/decisions/"))
        found = await asyncio.to_thread(_read_decision, recorder, wanted)
        if found is None or not (caller.admin or found.get("key") == caller.name):
            raise NotHere(
                f"no decision {wanted[:60]!r}",
                why=f"it is not in the records, or not yet: they are written every {WRITE_EVERY_S:g} s",
                hint="see the ids with: llm-router logs",
            )
        visit.reply(200, _encoder.encode(found))

    return page


def _read_decision(recorder: Recorder, wanted: str) -> JsonObject | None:
    try:
        with Records(recorder.path) as records:
            return records.decision(wanted)
    except NothingYet:
        return None


async def _openapi(visit: Visit) -> None:
    from llm_router.gateway.openapi import document

    visit.reply(200, document(visit.gateway.manages))


def query_of(visit: Visit) -> dict[str, str]:
    try:
        return dict(parse_qsl(visit.exchange.query, keep_blank_values=True, max_num_fields=50))
    except ValueError as error:
        raise InvalidRequest(
            "cannot read the query", why=str(error).lower(), hint="send less after the question mark"
        ) from None


def _json_of(data: bytes) -> JsonObject:
    try:
        told: JsonObject = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            "the body is not a JSON object", why=str(error), hint="send one JSON object, in UTF-8"
        ) from None
    refuse_lookalikes(told)
    return told


async def _pass_on(visit: Visit) -> None:
    """A request about models, for the first Ollama that answers."""
    caller = visit.gateway.keys.admin(visit.exchange.headers)
    data = await visit.body()
    named = _json_of(data)
    for field in ("model", "name", "from", "source", "destination"):
        value = named.get(field)
        if not isinstance(value, str) or not value:
            continue
        if visit.exchange.method != "DELETE":
            visit.router.refuse_cloud(value)
        if is_auto(value):
            raise InvalidRequest(
                f"{value} is no model that can be changed",
                why="it is the router's own name for: you choose",
                hint="name one of the models at /api/tags",
            )
    del caller
    await _pass(visit, data)


async def _pass_on_blob(visit: Visit) -> None:
    visit.gateway.keys.admin(visit.exchange.headers)
    digest = visit.exchange.path.removeprefix("/api/blobs/")
    if not _DIGEST.fullmatch(digest):
        raise InvalidRequest(
            f"no digest: {unquote(digest)[:80]!r}",
            why="a blob is named by its SHA-256",
            hint="send it to /api/blobs/sha256:DIGEST",
        )
    await _pass(visit, visit.exchange.pieces() if visit.exchange.method == "POST" else None)


async def _pass(visit: Visit, body: bytes | AsyncIterator[bytes] | None) -> None:
    exchange = visit.exchange
    provider = await _first_ollama(visit)
    headers = {"content-type": exchange.headers.get("content-type", "application/json")}
    async with provider.passed_on(exchange.method, exchange.path, body, headers) as passed:
        exchange.start(
            passed.status,
            (("content-type", passed.content_type), ("x-request-id", visit.request_id), *visit.cors),
        )
        try:
            while piece := await passed.next():
                exchange.write(piece)
                await exchange.drain()
        except LLMRouterError as error:
            exchange.end(_encoder.encode({"error": str(error)}) + b"\n")
        else:
            exchange.end()
        finally:
            visit.router.look_again(provider.name)


async def _first_ollama(visit: Visit) -> OllamaProvider:
    hosts = await visit.router.hosts()
    for provider, host in zip(visit.router.providers, hosts, strict=True):
        if isinstance(provider, OllamaProvider) and host.reachable:
            return provider
    found = [host for host in hosts if host.kind == "ollama"]
    if not found:
        raise NotHere("no Ollama is behind this gateway", hint="models are managed on Ollama hosts only")
    raise NoModelAvailable(
        "no Ollama host answers",
        why="; ".join(f"{host.name}: {host.problem}" for host in found),
        hint=found[0].way_out,
    )
