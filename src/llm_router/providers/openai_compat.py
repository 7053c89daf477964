"""Any server with an OpenAI-compatible API: vLLM, llama-server, LM Studio and others.

Ollama has such an API too, but cuts long prompts there without a word; ``OllamaProvider`` is for Ollama.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import msgspec

from llm_router.answer import Chunk, Delta, Embeddings, Final
from llm_router.errors import BadReply, CapabilityMissing, ModelNotInstalled, ProviderError
from llm_router.hosts.snapshot import HostKind, HostSnapshot, ResidentModel, unreachable
from llm_router.providers import as_sent
from llm_router.providers import openai_wire as wire
from llm_router.providers.base import ChatCall, EmbedCall, Timeouts
from llm_router.providers.http import HttpHost, drain, text_of_error
from llm_router.providers.meaning import broken_off, provider_error, refuse_cloud, silent
from llm_router.providers.reasoning import ReasoningSplitter
from llm_router.providers.sse import DONE, events
from llm_router.request import JsonObject, SentBody

_COMPLETIONS = "/v1/completions"
_KEEP_IDLE_S = 4.0
"""Servers on uvicorn close a connection that was idle for 5 s."""

_REST_S = 0.05
"""llama-server closes a connection after a stream, without saying so: just as it would be used again."""

_event_decoder = msgspec.json.Decoder(wire.Event)


class OpenAICompatProvider:
    """One OpenAI-compatible server; ``url`` with or without ``/v1`` at its end.

    ``usable_memory_gb`` goes into its snapshots as it is. ``served_names`` maps names of the fleet to names
    on this server, where they differ. Names that mean models on the internet are refused, with
    ModelUnusable, unless ``allow_cloud``: the server may be Ollama's own, or a gateway in front of one.
    """

    kind: HostKind = "openai"

    def __init__(
        self,
        name: str,
        url: str,
        *,
        timeouts: Timeouts | None = None,
        usable_memory_gb: float | None = None,
        served_names: Mapping[str, str] | None = None,
        api_key: str | None = None,
        allow_cloud: bool = False,
    ) -> None:
        self.name = name
        self.url = url.rstrip("/").removesuffix("/v1")
        self.allow_cloud = allow_cloud
        self._timeouts = timeouts or Timeouts()
        self._usable_memory_gb = usable_memory_gb
        self._served_names = dict(served_names or {})
        self._http = HttpHost(
            name,
            self.url,
            timeouts=self._timeouts,
            read_status=_provider_error,
            api_key=api_key,
            start_hint="start the server, or correct the url of this host in the configuration",
            keep_idle_s=_KEEP_IDLE_S,
        )

    async def close(self) -> None:
        await self._http.close()

    async def snapshot(self) -> HostSnapshot:
        try:
            models, resident = wire.installed(await self._http.get("/v1/models"))
        except ProviderError as error:
            return silent(self.name, self.kind, self._http.shown_url, error)
        except msgspec.ValidationError as error:
            return unreachable(
                self.name, self.kind, self._http.shown_url, f"it does not speak OpenAI's API ({error})"
            )
        return HostSnapshot(
            name=self.name,
            kind=self.kind,
            url=self._http.shown_url,
            reachable=True,
            installed={model.name: model for model in models},
            resident={
                model.name: ResidentModel(model.name, model.size_bytes, context_length=model.context_length)
                for model in models
                if model.name in resident
            },
            usable_memory_gb=self._usable_memory_gb,
            served_names=self._served_names,
            taken_at_s=time.time(),
        )

    async def chat(self, call: ChatCall) -> AsyncGenerator[Chunk, None]:
        refuse_cloud(call.model, self.name, allowed=self.allow_cloud)
        path = self._path(call)
        sent = as_sent.sent_body(call, path)
        if sent is not None and not sent.stream:
            limit_s = (call.timeouts or self._timeouts).total_s
            for chunk in await self._whole(path, call, sent, limit_s):
                yield chunk
            return
        answer = _Reading(call, sent)
        body = _body(path, call, sent)
        async with (
            self._http.lines(path, body, model=call.model, timeouts=call.timeouts, rest_s=_REST_S) as lines,
            aclosing(events(lines)) as events_of_answer,
        ):
            try:
                async for data in events_of_answer:
                    piece = answer.read(data)
                    if not piece.empty or piece.logprobs or piece.raw:
                        yield piece
                    if answer.done:
                        break
                for last in answer.end():
                    yield last
            except ProviderError as error:
                if answer.begun:
                    raise broken_off(error, self.name, call.model) from error
                error.host, error.model = self.name, call.model
                raise
            await drain(lines)

    async def whole(self, call: ChatCall, limit_s: float, *, anew: bool) -> tuple[Chunk, ...] | None:
        """All pieces of ``chat`` at once; None where the caller's own body asks for a stream, and without
        ``anew`` where the body is not the caller's own.

        Raises a ProviderError, HostTimeout where it takes longer than ``limit_s``.
        """
        path = self._path(call)
        sent = as_sent.sent_body(call, path)
        if sent.stream if sent is not None else not anew:
            return None
        refuse_cloud(call.model, self.name, allowed=self.allow_cloud)
        return await self._whole(path, call, sent, limit_s)

    async def _whole(
        self, path: str, call: ChatCall, sent: SentBody | None, limit_s: float
    ) -> tuple[Chunk, ...]:
        """One JSON reply: its first byte comes with its last, so only the whole request's time counts."""
        body = _body(path, call, sent)
        if sent is None:
            body["stream"] = False
            del body["stream_options"]
        try:
            data = await self._http.whole(path, body, limit_s, call.model)
            return _Reading(call, sent).read_whole(data)
        except ProviderError as error:
            error.host, error.model = self.name, call.model
            raise

    def _path(self, call: ChatCall) -> str:
        if not wire.completes_text(call):
            return "/v1/chat/completions"
        if call.request.images:
            raise CapabilityMissing(
                f"{call.model}: a raw prompt cannot carry images on this server",
                host=self.name,
                model=call.model,
            )
        return _COMPLETIONS

    async def embed(self, call: EmbedCall) -> Embeddings:
        refuse_cloud(call.model, self.name, allowed=self.allow_cloud)
        limit_s = self._timeouts.first_byte_s
        body = wire.embed_body(call)
        value = await self._http.post("/v1/embeddings", body, model=call.model, limit_s=limit_s)
        try:
            vectors, prompt_tokens = wire.vectors(value)
        except msgspec.ValidationError as error:
            raise BadReply(
                f"{call.model}: no vectors in the reply", why=str(error), host=self.name, model=call.model
            ) from error
        if len(vectors) != len(call.inputs):
            raise BadReply(
                f"{call.model}: {len(vectors)} vectors for {len(call.inputs)} texts",
                host=self.name,
                model=call.model,
            )
        return Embeddings(vectors, call.model, prompt_tokens)


