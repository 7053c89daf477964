"""Every way this library can fail, as one tree.

    LLMRouterError
    ├── UsageError                 the caller asked for something that cannot be meant
    │   ├── InvalidRequest         an empty task, a body that is not a request
    │   ├── UnknownModel           a model name that no fleet file and no host knows
    │   ├── UnknownCategory        a category name that the fleet does not have
    │   └── ConfigError            a file of settings or of a fleet, with file and line
    ├── MissingExtra               an optional part that is not installed, with the install line
    ├── NoModelAvailable           every candidate was rejected before anything was sent
    ├── AllAttemptsFailed          candidates were tried and each one failed; carries all of them
    │   └── NotInTime              the time for the whole request was over before one had answered
    └── ProviderError              one host or model failed
        ├── HostUnreachable        nothing listens there, the name does not resolve, the line dropped
        ├── HostTimeout            it listens and does not answer in time
        ├── HostBusy               it says that its queue is full (503)
        ├── HostRefused            it refuses this client (401, 403): a wrong key, a host it does not allow
        ├── ModelNotInstalled      the host does not have the model (404)
        ├── ModelUnusable          this host can never load the model: unknown architecture, no such engine
        ├── CapabilityMissing      the model cannot do what was asked (tools, images, thinking, embedding)
        ├── ContextExceeded        the request is longer than the context window it was given
        ├── OutOfMemory            the host ran out of memory while loading or answering
        ├── RunnerFailed           the model's process died or stalled
        ├── RequestRejected        the host refused the request itself; another model would refuse it too
        ├── BadReply               it answered with something that is not an answer (HTML, garbage, nothing)
        ├── TimeSpent              the time for the whole request was over before this model answered
        └── StreamBroken           the answer stopped after its first part; who was shown that gets no other
            └── CutShort           because the time for the whole request was over

Each class fixes three facts: the HTTP status a gateway sends, a stable ``code`` and the exit code of the
command line, which is 3 where no model can take the task and 1 where one took it and failed. Provider errors
add whether trying again (``retryable``) or trying the next model (``next_may_help``) makes sense, and whom
repeated failures count against:

    blames_host     HostUnreachable, HostTimeout, HostRefused: every model there would fail
    blames_model    OutOfMemory, RunnerFailed, BadReply, HostTimeout, StreamBroken: this model failed there
    neither         the rest: the request does not fit, or the host said plainly what it lacks

Blocking and streaming calls raise the same classes.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from llm_router.answer import Attempt
    from llm_router.decision import Rejection


_SHOWN_CHARS = 80
"""How much of a name that nobody knows is repeated; a file given as a name by mistake may be megabytes."""


class LLMRouterError(Exception):
    """Base of all errors raised on purpose. ``str(error)`` is one line; ``hint`` says what to do next."""

    code: ClassVar[str] = "router_error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str | None = None, hint: str | None = None) -> None:
        self.what = what
        self.why = why
        self.hint = hint
        super().__init__(f"{what}: {why}" if why else what)

    def as_json(self) -> dict[str, object]:
        """The error as a caller of a JSON API sees it: ``code``, ``message`` and, where known, ``hint``."""
        told: dict[str, object] = {"code": self.code, "message": str(self)}
        return told | {"hint": self.hint} if self.hint else told


class UsageError(LLMRouterError):
    code = "usage"
    http_status = 400
    exit_code = 2


class InvalidRequest(UsageError):
    code = "invalid_request"


class UnknownModel(UsageError):
    code = "unknown_model"
    http_status = 404

    @classmethod
    def named(cls, name: str, known: Iterable[str]) -> UnknownModel:
        name = _clipped(name)
        hint = nearest(name, known) or "list the names with: llm-router models"
        return cls(
            f"unknown model {name!r}", why="neither the fleet file nor a reachable host has it", hint=hint
        )


class UnknownCategory(UsageError):
    code = "unknown_category"

    @classmethod
    def named(cls, name: str, known: Iterable[str]) -> UnknownCategory:
        name = _clipped(name)
        hint = nearest(name, known) or "list the names with: llm-router categories"
        return cls(f"unknown category {name!r}", why="the fleet does not have it", hint=hint)


class ConfigError(UsageError):
    """A file that cannot be used; the message begins with ``file:line`` where they are known."""

    code = "config"
    http_status = 500

    def __init__(
        self,
        what: str,
        *,
        why: str | None = None,
        hint: str | None = None,
        path: Path | str | None = None,
        line: int | None = None,
    ) -> None:
        self.path = path
        self.line = line
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(f"{where}{what}", why=why, hint=hint)


class MissingExtra(LLMRouterError):
    code = "missing_extra"
    http_status = 501

    @classmethod
    def needed(cls, extra: str, what_for: str, module: str) -> MissingExtra:
        return cls(
            f"{what_for} needs the optional part [{extra}]",
            why=f"the module {module!r} is not installed",
            hint=f"pip install 'crewai-llm-router[{extra}]'",
        )


class NoModelAvailable(LLMRouterError):
    """No candidate may take this task; ``rejected`` says why for each of them."""

    code = "no_model_available"
    http_status = 503
    exit_code = 3

    def __init__(
        self,
        what: str,
        *,
        why: str | None = None,
        hint: str | None = None,
        rejected: Sequence[Rejection] = (),
    ) -> None:
        self.rejected = tuple(rejected)
        super().__init__(what, why=why, hint=hint)


class AllAttemptsFailed(LLMRouterError):
    """Every model of the chain was tried; ``attempts`` holds each failure in order."""

    code = "all_attempts_failed"
    http_status = 502
    exit_code = 3

    def __init__(self, what: str, *, attempts: Sequence[Attempt], hint: str | None = None) -> None:
        self.attempts = tuple(attempts)
        why = "; ".join(f"{a.model} on {a.host} ({_took(a.elapsed_s)}): {a.error}" for a in self.attempts)
        super().__init__(what, why=why, hint=hint)


class NotInTime(AllAttemptsFailed):
    """The time of the request was over before a model of the chain had answered."""

    http_status = 504


class ProviderError(LLMRouterError):
    """One host or model failed: ``host`` and ``model`` say which, ``status`` is the HTTP status if any."""

    code = "provider"
    http_status = 502
    exit_code = 3
    retryable: ClassVar[bool] = False
    next_may_help: ClassVar[bool] = True
    blames_host: ClassVar[bool] = False
    blames_model: ClassVar[bool] = False

    def __init__(
        self,
        what: str,
        *,
        why: str | None = None,
        hint: str | None = None,
        host: str = "",
        model: str = "",
        status: int | None = None,
    ) -> None:
        self.host = host
        self.model = model
        self.status = status
        self.repeats: ProviderError | None = None
        super().__init__(what, why=why, hint=hint)

    def repeated(self) -> Self:
        """The same failure for one more who waited for the same thing. ``repeats`` says which it is, so that
        what happened once is counted once."""
        again = copy.copy(self)
        again.repeats = self.repeats or self
        return again


class HostUnreachable(ProviderError):
    code = "host_unreachable"
    http_status = 503
    blames_host = True


class HostTimeout(ProviderError):
    code = "host_timeout"
    http_status = 504
    blames_host = True
    blames_model = True


class HostBusy(ProviderError):
    code = "host_busy"
    http_status = 503
    retryable = True


class HostRefused(ProviderError):
    code = "host_refused"
    blames_host = True


class ModelNotInstalled(ProviderError):
    code = "model_not_installed"
    http_status = 404


class ModelUnusable(ProviderError):
    code = "model_unusable"


class CapabilityMissing(ProviderError):
    code = "capability_missing"
    http_status = 400


class ContextExceeded(ProviderError):
    code = "context_exceeded"
    http_status = 400


class OutOfMemory(ProviderError):
    code = "out_of_memory"
    http_status = 503
    blames_model = True


class RunnerFailed(ProviderError):
    code = "runner_failed"
    exit_code = 1
    retryable = True
    blames_model = True


class RequestRejected(ProviderError):
    code = "request_rejected"
    http_status = 400
    exit_code = 2
    next_may_help = False


class BadReply(ProviderError):
    code = "bad_reply"
    exit_code = 1
    blames_model = True


class TimeSpent(ProviderError):
    code = "time_spent"
    http_status = 504
    next_may_help = False


class StreamBroken(ProviderError):
    code = "stream_broken"
    exit_code = 1
    next_may_help = False
    blames_model = True


class CutShort(StreamBroken):
    """The time of the request was over in the midst of its answer, which says nothing of the model."""

    http_status = 504
    blames_model = False


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint such as ``did you mean 'phi4'?``, or None where nothing is close."""
    match = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean {match[0]!r}?" if match else None


def _took(elapsed_s: float) -> str:
    return f"{elapsed_s:.0f} s" if elapsed_s >= 10 else f"{elapsed_s:.1f} s"


def _clipped(name: str) -> str:
    return name if len(name) <= _SHOWN_CHARS else name[: _SHOWN_CHARS - 1] + "…"
