"""Scripted misbehaviour: which fault strikes which request, how often, and what a test holds back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from llm_router.testing.fake_models import canonical_name


class Fault(Enum):
    """Everything that can be made to go wrong. The value is the name the command line takes."""

    SLOW_LOAD = "slow_load"
    """The next load is held until `release()`, or for the given seconds."""
    SLOW_TOKENS = "slow_tokens"
    """The answer is held after some chunks until `release()`, or each later chunk waits the given seconds."""
    WEDGED = "wedged"
    """The load never ends and blocks every later load; /api/ps, /api/tags and resident models stay fine."""
    NOT_FOUND = "not_found"
    NO_TOOLS = "no_tools"
    OOM = "oom"
    """No memory while loading, or, for a resident model, while generating, which unloads every model."""
    BUSY = "busy"
    UNKNOWN_ARCHITECTURE = "unknown_architecture"
    RUNNER_DIED = "runner_died"
    DROP_BEFORE_FIRST_BYTE = "drop_before_first_byte"
    DROP_MID_STREAM = "drop_mid_stream"
    """The connection is cut after some chunks."""
    ERROR_MID_STREAM = "error_mid_stream"
    """The last line is an error though the status was 200; on /v1 the error text is lost."""
    GARBAGE_LINE = "garbage_line"
    HALF_LINE = "half_line"
    """The stream ends, politely, in the middle of a line."""
    SPLIT_LINES = "split_lines"
    """Legal, but awkward: every line arrives in two writes, cut inside a character where one can be cut."""
    NO_DONE = "no_done"
    EMPTY_ANSWER = "empty_answer"
    HTML = "html"
    """A proxy's page in place of an answer."""
    REDIRECT = "redirect"
    TRUNCATE = "truncate"
    """The prompt is cut to about half the context, which only `prompt_eval_count` shows."""
    WRONG_MODEL = "wrong_model"
    INVALID_UTF8 = "invalid_utf8"


INFERENCE_PATHS = frozenset(
    {"/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/chat/completions", "/v1/embeddings"}
)
_STRIKES_ANY_PATH = frozenset({Fault.HTML, Fault.REDIRECT, Fault.DROP_BEFORE_FIRST_BYTE})

NO_TOOLS_TEXT = "{path_name} does not support tools"
BUSY_TEXT = "server busy, please try again.  maximum pending requests exceeded"
OOM_LOAD_TEXT = (
    "llama-server process has terminated: error: ggml_backend_cuda_buffer_type_alloc_buffer: "
    "allocating {mib:.2f} MiB on device 0: cudaMalloc failed: out of memory"
)
OOM_RUN_TEXT = "CUDA error: out of memory"
UNKNOWN_ARCHITECTURE_TEXT = (
    "llama-server process has terminated: error loading model: error loading model architecture: "
    "unknown model architecture: '{architecture}'"
)
RUNNER_DIED_TEXT = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
HTML_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>{status} {reason}</title></head>\n"
    "<body><center><h1>{status} {reason}</h1></center><hr><center>nginx</center></body></html>\n"
)


class Gate:
    """Holds coroutines of any event loop until `open()` is called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        """Let every holder go, and hold nobody any more."""
        with self._lock:
            self._open = True
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    async def wait(self, seconds: float | None) -> None:
        """Return when the gate opens, or after `seconds` where given."""
        event = asyncio.Event()
        with self._lock:
            if self._open:
                return
            self._waiting.append((asyncio.get_running_loop(), event))
        if seconds is None:
            await event.wait()
            return
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return


@dataclass(slots=True)
class ScriptedFault:
    """One scripted fault: whom it strikes, how often still, and its numbers."""

    fault: Fault
    model: str | None = None
    path: str | None = None
    remaining: int | None = None
    after: int = 1
    seconds: float | None = None
    status: int | None = None
    gate: Gate = field(default_factory=Gate)

    def strikes(self, path: str, model: str | None) -> bool:
        """Whether a request for `model` on `path` is one of its targets."""
        if self.remaining == 0 or (self.path is not None and self.path != path):
            return False
        if self.path is None and not self._belongs_on(path):
            return False
        return self.model is None or (model is not None and canonical_name(model) == self.model)

    def _belongs_on(self, path: str) -> bool:
        if self.fault in _STRIKES_ANY_PATH or path in INFERENCE_PATHS:
            return True
        return self.fault is Fault.NOT_FOUND and path == "/api/show"


class FaultScript:
    """The faults currently scripted, safe to change from any thread while the server runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scripted: list[ScriptedFault] = []

    def add(self, scripted: ScriptedFault) -> None:
        """Put one more fault at the end of the script."""
        with self._lock:
            self._scripted.append(scripted)

    def clear(self) -> None:
        """Forget every fault and let go of whatever they hold."""
        with self._lock:
            scripted, self._scripted = self._scripted, []
        for one in scripted:
            one.gate.open()

    def release(self, model: str | None) -> None:
        """Let go of what is held, for one model or for all, and hold nothing more. Wedges need `clear`."""
        wanted = None if model is None else canonical_name(model)
        with self._lock:
            matching = [
                one
                for one in self._scripted
                if one.fault is not Fault.WEDGED and (wanted is None or one.model in (None, wanted))
            ]
        for one in matching:
            one.gate.open()

    def strike(self, fault: Fault, path: str, model: str | None) -> ScriptedFault | None:
        """The scripted fault of this kind that strikes the request, counted as used; else None."""
        with self._lock:
            for one in self._scripted:
                if one.fault is fault and one.strikes(path, model):
                    if one.remaining is not None:
                        one.remaining -= 1
                    return one
        return None


Strike = Callable[[Fault], ScriptedFault | None]
"""A request's own view of the script: asks whether one kind of fault strikes it."""
