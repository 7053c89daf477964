"""Anthropic's ``/v1/messages`` and ``/v1/messages/count_tokens``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from llm_router.answer import Answer, Delta, EmbeddingAnswer
from llm_router.bodies import chosen, effort
from llm_router.errors import InvalidRequest, LLMRouterError
from llm_router.gateway.wires.base import Asked, Endpoint, Told
from llm_router.request import Image, Json, JsonObject, Message, RouteRequest, SentBody, Tool, ToolCall

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
_encoder = msgspec.json.Encoder()


class _Source(msgspec.Struct):
    type: str = ""
    data: str = ""
    media_type: str = ""
    content: Any = None


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    thinking: str = ""
    source: _Source | str | None = None
    id: str = ""
    name: str = ""
    input: dict[str, Any] | None = None
    tool_use_id: str = ""
    content: Any = None
    title: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block]


class _Tool(msgspec.Struct):
    name: str
    type: str | None = None
    description: str = ""
    input_schema: dict[str, Any] | None = None


class _Choice(msgspec.Struct):
    type: str = "auto"
    name: str = ""


class _Thinking(msgspec.Struct):
    type: str = "disabled"


class _OutputFormat(msgspec.Struct):
    type: str
    schema: dict[str, Any] | None = None


class _OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: _OutputFormat | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Body(msgspec.Struct):
    messages: list[_Message]
    model: str | None = None
    max_tokens: int | None = None
    system: str | list[_Block] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    metadata: _Metadata | None = None
    output_config: _OutputConfig | None = None


_decoder = msgspec.json.Decoder(_Body)
_KNOWN = frozenset(_Body.__struct_fields__)


def _parse(data: bytes) -> Asked:
    body = _decoded(data)
    if body.max_tokens is None or body.max_tokens < 1:
        raise InvalidRequest(
            "max_tokens: a whole number of 1 or more is needed",
            why="it is missing" if body.max_tokens is None else f"it is {body.max_tokens}",
            hint="say how long the answer may be, such as 1024",
        )
    stream = body.stream is True
    request = _request(body, SentBody(MESSAGES, data, stream=stream, known=_KNOWN))
    return Asked(request, stream, _Renderer(request))


def _parse_count(data: bytes) -> Asked:
    body = _decoded(data)
    request = _request(body, SentBody(COUNT_TOKENS, data, stream=False, known=_KNOWN))
    return Asked(request, False, _Renderer(request))


def counted(asked: Asked) -> bytes:
    """The reply of ``count_tokens``: an estimate, for which model will read them is not known yet."""
    return _encoder.encode({"input_tokens": asked.request.estimate().tokens})


def _decoded(data: bytes) -> _Body:
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at ")
        field = where.strip("`").removeprefix("$.") or "the body"
        raise InvalidRequest(
            f"cannot read {field}",
            why=message.replace("`", "'"),
            hint="send it as Anthropic's API takes it",
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            "the body is not JSON", why=str(error), hint="one request is one JSON object, in UTF-8"
        ) from None


def _request(body: _Body, sent: SentBody) -> RouteRequest:
    messages: list[Message] = []
    system = _plain("system", body.system) if body.system else ""
    if system:
        messages.append(Message("system", system))
    names: dict[str, str] = {}
    for place, message in enumerate(body.messages):
        messages += _messages(message, place, names)
    if not body.messages:
        raise InvalidRequest(
            "messages: the conversation is empty", why="it has no entry", hint="send at least one message"
        )
    options: dict[str, Json] = {
        "num_predict": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": list(body.stop_sequences) if body.stop_sequences else None,
    }
    return RouteRequest(
        messages=tuple(messages),
        tools=_tools(body),
        must_call=body.tool_choice is not None and body.tool_choice.type in ("any", "tool"),
        response_format=_format(body),
        model=body.model,
        options=options,
        think=_think(body),
        session_id=body.metadata.user_id if body.metadata is not None else None,
        body=sent,
    )


def _think(body: _Body) -> bool | str | None:
    if body.thinking is None or body.thinking.type == "disabled":
        return None if body.thinking is None else False
    wanted = body.output_config.effort if body.output_config is not None else None
    return True if wanted is None else effort("output_config.effort", wanted)


def _format(body: _Body) -> JsonObject | None:
    wanted = body.output_config.format if body.output_config is not None else None
    if wanted is None:
        return None
    if wanted.type != "json_schema" or wanted.schema is None:
        raise InvalidRequest(
            "cannot use output_config.format",
            why="it is no JSON schema",
            hint='send {"type": "json_schema", "schema": {...}}, or leave it out',
        )
    return wanted.schema


def _tools(body: _Body) -> tuple[Tool, ...]:
    choice = body.tool_choice or _Choice()
    if not body.tools or choice.type == "none":
        return ()
    own = [tool for tool in body.tools if tool.type in (None, "custom")]
    if not own:  # agents offer some of Anthropic's beside their own whoever answers; those are left out
        raise InvalidRequest(
            f"tools: cannot use {str(body.tools[0].type)[:40]!r}",
            why="only Anthropic's servers and models know it, and the models here run on yours",
            hint="describe a tool of your own with name, description and input_schema",
        )
    tools = tuple(Tool(tool.name, tool.description, tool.input_schema or {}) for tool in own)
    return chosen(tools, {"name": choice.name})[0] if choice.type == "tool" else tools


def _messages(message: _Message, place: int, names: dict[str, str]) -> list[Message]:
    """One message of Anthropic's as ours: each tool result is a message of its own."""
    role = message.role
    if role == "system":  # newer clients let it speak between turns, too
        return [Message("system", _plain(f"messages[{place}]", message.content))]
    if role not in ("user", "assistant"):
        raise InvalidRequest(
            f"messages[{place}].role: {role[:40]!r} is not a role",
            why="roles are user, assistant and system",
            hint="a result of a tool is a block of a user's message",
        )
    if isinstance(message.content, str):
        return [Message("user" if role == "user" else "assistant", message.content)]
    if role == "assistant":
        return [_said(message.content, place, names)]
    found: list[Message] = []
    rest: list[_Block] = []
    images: list[Image] = []
    for block in message.content:
        if block.type == "tool_result":
            text, shown = _result(block, place)
            images += shown
            name = names.get(block.tool_use_id, "")
            found.append(Message("tool", text, tool_name=name, tool_call_id=block.tool_use_id))
        else:
            rest.append(block)
    if rest or images:
        text, own = _read(rest, f"messages[{place}]")
        found.append(Message("user", text, (*images, *own)))
    return found


