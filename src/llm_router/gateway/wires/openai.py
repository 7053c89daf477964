"""OpenAI's ``/v1/chat/completions``, as server-sent events or as one JSON object.

What a model thinks goes by two names there, ``reasoning`` (Ollama, OpenRouter) and ``reasoning_content``
(vLLM, DeepSeek): both are written, since clients read one or the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from llm_router.answer import Answer, Delta, EmbeddingAnswer, Usage
from llm_router.bodies import KNOWN_FIELDS, request_from_json
from llm_router.errors import InvalidRequest, LLMRouterError
from llm_router.gateway.splice import with_member
from llm_router.gateway.wires.base import Asked, Endpoint, Told
from llm_router.gateway.wires.openai_errors import error_body, error_event
from llm_router.request import ApiKind, Json, JsonObject, SentBody, ToolCall

CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": waiting\n\n"
FINGERPRINT = "fp_llm_router"

UNSET = msgspec.UNSET
_encoder = msgspec.json.Encoder()
_head_decoder: msgspec.json.Decoder[Head]


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Head(msgspec.Struct):
    """What of a body concerns the form of the reply."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    functions: Any = None


_head_decoder = msgspec.json.Decoder(Head)


class _Delta(msgspec.Struct):
    role: Any = UNSET
    content: Any = UNSET
    reasoning: Any = UNSET
    reasoning_content: Any = UNSET
    tool_calls: Any = UNSET


class _CalledDelta(_Delta):
    """For who sent ``functions``, as before there were tools: the first call, where it is looked for."""

    function_call: Any = UNSET


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None
    index: int = 0
    logprobs: Any = UNSET