def _body(path: str, call: ChatCall, sent: SentBody | None) -> JsonObject:
    """The caller's own body where there is one for ``path``, else one that asks for a stream."""
    if sent is not None:
        return as_sent.openai_body(sent, call)
    return wire.completion_body(call) if path == _COMPLETIONS else wire.chat_body(call)


class _Reading:
    """One answer while it is read: what of it has come, and whether its end has."""

    def __init__(self, call: ChatCall, sent: SentBody | None) -> None:
        self._raw = sent is not None
        self._raw_end: list[bytes] = []
        self._shows_usage = sent is not None and as_sent.wants_usage(sent)
        self._splitter = None if self._raw else _splitter(call)
        self._tool_calls = wire.ToolCalls()
        self._asked_for = call.model
        self._model = ""
        self._done_reason = ""
        self._usage = wire.usage(None, None)
        self.begun = False
        self.done = False

    def read(self, data: bytes) -> Delta:
        """What one event brings; raises the error that it carries."""
        if data.strip() == DONE:
            self.done = True
            return Delta()
        event = self._decoded(data)
        if event.usage is not None or event.timings is not None:
            self._usage = wire.usage(event.usage, event.timings)
        self._model = self._model or event.model or ""
        choice = event.choice
        if choice is None:
            if self._shows_usage:
                self._raw_end.append(data)
            return Delta()
        self._tool_calls.feed(choice)
        self._done_reason = choice.finish_reason or self._done_reason
        if not self._raw:
            return self._split(wire.delta(choice))
        return self._as_sent(choice, data)

    def _as_sent(self, choice: wire.Choice, data: bytes) -> Delta:
        """The piece with the server's own words for it; those of the end come with ``Final``."""
        if self._done_reason:
            self._raw_end.append(data)
            data = b""
        piece = wire.delta(choice, data)
        self.begun = self.begun or not piece.empty
        return piece

    def read_whole(self, data: bytes) -> tuple[Chunk, ...]:
        """A reply that is no stream. Raises BadReply, or the error that it carries."""
        event = self._decoded(data)
        choice = event.choice
        if choice is None:
            raise BadReply(f"{self._asked_for}: the reply has no answer", why="it has no choices")
        self._model = event.model or ""
        self._usage = wire.usage(event.usage, event.timings)
        choice.delta = choice.delta or choice.message
        self._tool_calls.feed(choice)
        self._done_reason = choice.finish_reason or "stop"
        if not self._raw:
            return (self._split(wire.delta(choice)), *self.end())
        self._raw_end.append(data)
        return (wire.delta(choice, b""), *self.end())

    def end(self) -> tuple[Chunk, ...]:
        """What was held back, and the final piece. Raises BadReply where the answer has no end."""
        if not (self.done or self._done_reason):
            raise BadReply(
                f"{self._asked_for}: the answer has no end", why="the stream stopped without its last event"
            )
        thinking, text = self._splitter.finish() if self._splitter else ("", "")
        try:
            rest = Delta(text, thinking, self._tool_calls.whole(), raw=b"" if self._raw else None)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise BadReply(
                f"{self._asked_for}: a tool call of the answer cannot be read", why=str(error)
            ) from error
        final = Final(
            self._model or self._asked_for, _reason(self._done_reason), self._usage, tuple(self._raw_end)
        )
        return (final,) if rest.empty else (rest, final)

    def _decoded(self, data: bytes) -> wire.Event:
        try:
            event = _event_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadReply(
                f"{self._asked_for}: an event of the answer cannot be read", why=str(error)
            ) from error
        if event.error is not None:
            text = text_of_error({"error": event.error}) or "no reason given"
            raise _provider_error(_status(event.error), text, self._asked_for)
        return event

    def _split(self, piece: Delta) -> Delta:
        if self._splitter is not None:
            thinking, text = self._splitter.feed(piece.text)
            piece = Delta(text, piece.thinking + thinking, logprobs=piece.logprobs)
        self.begun = self.begun or not piece.empty
        return piece


def _splitter(call: ChatCall) -> ReasoningSplitter | None:
    """Many of these servers leave ``<think>`` in the text; what continues a raw prompt is left as it is."""
    if call.quirks.reasoning_markers is not None:
        return ReasoningSplitter(call.quirks.reasoning_markers)
    return None if wire.completes_text(call) else ReasoningSplitter()


def _status(error: object) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _reason(finish_reason: str) -> str:
    """OpenAI's words for the end in Ollama's: a turn that ends in tool calls is a ``stop`` there."""
    return "stop" if finish_reason in ("", "tool_calls", "function_call") else finish_reason


def _provider_error(status: int, text: str, model: str) -> ProviderError:
    error = provider_error(status, text, model)
    if isinstance(error, ModelNotInstalled):
        error.hint = "list what the server has: GET /v1/models; map names with the host's models setting"
    return error