def _said(blocks: Sequence[_Block], place: int, names: dict[str, str]) -> Message:
    texts, thoughts, calls = [], [], []
    for block in blocks:
        if block.type == "text":
            texts.append(block.text)
        elif block.type == "thinking":
            thoughts.append(block.thinking)
        elif block.type == "tool_use":
            names[block.id] = block.name
            calls.append(ToolCall(block.name, block.input or {}, block.id))
        elif block.type != "redacted_thinking":
            raise _strange(block.type, f"messages[{place}]")
    return Message("assistant", "\n".join(texts), tool_calls=tuple(calls), thinking="\n".join(thoughts))


def _result(block: _Block, place: int) -> tuple[str, list[Image]]:
    if block.content is None or isinstance(block.content, str):
        return block.content or "", []
    return _inner(block.content, f"messages[{place}]")


def _inner(content: object, where: str) -> tuple[str, list[Image]]:
    """Text and pictures of the blocks inside of a block."""
    return _read(_blocks(content, where), where)


def _blocks(content: object, where: str) -> list[_Block]:
    try:
        return msgspec.convert(content, list[_Block])
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"cannot read {where}.content",
            why=str(error).replace("`", "'"),
            hint="what a tool gave, a document and what was found are a text or a list of blocks",
        ) from None
    except RecursionError:
        raise InvalidRequest(
            f"{where} is nested too deeply", why="no request needs that", hint="send it flatter"
        ) from None


def _read(blocks: Sequence[_Block], where: str) -> tuple[str, list[Image]]:
    texts: list[str] = []
    images: list[Image] = []
    for block in blocks:
        if block.type == "text":
            texts.append(block.text)
        elif block.type == "image" and isinstance(block.source, _Source):
            images.append(_image(block.source))
        elif block.type == "search_result":
            texts.append(_search_result(block, where))
        elif block.type == "document" and isinstance(block.source, _Source):
            text, shown = _document(block, block.source, where)
            texts.append(text)
            images += shown
        else:
            raise _strange(block.type, where)
    return "\n".join(texts), images


def _image(source: _Source) -> Image:
    if source.type != "base64":
        raise InvalidRequest(
            "cannot use an image by its address",
            why="the router never fetches addresses that a request names",
            hint='send the image itself: {"type": "base64", "media_type": "image/png", "data": "..."}',
        )
    return Image.from_base64(source.data)


def _document(block: _Block, source: _Source, where: str) -> tuple[str, list[Image]]:
    """Its text after its title, and the pictures in it."""
    images: list[Image] = []
    text: Any = source.data if source.type == "text" else source.content if source.type == "content" else None
    if isinstance(text, list):
        text, images = _inner(text, where)
    if not isinstance(text, str):
        raise InvalidRequest(
            f"cannot read a document of type {source.type[:40]!r}",
            why="the models here read text and pictures",
            hint="send its text, or its pages as images",
        )
    return (f"{block.title}\n{text}" if block.title else text), images


def _search_result(block: _Block, where: str) -> str:
    """What was found, after its title and where."""
    head = [line for line in (block.title, block.source) if isinstance(line, str) and line]
    found = _blocks(block.content, where)
    for part in found:
        if part.type != "text":
            raise _strange(part.type, where)
    return "\n".join([*head, *(part.text for part in found)])


