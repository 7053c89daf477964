"""Ollama through its native API, which alone can set the context size and tells errors in mid-stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager

import msgspec

from llm_router.answer import Chunk, Delta, Embeddings
from llm_router.errors import BadReply, CapabilityMissing, HostTimeout, ProviderError
from llm_router.hosts.snapshot import HostKind, HostSnapshot, InstalledModel, ResidentModel, unreachable
from llm_router.names import canonical
from llm_router.providers import as_sent
from llm_router.providers import ollama_wire as wire
from llm_router.providers.base import ChatCall, EmbedCall, Timeouts
from llm_router.providers.http import HttpHost, Passed, drain
from llm_router.providers.meaning import broken_off, provider_error, refuse_cloud, silent
from llm_router.providers.reasoning import ReasoningSplitter
from llm_router.request import ApiKind, Json, JsonObject

_SHOWS_AT_ONCE = 8
_SHOWS_SHARE = 0.4
"""All questions for details together may take this share of ``control_s``: a snapshot is short on time."""
_SLOW_SHOW_REST_S = 30.0
"""A model whose details did not come in time is not asked for them again for so long."""

_line_decoder = msgspec.json.Decoder(wire.Line)

_Stamp = tuple[str, str]
"""(server's version, digest of the file): details hold as long as both are the same."""


class PullProgress(msgspec.Struct, frozen=True):
    """One line of a pull: what is done now and, while a layer loads, how far it is, in bytes."""

    status: str
    digest: str = ""
    total_bytes: int = 0
    completed_bytes: int = 0


class OllamaProvider:
    """One Ollama server.

    ``usable_memory_gb`` and ``parallel`` go into its snapshots as they are: Ollama tells neither the size of
    its memory nor its OLLAMA_NUM_PARALLEL.
    ``served_names`` maps names of the fleet to names on this server, where they differ. Names that mean
    models on the internet are refused, with ModelUnusable, unless ``allow_cloud``.
    """

    kind: HostKind = "ollama"

    def __init__(
        self,
        name: str,
        url: str,
        *,
        timeouts: Timeouts | None = None,
        usable_memory_gb: float | None = None,
        parallel: int = 1,
        served_names: Mapping[str, str] | None = None,
        api_key: str | None = None,
        allow_cloud: bool = False,
    ) -> None:
        self.name = name
        self.url = url
        self.allow_cloud = allow_cloud
        self._timeouts = timeouts or Timeouts()
        self._usable_memory_gb = usable_memory_gb
        self._parallel = parallel
        self._served_names = dict(served_names or {})
        self._http = HttpHost(
            name,
            url,
            timeouts=self._timeouts,
            read_status=provider_error,
            api_key=api_key,
            start_hint="start it with: ollama serve; or set OLLAMA_HOST to the right address",
        )
        self._details: dict[str, tuple[_Stamp, InstalledModel]] = {}
        self._slow_until_s: dict[tuple[str, _Stamp], float] = {}

    async def close(self) -> None:
        await self._http.close()

    async def snapshot(self) -> HostSnapshot:
        try:
            version = await self._version()
            tags, ps = await self._both("/api/tags", "/api/ps")
            resident = wire.resident(ps)
            installed = await self._with_details(wire.installed(tags, allow_cloud=self.allow_cloud), version)
        except ProviderError as error:
            return silent(self.name, self.kind, self._http.shown_url, error)
        except msgspec.ValidationError as error:
            return unreachable(
                self.name, self.kind, self._http.shown_url, f"it does not speak Ollama's API ({error})"
            )
        return HostSnapshot(
            name=self.name,
            kind=self.kind,
            url=self._http.shown_url,
            reachable=True,
            version=version,
            installed={model.name: model for model in installed},
            resident={model.name: model for model in resident},
            usable_memory_gb=self._usable_memory_gb,
            parallel=self._parallel,
            served_names=self._served_names,
            taken_at_s=time.time(),
        )

    async def _version(self) -> str:
        try:
            value = await self._http.get("/api/version")
        except ProviderError as error:
            if error.status == 404:
                raise BadReply("no Ollama", why="something else listens there, not Ollama") from error
            raise
        if not isinstance(value, dict) or not isinstance(value.get("version"), str):
            raise BadReply("no Ollama", why="something else listens there, not Ollama")
        return str(value["version"])

    async def _both(self, *paths: str) -> list[Json]:
        """GETs them at once; when one fails, the others are over too, not left running."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._looked(path)) for path in paths]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return [task.result() for task in tasks]

    async def _looked(self, path: str) -> Json:
        try:
            return await self._http.get(path)
        except ProviderError as error:
            if error.status == 404:
                why = f"it has no {path}: a very old Ollama, or another server (then set its kind: openai)"
                raise BadReply("no whole Ollama", why=why) from error
            raise

    async def _with_details(self, models: Iterable[InstalledModel], version: str) -> list[InstalledModel]:
        """Adds what only ``/api/show`` tells, asked once per model file and version of the server."""
        gate = asyncio.Semaphore(_SHOWS_AT_ONCE)
        until_s = asyncio.get_running_loop().time() + _SHOWS_SHARE * self._timeouts.control_s
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._detailed(model, (version, model.digest), gate, until_s))
                for model in models
            ]
        return [task.result() for task in tasks]

    async def _detailed(
        self, model: InstalledModel, stamp: _Stamp, gate: asyncio.Semaphore, until_s: float
    ) -> InstalledModel:
        """The model with its details; as it is where they cannot be had, for what /api/tags told still holds.

        It may have been deleted a moment ago, or its file be damaged. Only a success is kept.
        """
        name = canonical(model.name)
        known = self._details.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        if self._slow_until_s.get((name, stamp), 0.0) > time.monotonic():
            return model
        try:
            async with asyncio.timeout_at(until_s), gate:
                value = await self._http.post("/api/show", {"model": model.name})
            shown = wire.with_details(model, value)
        except (TimeoutError, HostTimeout):
            self._slow_until_s[(name, stamp)] = time.monotonic() + _SLOW_SHOW_REST_S
        except (ProviderError, msgspec.ValidationError, ValueError, OverflowError):
            pass
        else:
            self._slow_until_s.pop((name, stamp), None)
            self._details[name] = (stamp, shown)
            return shown
        self._details.pop(name, None)
        return model

    async def chat(self, call: ChatCall) -> AsyncGenerator[Chunk, None]:
        refuse_cloud(call.model, self.name, allowed=self.allow_cloud)
        await self._require_sight(call)
        native = call.request.kind is ApiKind.GENERATE
        path = "/api/generate" if native else "/api/chat"
        sent = as_sent.sent_body(call, path)
        if sent is not None:
            body = as_sent.ollama_body(sent, call)
        else:
            body = wire.generate_body(call) if native else wire.chat_body(call)
        markers = call.quirks.reasoning_markers
        splitter = ReasoningSplitter(markers) if markers else None
        answer = _Reading(call.model, splitter, raw=sent is not None, whole=call.whole)
        begun = False
        async with self._http.lines(path, body, model=call.model, timeouts=call.timeouts) as lines:
            try:
                async for data in lines:
                    chunks, error = answer.read([data, *lines.here()])
                    for chunk in chunks:
                        begun = begun or (isinstance(chunk, Delta) and not chunk.empty)
                        yield chunk
                    if error is not None:
                        raise error
                    if answer.done:
                        await drain(lines)
                        return
                raise BadReply(
                    f"{call.model}: the answer has no end", why="the stream stopped without its last line"
                )
            except ProviderError as error:
                if begun:
                    raise broken_off(error, self.name, call.model) from error
                error.host, error.model = self.name, call.model
                raise

    async def _require_sight(self, call: ChatCall) -> None:
        """Before 0.30, Ollama passes over the images of a request for a model that cannot see them."""
        if not call.request.images:
            return
        known = self._details.get(canonical(call.model))
        model = known[1] if known is not None else await self._asked_for_details(call.model)
        if model.capabilities is not None and "vision" not in model.capabilities:
            raise CapabilityMissing(
                f"{call.model}: the model cannot see images",
                why="the server does not list vision among what it can do",
                host=self.name,
                model=call.model,
            )

    async def _asked_for_details(self, model: str) -> InstalledModel:
        value = await self._http.post("/api/show", {"model": model}, model=model)
        try:
            return wire.with_details(InstalledModel(model), value)
        except (msgspec.ValidationError, ValueError, OverflowError):
            return InstalledModel(model)

    async def embed(self, call: EmbedCall) -> Embeddings:
        refuse_cloud(call.model, self.name, allowed=self.allow_cloud)
        limit_s = self._timeouts.first_byte_s
        path, body = wire.embed_task(call)
        value = await self._http.post(path, body, model=call.model, limit_s=limit_s)
        try:
            found = wire.vectors(value, call.model)
        except (KeyError, TypeError, ValueError) as error:
            raise BadReply(
                f"{call.model}: no vectors in the reply", host=self.name, model=call.model
            ) from error
        if len(found.vectors) != len(call.inputs):
            raise BadReply(
                f"{call.model}: {len(found.vectors)} vectors for {len(call.inputs)} texts",
                host=self.name,
                model=call.model,
            )
        return found

    async def preload(self, model: str, *, num_ctx: int | None, keep_alive: Json) -> float | None:
        """Loads the model with this context size, or unloads it where ``keep_alive`` is 0; gives the seconds
        that loading took, where the server tells them. Raises a ProviderError."""
        refuse_cloud(model, self.name, allowed=self.allow_cloud)
        body: JsonObject = {"model": model, "stream": False}
        if num_ctx:
            body["options"] = {"num_ctx": num_ctx}
        if keep_alive is not None:
            body["keep_alive"] = keep_alive
        details = self._details.get(canonical(model))
        capabilities = details[1].capabilities if details is not None else None
        embeds = capabilities is not None and "completion" not in capabilities
        path = "/api/embed" if embeds else "/api/generate"
        if embeds:
            body["input"] = []
        value = await self._http.post(path, body, model=model, limit_s=self._timeouts.first_byte_s)
        took_ns = value.get("load_duration") if isinstance(value, dict) else None
        return took_ns / 1e9 if isinstance(took_ns, int) and took_ns > 0 else None

    async def resident(self) -> list[ResidentModel]:
        """What is in memory now. Raises a ProviderError."""
        try:
            return list(wire.resident(await self._http.get("/api/ps")))
        except msgspec.ValidationError as error:
            raise BadReply(
                "the list of loaded models cannot be read", why=str(error), host=self.name
            ) from error

    async def ask(self, method: str, path: str, body: JsonObject | None = None) -> Json:
        """One of the server's own short questions, such as ``GET /api/tags``. Raises a ProviderError."""
        if method == "GET":
            return await self._http.get(path)
        return await self._http.post(path, body or {})

    def passed_on(
        self, method: str, path: str, body: AsyncIterator[bytes] | bytes | None, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[Passed]:
        """A request that is the server's own affair (pull, create, blobs): its reply as it comes.

        Raises a ProviderError where none comes.
        """
        return self._http.passed_on(method, path, body, headers)

    async def pull(self, model: str) -> AsyncGenerator[PullProgress, None]:
        """Downloads a model onto the server. Raises a ProviderError where the server reports one."""
        refuse_cloud(model, self.name, allowed=self.allow_cloud)
        body: JsonObject = {"model": model, "stream": True}
        async with self._http.lines("/api/pull", body, model=model) as lines:
            async for raw in lines:
                if raw.strip():
                    yield self._progress(raw, model)

    def _progress(self, raw: bytes, model: str) -> PullProgress:
        try:
            value: Json = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadReply(f"{model}: the progress of the pull cannot be read", host=self.name) from error
        if not isinstance(value, dict):
            raise BadReply(f"{model}: the progress of the pull cannot be read", host=self.name)
        if "error" in value:
            raise BadReply(f"cannot pull {model}", why=str(value["error"]), host=self.name, model=model)
        total, completed = value.get("total"), value.get("completed")
        return PullProgress(
            status=str(value.get("status", "")),
            digest=str(value.get("digest", "")),
            total_bytes=total if isinstance(total, int) else 0,
            completed_bytes=completed if isinstance(completed, int) else 0,
        )


class _Reading:
    """One answer while it is read. With ``raw`` each line itself goes along, the last one with ``Final``;
    with ``whole`` the last one alone, and words that come together are one piece."""

    def __init__(self, model: str, splitter: ReasoningSplitter | None, *, raw: bool, whole: bool) -> None:
        self.done = False
        self._model = model
        self._splitter = splitter
        self._raw = raw
        self._whole = whole

    def read(self, lines: list[bytes]) -> tuple[list[Chunk], ProviderError | None]:
        """What the lines bring, up to the last one of the answer or to the error that one of them is."""
        chunks: list[Chunk] = []
        lines = [data for data in lines if data and not data.isspace()]
        if self._whole:
            lines = self._take_words(lines, chunks)
        try:
            for data in lines:
                self._read(data, chunks)
                if self.done:
                    break
        except ProviderError as error:
            return chunks, error
        return chunks, None

    def _take_words(self, lines: list[bytes], chunks: list[Chunk]) -> list[bytes]:
        """Takes the lines at the beginning that hold nothing but words, as one piece; gives those left."""
        try:
            read = _line_decoder.decode_lines(b"\n".join(lines))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return lines
        if len(read) != len(lines):  # one of them holds more than a value, which is none of Ollama's lines
            return lines
        words: list[tuple[str | None, str | None]] = []
        for line in read:
            message = line.message
            if line.done or line.error is not None or line.logprobs:
                break
            if message is None:
                words.append((line.response, line.thinking))
            elif message.tool_calls:
                break
            else:
                words.append((message.content, message.thinking))
        if words:
            texts, thoughts = zip(*words, strict=True)
            piece = Delta("".join(filter(None, texts)), "".join(filter(None, thoughts)))
            if self._splitter is not None:
                piece = self._split(self._splitter, piece)
            if not piece.empty:
                chunks.append(piece)
        return lines[len(words) :]

    def _read(self, data: bytes, chunks: list[Chunk]) -> None:
        try:
            line = _line_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadReply(f"{self._model}: a line of the answer cannot be read", why=str(error)) from error
        if line.error is not None:
            raise provider_error(500, line.error, self._model)
        self.done = line.done is True
        try:
            shown = self._raw and not self._whole
            piece = wire.delta(line, (b"" if self.done else data) if shown else None)
        except msgspec.DecodeError as error:
            raise BadReply(
                f"{self._model}: a tool call of the answer cannot be read", why=str(error)
            ) from error
        if self._splitter is not None:
            piece = self._split(self._splitter, piece)
        if not piece.empty or piece.logprobs or piece.raw:
            chunks.append(piece)
        if self.done:
            chunks.append(wire.final(line, (data,) if self._raw else ()))

    def _split(self, splitter: ReasoningSplitter, piece: Delta) -> Delta:
        thinking, text = splitter.feed(piece.text)
        if self.done:
            late_thinking, late_text = splitter.finish()
            thinking, text = thinking + late_thinking, text + late_text
        return Delta(text, piece.thinking + thinking, piece.tool_calls, piece.logprobs)


__all__ = ["OllamaProvider", "PullProgress"]
