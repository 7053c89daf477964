"""The words for what came back: pieces of a stream, the whole answer, and every attempt on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from msgspec import Struct

from llm_router.decision import Decision
from llm_router.errors import ProviderError
from llm_router.hosts.speeds import NOT_MEASURED, Measured
from llm_router.request import Json, JsonObject, ToolCall


class Delta(Struct, frozen=True):
    """One piece of a streamed answer. ``thinking`` is kept apart from ``text`` for every model.

    ``calling`` says that a tool call is under way which will come whole in a later piece. ``raw`` is the
    server's own JSON of this piece, given where the request came on the very wire that the server speaks.
    """

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[Json, ...] = ()
    calling: bool = False
    raw: bytes | None = None

    @property
    def empty(self) -> bool:
        return not (self.text or self.thinking or self.tool_calls or self.calling)


class Usage(Struct, frozen=True):
    """What the server counted. None where it did not say. ``load_s`` includes queueing for the load."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    load_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None

    @property
    def tokens_per_s(self) -> float | None:
        if not self.output_tokens or not self.decode_s:
            return None
        return self.output_tokens / self.decode_s


class Final(Struct, frozen=True):
    """The last piece of a stream. ``model`` is the name the server gave itself.

    ``raw_end`` are the server's own last JSON objects, in order, as ``raw`` of a ``Delta``. ``context`` is
    JSON that Ollama gives with the answer to a prompt, to be sent along with the next.
    """

    model: str
    done_reason: str
    usage: Usage = Usage()
    raw_end: tuple[bytes, ...] = ()
    context: bytes = b""


Chunk: TypeAlias = Delta | Final


class Attempt(Struct, frozen=True):
    """One model tried: how long it took and, where it failed, the error."""

    model: str
    host: str
    elapsed_s: float
    error: ProviderError | None = None

    def as_json(self) -> JsonObject:
        return {
            "model": self.model,
            "host": self.host,
            "ok": self.error is None,
            "elapsed_s": round(self.elapsed_s, 3),
            "error": None if self.error is None else {"code": self.error.code, "message": str(self.error)},
        }


class Answer(Struct, frozen=True):
    """What the caller gets. ``model`` is the one that really answered; ``attempts`` ends with it.

    ``served_as`` is that host's own name for it. ``raw_end`` and ``context`` are as in ``Final``;
    ``measured`` is what this answer taught of the speed of its model.
    """

    text: str
    decision: Decision
    model: str
    host: str
    attempts: tuple[Attempt, ...]
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[Json, ...] = ()
    done_reason: str = "stop"
    usage: Usage = Usage()
    warnings: tuple[str, ...] = ()
    first_token_s: float | None = None
    elapsed_s: float = 0.0
    served_as: str = ""
    raw_end: tuple[bytes, ...] = ()
    context: bytes = b""
    measured: Measured = NOT_MEASURED

    def as_json(self) -> JsonObject:
        """The decision's shape and, beside it, the answer (docs/reference/decision.md)."""
        usage = self.usage
        return {
            **self.decision.as_json(),
            "answer_model": self.model,
            "answer_host": self.host,
            "result": self.text,
            "thinking": self.thinking or None,
            "tool_calls": [{"name": c.name, "arguments": c.arguments, "id": c.id} for c in self.tool_calls],
            "done_reason": self.done_reason,
            "attempts": [attempt.as_json() for attempt in self.attempts],
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "output_tokens": usage.output_tokens,
                "load_s": _round(usage.load_s),
                "prefill_s": _round(usage.prefill_s),
                "decode_s": _round(usage.decode_s),
            },
            "first_token_s": _round(self.first_token_s),
            "elapsed_s": round(self.elapsed_s, 3),
            "warnings": [*self.decision.warnings, *self.warnings],
        }


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per input, in order. ``load_s`` is the time for which the model was loaded, where told."""

    vectors: tuple[tuple[float, ...], ...]
    model: str
    prompt_tokens: int | None = None
    load_s: float | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingAnswer:
    """What ``Router.embed`` gives: the vectors and how they came about."""

    vectors: tuple[tuple[float, ...], ...]
    decision: Decision
    model: str
    host: str
    attempts: tuple[Attempt, ...]
    warnings: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    load_s: float | None = None
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Decided:
    """First event of ``Router.stream``: the decision, before any model is asked."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class Switched:
    """An attempt failed before its first byte and the next model of the chain is asked."""

    failed: Attempt
    next_model: str
    next_host: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event of ``Router.stream``: the whole answer."""

    answer: Answer


StreamEvent: TypeAlias = Decided | Switched | Delta | Finished


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
