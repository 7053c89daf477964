"""How the native API writes an answer: chat and generate, in chunks and whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_router.testing.fake_answers import Generation, Piece, ToolCall, logprobs_of
from llm_router.testing.fake_streams import GARBAGE, Metrics
from llm_router.testing.fake_wire import GenerationCall, go_json, nanoseconds, timestamp, without_empty

_METRICS = (
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)


def metric_fields(generation: Generation, metrics: Metrics) -> dict[str, int]:
    """The metrics of a last chunk: durations in nanoseconds, counts in tokens, zeroes left out."""
    values = (
        nanoseconds(metrics.total_s),
        nanoseconds(metrics.load_s),
        generation.prompt_tokens,
        nanoseconds(metrics.prompt_s),
        generation.eval_tokens,
        nanoseconds(metrics.eval_s),
    )
    return without_empty(dict(zip(_METRICS, values, strict=True)), *_METRICS)


def tool_calls_body(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    """Tool calls as the native API writes them: arguments are an object."""
    return [
        {
            "id": f"call_{index:08x}",
            "function": {"index": index, "name": call.name, "arguments": dict(call.arguments)},
        }
        for index, call in enumerate(calls)
    ]


class NativeDialect:
    """Chat and generate differ in where they put the text; everything else is shared."""

    content_type = "application/x-ndjson"

    def __init__(self, call: GenerationCall, model_name: str, *, chat: bool) -> None:
        self._call = call
        self._model = model_name
        self._chat = chat

    def _text(self, content: str, thinking: str, tools: tuple[ToolCall, ...] = ()) -> dict[str, Any]:
        calls = tool_calls_body(tools)
        if self._chat:
            message = {"role": "assistant", "content": content, "thinking": thinking, "tool_calls": calls}
            return {"message": without_empty(message, "thinking", "tool_calls")}
        return without_empty({"response": content, "thinking": thinking}, "thinking")

    def body(
        self, text: dict[str, Any], *, done_reason: str = "", more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """One object of the answer."""
        head = {"model": self._model, "created_at": timestamp(), **text, "done": bool(done_reason)}
        return {**head, **({"done_reason": done_reason} if done_reason else {}), **(more or {})}

    def bare(self, done_reason: str) -> dict[str, Any]:
        """The answer to a request that only loads or unloads."""
        return self.body(self._text("", ""), done_reason=done_reason)

    def chunk(self, piece: Piece) -> bytes:
        """One line."""
        logprobs = self._logprobs((piece,))
        return go_json(self.body(self._text(piece.content, piece.thinking), more=logprobs)) + b"\n"

    def tool_chunk(self, generation: Generation) -> bytes:
        """One line with every tool call."""
        return go_json(self.body(self._text("", "", generation.tool_calls))) + b"\n"

    def last(self, generation: Generation, metrics: Metrics) -> bytes:
        """The line with the metrics."""
        more = {**self._context(generation), **metric_fields(generation, metrics)}
        return go_json(self.body(self._text("", ""), done_reason=generation.done_reason, more=more)) + b"\n"

    def error(self, text: str) -> bytes:
        """The line that replaces the rest of the stream."""
        return go_json({"error": text}) + b"\n"

    def garbage(self) -> bytes:
        """A line that is no JSON."""
        return GARBAGE + b"\n"

    def whole(self, generation: Generation, metrics: Metrics | None) -> dict[str, Any]:
        """The answer of `stream:false`."""
        text = self._text(generation.content, generation.thinking, generation.tool_calls)
        if metrics is None:
            return self.body(text)
        more = {
            **self._context(generation),
            **metric_fields(generation, metrics),
            **self._logprobs(generation.pieces),
        }
        return self.body(text, done_reason=generation.done_reason, more=more)

    def _logprobs(self, pieces: tuple[Piece, ...]) -> dict[str, Any]:
        if not self._call.logprobs:
            return {}
        return {
            "logprobs": [item for piece in pieces for item in logprobs_of(piece, self._call.top_logprobs)]
        }

    def _context(self, generation: Generation) -> dict[str, Any]:
        if self._chat or self._call.body.get("raw"):
            return {}
        return {"context": list(range(1, 1 + generation.prompt_tokens + generation.eval_tokens))}