class _Chunk(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[_Choice]
    object: str = "chat.completion.chunk"
    system_fingerprint: str = FINGERPRINT
    usage: Any = UNSET
    router: Any = UNSET


def read_head(data: bytes) -> Head:
    """Raises InvalidRequest for a body that cannot be read, or that asks for several answers."""
    try:
        head = _head_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        request_from_json(data)  # says what is wrong, and where
        raise InvalidRequest(
            "cannot read the body", why=str(error).replace("`", "'"), hint="send it as OpenAI's API takes it"
        ) from None
    if head.n is not None and head.n != 1:
        raise InvalidRequest(
            f"cannot give n = {head.n} answers",
            why="one request is answered once",
            hint="leave n out, or send the request again for another answer",
        )
    return head


def _parse(data: bytes) -> Asked:
    head = read_head(data)
    stream = head.stream is True
    sent = SentBody(CHAT, data, stream=stream, known=KNOWN_FIELDS)
    request = request_from_json(data, sent=sent, kind=ApiKind.CHAT)
    if not request.messages:
        raise InvalidRequest(
            "the body has no messages",
            why="a chat completion continues a conversation",
            hint="send messages, or the prompt to /v1/completions",
        )
    usage = head.stream_options is not None and head.stream_options.include_usage is True
    return Asked(request, stream, _Renderer(usage=usage, functions=bool(head.functions)))


class _Renderer:
    stream_type = "text/event-stream"
    heartbeat = HEARTBEAT

    def __init__(self, *, usage: bool, functions: bool) -> None:
        self._usage = usage
        self._functions = functions
        self._chunk = partial(_Chunk, "", 0, "")
        self._reply_id = ""
        self._calls = 0
        self._spoken = False

    def begin(self, told: Told) -> bytes:
        self._reply_id = told.reply_id
        self._chunk = partial(_Chunk, f"chatcmpl-{told.reply_id}", int(told.created_s), told.model)
        return b""

    def piece(self, piece: Delta) -> bytes:
        if piece.raw is not None:
            return b"data: %b\n\n" % piece.raw if piece.raw else b""
        if piece.empty and not piece.logprobs:
            return b""
        delta = _Delta()
        if not self._spoken:
            self._spoken = True
            delta.role, delta.content = "assistant", ""
        if piece.text:
            delta.content = piece.text
        if piece.thinking:
            delta.reasoning = delta.reasoning_content = piece.thinking
        if piece.tool_calls:
            delta.tool_calls = [
                {"index": n, **tool_call(call, self._reply_id, n)}
                for n, call in enumerate(piece.tool_calls, self._calls)
            ]
            if self._functions and not self._calls:
                first = delta.tool_calls[0]["function"]
                delta = _CalledDelta(**msgspec.structs.asdict(delta), function_call=first)
            self._calls += len(piece.tool_calls)
        return self._event(_Choice(delta, logprobs=_logprobs(piece.logprobs)))

    def _event(self, *choices: _Choice, usage: Json = None, router: JsonObject | None = None) -> bytes:
        chunk = self._chunk(list(choices))
        if usage is not None:
            chunk.usage = usage
        if router is not None:
            chunk.router = router
        return b"data: %b\n\n" % _encoder.encode(chunk)

    def final(self, answer: Answer, told: Told) -> bytes:
        if answer.raw_end:
            return raw_events(answer.raw_end, told)
        last = _Choice(_Delta(), self._reason(answer))
        if not self._usage:
            return self._event(last, router=told.router) + DONE
        counted = self._event(usage=usage(answer.usage), router=told.router)
        return self._event(last) + counted + DONE

    def broken(self, error: LLMRouterError, told: Told) -> bytes:
        return error_event(error)

    def whole(self, answer: Answer, told: Told) -> bytes:
        if answer.raw_end:
            return with_member(answer.raw_end[-1], "router", told.router)
        message: JsonObject = {"role": "assistant", "content": answer.text or None}
        if not answer.tool_calls:
            message["content"] = answer.text
        if answer.thinking:
            message |= {"reasoning": answer.thinking, "reasoning_content": answer.thinking}
        if answer.tool_calls:
            calls = [tool_call(call, told.reply_id, n) for n, call in enumerate(answer.tool_calls)]
            message["tool_calls"] = list[Json](calls)
            if self._functions:
                message["function_call"] = calls[0]["function"]
        message["refusal"] = None
        choice: JsonObject = {"index": 0, "message": message, "finish_reason": self._reason(answer)}
        shown: JsonObject = {"content": token_logprobs(answer.logprobs), "refusal": None}
        choice["logprobs"] = shown if answer.logprobs else None
        return _encoder.encode(
            {
                "id": f"chatcmpl-{told.reply_id}",
                "object": "chat.completion",
                "created": int(told.created_s),
                "model": told.model,
                "system_fingerprint": FINGERPRINT,
                "choices": [choice],
                "usage": usage(answer.usage),
                "router": told.router,
            }
        )

    def _reason(self, answer: Answer) -> str:
        return "function_call" if self._functions and answer.tool_calls else finish_reason(answer)

    def vectors(self, answer: EmbeddingAnswer, told: Told) -> bytes:
        raise NotImplementedError


def raw_events(raw_end: Sequence[bytes], told: Told) -> bytes:
    """The server's own last events, with the reason in the very last one."""
    ends = [*raw_end[:-1], with_member(raw_end[-1], "router", told.router)]
    return b"".join([b"data: %b\n\n" % event for event in ends]) + DONE


def tool_call(call: ToolCall, reply_id: str, number: int) -> dict[str, Json]:
    """A whole call. Where the server gave no id, it is ours: clients tell calls of all turns apart by it."""
    arguments = _encoder.encode(call.arguments).decode()
    return {
        "id": call.id or f"call_{reply_id}{number}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def finish_reason(answer: Answer) -> str:
    if answer.tool_calls:
        return "tool_calls"
    return "length" if answer.done_reason == "length" else "stop"


def usage(counted: Usage) -> JsonObject:
    prompt, output = counted.prompt_tokens or 0, counted.output_tokens or 0
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def _logprobs(logprobs: tuple[Json, ...]) -> Any:
    return {"content": token_logprobs(logprobs), "refusal": None} if logprobs else UNSET


def token_logprobs(items: Sequence[Json]) -> list[Json]:
    """With every member that OpenAI's clients count on; Ollama leaves out those that are empty."""
    return [
        {"bytes": list(str(item.get("token", "")).encode()), "top_logprobs": [], **item}
        if isinstance(item, dict)
        else item
        for item in items
    ]


ENDPOINT = Endpoint("openai", CHAT, _parse, error_body)