def _strange(kind: str, where: str) -> InvalidRequest:
    return InvalidRequest(
        f"{where}: cannot read a block of type {kind[:40]!r}",
        why="the models here read text, pictures and results of tools",
        hint="leave it out, or send what it says as text",
    )


def _plain(field: str, content: str | list[_Block]) -> str:
    if isinstance(content, str):
        return content
    return _read(content, field)[0]


class _Renderer:
    stream_type = "text/event-stream"
    heartbeat = b'event: ping\ndata: {"type":"ping"}\n\n'

    def __init__(self, request: RouteRequest) -> None:
        self._request = request
        self._open = ""
        self._index = -1
        self._calls = 0
        self._reply_id = ""

    def begin(self, told: Told) -> bytes:
        self._reply_id = told.reply_id
        message = _message(told, [], self._request)
        return _event("message_start", {"message": message})

    def piece(self, piece: Delta) -> bytes:
        out = b""
        if piece.thinking:
            out += self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            out += self._delta({"type": "thinking_delta", "thinking": piece.thinking})
        if piece.text:
            out += self._block("text", {"type": "text", "text": ""})
            out += self._delta({"type": "text_delta", "text": piece.text})
        for call in piece.tool_calls:
            out += self._close()
            out += self._block("tool_use", _tool_use(call, self._reply_id, self._calls) | {"input": {}})
            arguments = _encoder.encode(call.arguments).decode()
            out += self._delta({"type": "input_json_delta", "partial_json": arguments})
            self._calls += 1
        return out

    def _block(self, kind: str, block: JsonObject) -> bytes:
        """Opens a block of this kind, after closing one of another."""
        if self._open == kind:
            return b""
        closed = self._close()
        self._open = kind
        self._index += 1
        return closed + _event("content_block_start", {"index": self._index, "content_block": block})

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return _event("content_block_stop", {"index": self._index})

    def _delta(self, delta: JsonObject) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})

    def final(self, answer: Answer, told: Told) -> bytes:
        out = b""
        if self._index < 0:  # an answer without a word still is a message with a text
            out += self._block("text", {"type": "text", "text": ""})
        out += self._close()
        out += _event(
            "message_delta",
            {
                "delta": {"stop_reason": _stop_reason(answer), "stop_sequence": None},
                "usage": _usage(answer, self._request),
                "router": told.router,
            },
        )
        return out + _event("message_stop", {})

    def broken(self, error: LLMRouterError, told: Told) -> bytes:
        return _event("error", {"error": _error_object(error, error.http_status)})

    def whole(self, answer: Answer, told: Told) -> bytes:
        content: list[Json] = []
        if answer.thinking:
            content.append({"type": "thinking", "thinking": answer.thinking, "signature": ""})
        if answer.text or not answer.tool_calls:
            content.append({"type": "text", "text": answer.text})
        content += [_tool_use(call, told.reply_id, n) for n, call in enumerate(answer.tool_calls)]
        message = _message(told, content, self._request)
        message |= {"stop_reason": _stop_reason(answer), "usage": _usage(answer, self._request)}
        return _encoder.encode(message | {"router": told.router})

    def vectors(self, answer: EmbeddingAnswer, told: Told) -> bytes:
        raise NotImplementedError


def _message(told: Told, content: list[Json], request: RouteRequest) -> JsonObject:
    usage: JsonObject = {"input_tokens": request.estimate().tokens, "output_tokens": 0}
    return {
        "id": f"msg_{told.reply_id}",
        "type": "message",
        "role": "assistant",
        "model": told.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage | _UNCACHED,
    }


_UNCACHED: JsonObject = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}


def _tool_use(call: ToolCall, reply_id: str, number: int) -> dict[str, Json]:
    """A whole call. Where the server gave no id, it is ours: clients tell calls of all turns apart by it."""
    return {
        "type": "tool_use",
        "id": call.id or f"toolu_{reply_id}{number}",
        "name": call.name,
        "input": call.arguments,
    }


def _stop_reason(answer: Answer) -> str:
    if answer.tool_calls:
        return "tool_use"
    return "max_tokens" if answer.done_reason == "length" else "end_turn"


def _usage(answer: Answer, request: RouteRequest) -> JsonObject:
    """What the server counted; where it did not, the estimate of what it read."""
    read = answer.usage.prompt_tokens
    told: JsonObject = {
        "input_tokens": request.estimate().tokens if read is None else read,
        "output_tokens": answer.usage.output_tokens or 0,
    }
    return told | _UNCACHED


def _event(kind: str, data: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encoder.encode({"type": kind, **data}))


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def _error_object(error: LLMRouterError, status: int) -> JsonObject:
    message = f"{error}; hint: {error.hint}" if error.hint else str(error)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": kind, "message": message}


def error(error: LLMRouterError, status: int, request_id: str) -> bytes:
    return _encoder.encode({"type": "error", "error": _error_object(error, status), "request_id": request_id})


ENDPOINT = Endpoint("anthropic", MESSAGES, _parse, error)
COUNT_ENDPOINT = Endpoint("anthropic", COUNT_TOKENS, _parse_count, error, counted)
