"""What the error texts of Ollama and llama.cpp servers mean, as one table of phrases.

The texts are the only thing that tells these failures apart: most of them arrive as status 500.
"""

from __future__ import annotations

from llm_router.errors import (
    BadReply,
    CapabilityMissing,
    ContextExceeded,
    HostBusy,
    HostRefused,
    HostTimeout,
    ModelNotInstalled,
    ModelUnusable,
    OutOfMemory,
    ProviderError,
    RequestRejected,
    RunnerFailed,
    StreamBroken,
)
from llm_router.hosts.snapshot import HostKind, HostSnapshot, unreachable
from llm_router.names import is_cloud

_PHRASES: tuple[tuple[str, type[ProviderError], str], ...] = (
    ("unknown model architecture", ModelUnusable, "this server cannot load the model"),
    ("unsupported model", ModelUnusable, "this server cannot load the model"),
    ("unable to load model", ModelUnusable, "this server cannot load the model"),
    ("does not support", CapabilityMissing, "the model cannot do that"),
    ("image input is not supported", CapabilityMissing, "the model cannot see images"),
    ("is not a multimodal model", CapabilityMissing, "the model cannot see images"),
    ("image(s) may be provided", CapabilityMissing, "the model cannot see so many images"),
    ("only supports one image", CapabilityMissing, "the model cannot see so many images"),
    ("--enable-auto-tool-choice", CapabilityMissing, "the server was started without tools"),
    ("requires --jinja", CapabilityMissing, "the server was started without tools"),
    ("exceed_context_size", ContextExceeded, "the request is longer than the model's context"),
    ("exceeds the available context size", ContextExceeded, "the request is longer than the model's context"),
    ("exceeds the context length", ContextExceeded, "the request is longer than the model's context"),
    ("exceeds maximum context length", ContextExceeded, "the request is longer than the model's context"),
    ("maximum context length", ContextExceeded, "the request is longer than the model's context"),
    ("greater than the context length", ContextExceeded, "the request is longer than the model's context"),
    ("when context the overflows", ContextExceeded, "the request is longer than the model's context"),
    ("is longer than the context", ContextExceeded, "the request is longer than the model's context"),
    ("input is too large to process", ContextExceeded, "the request is longer than the model's context"),
    ("out of memory", OutOfMemory, "the server ran out of memory"),
    ("out-of-memory", OutOfMemory, "the server ran out of memory"),
    ("requires more system memory", OutOfMemory, "the server has not enough memory"),
    ("cudamalloc failed", OutOfMemory, "the server ran out of memory"),
    ("timed out waiting for", HostTimeout, "the model did not load in time"),
    ("server busy", HostBusy, "the server's queue is full"),
    ("has unexpectedly stopped", RunnerFailed, "the model's process died"),
    ("process has terminated", RunnerFailed, "the model's process died"),
    ("runner process", RunnerFailed, "the model's process died"),
    ("invalid format", RequestRejected, "the server refuses the response format"),
    ("invalid json schema", RequestRejected, "the server refuses the response format"),
    ("must be of type", RequestRejected, "the server refuses an option"),
)


def provider_error(status: int, text: str, model: str) -> ProviderError:
    """The error that a status and a server's own words mean for ``model``."""
    lower = text.lower()
    for phrase, kind, what in _PHRASES:
        if phrase in lower:
            return kind(_about(what, model), why=text, status=status)
    if status == 404 and "model" in lower:
        name = model or "the model"
        return ModelNotInstalled(
            f"{name} is not installed", why=text, hint=f"ollama pull {name}" if model else None, status=status
        )
    if status == 404:
        return BadReply(
            "no model server answers there",
            why=text or "the path is not known to it",
            hint="is that another program? check address and port",
            status=status,
        )
    if status in (429, 503):
        return HostBusy(_about("the server is busy", model), why=text, status=status)
    if status in (401, 403):
        return HostRefused(
            "the server refuses this client",
            why=text or f"status {status}",
            hint="check its key and allowed hosts",
            status=status,
        )
    if 400 <= status < 500:
        return RequestRejected(_about("the server refuses the request", model), why=text, status=status)
    return RunnerFailed(_about("the server failed", model), why=text or f"status {status}", status=status)


def refuse_cloud(model: str, host: str, *, allowed: bool) -> None:
    """Raises ModelUnusable for a name whose requests a server would pass on to the internet."""
    if is_cloud(model) and not allowed:
        raise ModelUnusable(
            f"{model} is not asked",
            why="it would be answered on the internet; policy.allow_cloud is off",
            hint="choose a local model, or set policy.allow_cloud",
            host=host,
            model=model,
        )


def silent(name: str, kind: HostKind, url: str, error: ProviderError) -> HostSnapshot:
    """The snapshot of a host that could not be looked at. A refusal brings its own hint: the host runs."""
    hint = error.hint if isinstance(error, HostRefused) else None
    return unreachable(name, kind, url, error.why or error.what, hint or "")


def broken_off(error: ProviderError, host: str, model: str) -> StreamBroken:
    """What any error means once the first piece of an answer has come."""
    return StreamBroken(
        f"{model}: the answer broke off",
        why=error.why or error.what,
        hint="ask again; look at the host with: llm-router doctor",
        host=host,
        model=model,
    )


def _about(what: str, model: str) -> str:
    return f"{model}: {what}" if model else what
