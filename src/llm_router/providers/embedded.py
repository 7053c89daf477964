"""The embedded engine: a small model that comes with the library, for where no host can answer.

llama.cpp's server runs in a process of its own (docs/decisions/0008-embedded-engine.md) and is spoken to
like any other OpenAI-compatible server.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from llm_router.answer import Chunk, Embeddings
from llm_router.errors import (
    CapabilityMissing,
    HostUnreachable,
    LLMRouterError,
    ModelNotInstalled,
    RunnerFailed,
)
from llm_router.hosts.snapshot import HostKind, HostSnapshot, InstalledModel, ResidentModel, unreachable
from llm_router.names import canonical, same_model
from llm_router.providers import embedded_weights
from llm_router.providers.base import ChatCall, EmbedCall, Timeouts
from llm_router.providers.embedded_process import EngineProcess, Order, engine_folder, start
from llm_router.providers.embedded_weights import Availability, Progress
from llm_router.providers.openai_compat import OpenAICompatProvider

START_LIMIT_S = 60.0
"""Loading takes half a second on two cores; a slow disk may need a few more."""

OUTPUT_TOKENS = 1024
"""Ends an answer for which the caller set no limit; a model this small likes to repeat itself."""

CHAT_TEMPLATE = "chatml"
"""As the template in the file, without the system message that it adds of its own: asked for the capital of
France at temperature 0, the model says Paris without that message and nonsense with it."""

_PROBLEM_KEPT_S = 300.0

KV_KIB_PER_TOKEN = 22.5
"""SmolLM2-135M: f16 keys and values of 30 layers, 3 KV heads of 64 (its config.json)."""


@dataclass(frozen=True, slots=True)
class _Running:
    engine: EngineProcess
    provider: OpenAICompatProvider


class EmbeddedProvider:
    """SmolLM2-135M-Instruct on this machine's processor; started by the first answer, not before.

    ``weights`` is another GGUF file to run; None means the pinned one, fetched once if need be.
    ``num_ctx`` is its context in tokens. ``progress`` is told about a download. May be used from one event
    loop after another.
    """

    kind: HostKind = "embedded"

    def __init__(
        self,
        name: str = "embedded",
        *,
        model_name: str = "smollm2:135m",
        weights: Path | None = None,
        num_ctx: int = 4096,
        threads: int | None = None,
        progress: Progress | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.name = name
        self.url = "embedded"
        self.model_name = model_name
        self._weights = weights
        self._num_ctx = num_ctx
        self._threads = threads
        self._progress = progress
        self._timeouts = timeouts or Timeouts()
        self._running: _Running | None = None
        self._starting = threading.Lock()
        self._stops: set[threading.Event] = set()
        self._problem: tuple[Availability, float] = (Availability(), 0.0)

    async def snapshot(self) -> HostSnapshot:
        lacking = self._lacking()
        if not lacking:
            problem = f"{lacking.reason}: {lacking.hint}" if lacking.hint else lacking.reason
            return unreachable(self.name, self.kind, self.url, problem, lacking.hint)
        failed = self._failed_lately()
        running = self._running is not None and self._running.engine.alive
        model = self._model()
        memory_bytes = model.size_bytes + round(KV_KIB_PER_TOKEN * 1024 * self._num_ctx)
        resident = ResidentModel(self.model_name, memory_bytes, context_length=self._num_ctx)
        return HostSnapshot(
            name=self.name,
            kind=self.kind,
            url=self.url,
            reachable=True,
            version=importlib.metadata.version("xllamacpp"),
            installed={self.model_name: model},
            resident={self.model_name: resident} if running else {},
            unhealthy={canonical(self.model_name): failed.reason} if failed.reason else {},
            hint=failed.hint,
            taken_at_s=time.time(),
        )

    async def chat(self, call: ChatCall) -> AsyncGenerator[Chunk, None]:
        """As Provider.chat; also raises MissingExtra where the engine is not installed."""
        self._refuse(call)
        running = await self._started()
        try:
            async with aclosing(running.provider.chat(call)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except HostUnreachable as error:
            raise RunnerFailed(
                "the embedded engine's process died", why=error.why, host=self.name, model=call.model
            ) from error

    async def embed(self, call: EmbedCall) -> Embeddings:
        raise CapabilityMissing(
            f"{call.model} makes no vectors",
            why="the embedded model is a chat model",
            hint="install an embedder on a host: ollama pull nomic-embed-text",
            host=self.name,
            model=call.model,
        )

    async def close(self) -> None:
        for stop in self._stops:
            stop.set()
        try:
            running = await asyncio.to_thread(self._stopped)
        except RuntimeError:  # the interpreter is ending and starts no more threads
            running = self._stopped()
        if running is not None:
            await running.provider.close()

    def _lacking(self) -> Availability:
        """What it would take to start that is not there; nothing where it runs."""
        if self._running is not None and self._running.engine.alive:
            return Availability()
        if self._weights is None:
            return embedded_weights.available()
        return Availability("" if self._weights.is_file() else f"there is no model file {self._weights}")

    def _failed_lately(self) -> Availability:
        """Why it could not be started a moment ago; empty where it could, or was not tried."""
        problem, until_s = self._problem
        return problem if time.monotonic() < until_s else Availability()

    def _model(self) -> InstalledModel:
        own = self._weights is not None
        return InstalledModel(
            name=self.model_name,
            size_bytes=self._weights.stat().st_size if self._weights else embedded_weights.FILE_BYTES,
            capabilities=frozenset({"completion"}),
            context_length=self._num_ctx,
            architecture="" if own else "llama",
            params="" if own else "135M",
            quantization="" if own else "Q4_1",
            digest="" if own else embedded_weights.FILE_SHA256,
            kv_kib_per_token=None if own else KV_KIB_PER_TOKEN,
            licence="" if own else "Apache-2.0",
        )

    def _refuse(self, call: ChatCall) -> None:
        """What llama.cpp would try although this model cannot do it."""
        if not same_model(call.model, self.model_name):
            raise ModelNotInstalled(
                f"{call.model} is not installed",
                why=f"the embedded engine has {self.model_name} only",
                host=self.name,
                model=call.model,
            )
        request = call.request
        wanted = {"tools": bool(request.tools), "images": bool(request.images), "thinking": bool(call.think)}
        missing = [capability for capability, asked in wanted.items() if asked]
        if missing:
            raise CapabilityMissing(
                f"{call.model}: the model cannot do that",
                why=f"it does not support {' or '.join(missing)}",
                host=self.name,
                model=call.model,
            )

    async def _started(self) -> _Running:
        """Many first requests at once start one engine; on a thread, for it may download and must wait.

        A caller who is cancelled stops the download, and its thread ends. Others who wait begin anew.
        """
        running = self._running
        if running is not None and running.engine.alive:
            return running
        stop = threading.Event()
        self._stops.add(stop)
        try:
            started = await asyncio.to_thread(self._start, stop)
        except asyncio.CancelledError:
            stop.set()
            raise
        finally:
            self._stops.discard(stop)
        if running is not None and running is not started:
            await running.provider.close()
        return started

    def _start(self, stop: threading.Event) -> _Running:
        with self._starting:
            if self._running is not None and self._running.engine.alive:
                return self._running
            try:
                engine_folder()
                weights = self._weights or embedded_weights.ensure(self._progress, stop=stop)
                engine = start(self._order(weights), START_LIMIT_S)
            except LLMRouterError as error:
                if not stop.is_set():
                    failed = Availability(error.why or error.what, error.hint or "")
                    self._problem = (failed, time.monotonic() + _PROBLEM_KEPT_S)
                raise
            provider = OpenAICompatProvider(
                self.name, engine.url, timeouts=self._timeouts, api_key=engine.key
            )
            self._running = _Running(engine, provider)
            return self._running

    def _order(self, weights: Path) -> Order:
        return Order(
            weights=weights,
            alias=self.model_name,
            num_ctx=self._num_ctx,
            output_tokens=OUTPUT_TOKENS,
            threads=self._threads or _threads(),
            chat_template="" if self._weights else CHAT_TEMPLATE,
        )

    def _stopped(self) -> _Running | None:
        with self._starting:
            running, self._running = self._running, None
            if running is not None:
                running.engine.stop()
            return running


def _threads() -> int:
    """Half of the processors, at most four. llama.cpp's threads wait for each other without sleeping.

    Where other programs want the processors too, a thread for each makes answers slower, not faster
    (docs/decisions/0008-embedded-engine.md).
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, usable // 2))
