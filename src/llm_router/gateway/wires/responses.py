"""OpenAI's ``/v1/responses``, without a memory: each request brings its whole conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from llm_router.answer import Answer, Delta, EmbeddingAnswer
from llm_router.bodies import chosen, effort
from llm_router.errors import InvalidRequest, LLMRouterError
from llm_router.gateway.wires.base import Asked, Endpoint, Told
from llm_router.gateway.wires.openai import HEARTBEAT, token_logprobs
from llm_router.gateway.wires.openai_errors import error_body, error_object
from llm_router.request import Image, Json, JsonObject, Message, RouteRequest, SentBody, Tool, ToolCall

RESPONSES = "/v1/responses"
_encoder = msgspec.json.Encoder()
_LOGPROBS = "message.output_text.logprobs"
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


class _Part(msgspec.Struct):
    type: str
    text: str = ""
    image_url: str | None = None


class _Item(msgspec.Struct):
    type: str = "message"
    role: str = ""
    content: str | list[_Part] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: Any = None
    summary: list[_Part] | None = None


class _Tool(msgspec.Struct):
    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: str = "text"
    name: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class _Body(msgspec.Struct):
    input: str | list[_Item]
    model: str | None = None
    instructions: str | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    parallel_tool_calls: bool | None = None


_decoder = msgspec.json.Decoder(_Body)
_KNOWN = frozenset(_Body.__struct_fields__)


def _parse(data: bytes) -> Asked:
    try:
        body = _decoder.decode(data)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at ")
        raise InvalidRequest(
            f"cannot read {where.strip('`').removeprefix('$.') or 'the body'}",
            why=message.replace("`", "'"),
            hint="send it as OpenAI's Responses API takes it",
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            "the body is not JSON", why=str(error), hint="one request is one JSON object, in UTF-8"
        ) from None
    _refuse_memory(body)
    stream = body.stream is True
    tools, must_call = _tools(body)
    request = RouteRequest(
        messages=tuple(_messages(body)),
        tools=tools,
        must_call=must_call,
        response_format=_format(body),
        model=body.model,
        options={
            "num_predict": body.max_output_tokens,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "logprobs": _LOGPROBS in (body.include or ()) or None,
            "top_logprobs": body.top_logprobs,
        },
        think=effort("reasoning.effort", body.reasoning.effort if body.reasoning else None),
        session_id=body.user,
        body=SentBody(RESPONSES, data, stream=stream, known=_KNOWN),
    )
    return Asked(request, stream, _Renderer(body))


def _refuse_memory(body: _Body) -> None:
    for field, value in (
        ("previous_response_id", body.previous_response_id),
        ("conversation", body.conversation),
        ("background", body.background),
    ):
        if value:
            raise InvalidRequest(
                f"cannot use {field}",
                why="nothing of an earlier response is kept here",
                hint="send the whole conversation as input",
            )


def _messages(body: _Body) -> list[Message]:
    found = [Message("system", body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        return [*found, Message("user", body.input)]
    names: dict[str, str] = {}
    thought = ""
    for place, item in enumerate(body.input):
        match item.type:
            case "message":
                found.append(_message(item, place, thought))
                thought = ""
            case "function_call":
                names[item.call_id] = item.name
                call = ToolCall(item.name, _arguments(item, place), item.call_id)
                found.append(_calling(found, call, thought))
                thought = ""
            case "function_call_output":
                text, images = _output(item.output, place)
                name = names.get(item.call_id, "")
                found.append(Message("tool", text, tool_name=name, tool_call_id=item.call_id))
                if images:  # no API takes pictures from a tool
                    found.append(Message("user", "", images))
            case "reasoning":
                thought = "\n".join(part.text for part in item.summary or ())
            case kind:
                raise InvalidRequest(
                    f"input[{place}]: cannot read an item of type {kind[:40]!r}",
                    why="it belongs to a tool that runs on OpenAI's servers",
                    hint="send messages, function calls and their outputs",
                )
    return found


def _calling(found: list[Message], call: ToolCall, thought: str) -> Message:
    """What the assistant said and called in one turn is one message, as models were taught."""
    if not found or found[-1].role != "assistant":
        return Message("assistant", "", tool_calls=(call,), thinking=thought)
    said = found.pop()
    return replace(said, tool_calls=(*said.tool_calls, call), thinking=said.thinking or thought)


def _output(output: Any, place: int) -> tuple[str, tuple[Image, ...]]:
    """What a function gave: a text, or parts as a message has them."""
    if isinstance(output, str):
        return output, ()
    if isinstance(output, list):
        try:
            return _read(msgspec.convert(output, list[_Part]), place)
        except (msgspec.ValidationError, RecursionError):
            pass
    return _encoder.encode(output).decode(), ()


def _message(item: _Item, place: int, thought: str) -> Message:
    role = _ROLES.get(item.role)
    if role is None:
        raise InvalidRequest(
            f"input[{place}].role: {item.role[:40]!r} is not a role",
            why="roles are user, assistant, system and developer",
            hint="use one of them",
        )
    if item.content is None or isinstance(item.content, str):
        return Message(role, item.content or "", thinking=thought)
    text, images = _read(item.content, place)
    return Message(role, text, images, thinking=thought)


def _read(parts: Sequence[_Part], place: int) -> tuple[str, tuple[Image, ...]]:
    texts, images = [], []
    for part in parts:
        if part.type in ("input_text", "output_text", "text", "refusal"):
            texts.append(part.text)
        elif part.type == "input_image" and part.image_url:
            images.append(Image.from_base64(part.image_url))
        else:
            raise InvalidRequest(
                f"input[{place}]: cannot read a part of type {part.type[:40]!r}",
                why="only text and images reach the models here",
                hint="send what it says as input_text, or the picture as input_image with a data URL",
            )
    return "\n".join(texts), tuple(images)


def _arguments(item: _Item, place: int) -> JsonObject:
    try:
        return msgspec.json.decode(item.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"input[{place}].arguments cannot be read", why=str(error), hint="send the text of a JSON object"
        ) from None


def _tools(body: _Body) -> tuple[tuple[Tool, ...], bool]:
    """The functions that the model may call, and whether it must call one."""
    if not body.tools or body.tool_choice == "none":
        return (), False
    tools = tuple(Tool(t.name, t.description or "", t.parameters or {}) for t in _functions(body))
    if not tools:  # agents offer some of OpenAI's beside their own whoever answers; those are left out
        raise InvalidRequest(
            f"tools: cannot use {body.tools[0].type[:40]!r}",
            why="it runs on OpenAI's servers, and the models here run on yours",
            hint="describe a function of your own",
        )
    return chosen(tools, body.tool_choice)


def _functions(body: _Body) -> list[_Tool]:
    return [tool for tool in body.tools or () if tool.type == "function"]


def _format(body: _Body) -> Any:
    wanted = body.text.format if body.text is not None else None
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_schema":
        return wanted.schema or "json"
    if wanted.type == "json_object":
        return "json"
    raise InvalidRequest(
        "cannot use text.format",
        why=f"{wanted.type[:40]!r} is not a format that models can be held to",
        hint="use json_schema or json_object, or leave it out",
    )


class _Renderer:
    stream_type = "text/event-stream"
    heartbeat = HEARTBEAT

    def __init__(self, body: _Body) -> None:
        self._body = body
        self._number = -1
        self._output: list[JsonObject] = []
        self._open: JsonObject | None = None
        self._text: list[str] = []
        self._logprobs: list[Json] = []
        self._told: Told | None = None

    def begin(self, told: Told) -> bytes:
        self._told = told
        response = self._response(told, "in_progress", None, None)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def piece(self, piece: Delta) -> bytes:
        out = b""
        if piece.thinking:
            out += self._opened("reasoning")
            self._text.append(piece.thinking)
            out += self._of_item(
                "response.reasoning_summary_text.delta", summary_index=0, delta=piece.thinking
            )
        if piece.text:
            out += self._opened("message")
            self._text.append(piece.text)
            self._logprobs += token_logprobs(piece.logprobs)
            out += self._of_item(
                "response.output_text.delta",
                content_index=0,
                delta=piece.text,
                logprobs=token_logprobs(piece.logprobs),
            )
        for call in piece.tool_calls:
            out += self._closed() + self._called(call)
        return out

    def final(self, answer: Answer, told: Told) -> bytes:
        status = _status(answer)
        out = b"" if self._output or self._open else self._opened("message")
        out += self._closed(status)
        response = self._response(told, status, answer, told.router)
        return out + self._event(f"response.{status}", response=response)

    def broken(self, error: LLMRouterError, told: Told) -> bytes:
        out = self._closed("incomplete")
        told_error = error_object(error, error.http_status)
        response = self._response(told, "failed", None, told.router)
        response["error"] = {"code": "server_error", "message": told_error["message"]}
        return out + self._event("response.failed", response=response)

    def whole(self, answer: Answer, told: Told) -> bytes:
        self._told = told
        if answer.thinking:
            self._output.append(self._reasoning(answer.thinking))
        status = _status(answer)
        if answer.text or not (answer.tool_calls or answer.thinking):
            ended = "completed" if answer.tool_calls else status
            self._output.append(self._message(answer.text, ended, answer.logprobs))
        for call in answer.tool_calls:  # one by one: the number of those before is part of an id
            self._output.append(self._call(call, "completed"))
        return _encoder.encode(self._response(told, status, answer, told.router))

    def vectors(self, answer: EmbeddingAnswer, told: Told) -> bytes:
        raise NotImplementedError

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        data = {"type": kind, "sequence_number": self._number, **fields}
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encoder.encode(data))

    def _of_item(self, kind: str, **fields: Any) -> bytes:
        item = self._open or {}
        return self._event(kind, item_id=item.get("id", ""), output_index=len(self._output), **fields)

    def _opened(self, kind: str) -> bytes:
        """Begins an output item of this kind, after the end of one of another."""
        if self._open is not None and self._open["type"] == kind:
            return b""
        out = self._closed()
        if kind == "reasoning":
            self._open = self._reasoning("")
            out += self._event("response.output_item.added", output_index=len(self._output), item=self._open)
            return out + self._of_item(
                "response.reasoning_summary_part.added",
                summary_index=0,
                part={"type": "summary_text", "text": ""},
            )
        self._open = self._message(None, "in_progress")
        out += self._event("response.output_item.added", output_index=len(self._output), item=self._open)
        return out + self._of_item("response.content_part.added", content_index=0, part=_part(""))

    def _closed(self, status: str = "completed") -> bytes:
        """Ends the item that is open, with the status of a message that goes on no further."""
        item, self._open = self._open, self._open
        if item is None:
            return b""
        text = "".join(self._text)
        self._text = []
        if item["type"] == "reasoning":
            done = self._reasoning(text) | {"id": item["id"]}
            part: JsonObject = {"type": "summary_text", "text": text}
            out = self._of_item("response.reasoning_summary_text.done", summary_index=0, text=text)
            out += self._of_item("response.reasoning_summary_part.done", summary_index=0, part=part)
        else:
            logprobs, self._logprobs = self._logprobs, []
            done = self._message(text, status, logprobs) | {"id": item["id"]}
            out = self._of_item("response.output_text.done", content_index=0, text=text, logprobs=logprobs)
            out += self._of_item("response.content_part.done", content_index=0, part=_part(text, logprobs))
        out += self._event("response.output_item.done", output_index=len(self._output), item=done)
        self._output.append(done)
        self._open = None
        return out

    def _called(self, call: ToolCall) -> bytes:
        done = self._call(call, "completed")
        place = len(self._output)
        begun = done | {"arguments": "", "status": "in_progress"}
        out = self._event("response.output_item.added", output_index=place, item=begun)
        for kind, field in (("delta", "delta"), ("done", "arguments")):
            more = {field: done["arguments"]} | ({"name": call.name} if kind == "done" else {})
            out += self._event(
                f"response.function_call_arguments.{kind}", item_id=done["id"], output_index=place, **more
            )
        out += self._event("response.output_item.done", output_index=place, item=done)
        self._output.append(done)
        return out

    def _message(self, text: str | None, status: str, logprobs: Sequence[Json] = ()) -> JsonObject:
        content: list[Json] = [] if text is None else [_part(text, logprobs)]
        return {
            "type": "message",
            "id": self._id("msg"),
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _reasoning(self, text: str) -> JsonObject:
        summary: list[Json] = [{"type": "summary_text", "text": text}] if text else []
        return {"type": "reasoning", "id": self._id("rs"), "summary": summary}

    def _call(self, call: ToolCall, status: str) -> JsonObject:
        number = self._id("call")
        return {
            "type": "function_call",
            "id": self._id("fc"),
            "call_id": call.id or number,
            "name": call.name,
            "arguments": _encoder.encode(call.arguments).decode(),
            "status": status,
        }

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._told.reply_id if self._told else ''}{len(self._output)}"

    def _response(
        self, told: Told, status: str, answer: Answer | None, router: JsonObject | None
    ) -> JsonObject:
        self._told = told
        body = self._body
        output: list[Json] = list(self._output)
        short = status == "incomplete"
        response: JsonObject = {
            "id": f"resp_{told.reply_id}",
            "object": "response",
            "created_at": int(told.created_s),
            "completed_at": int(told.created_s + answer.elapsed_s) if answer is not None else None,
            "background": False,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if short else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "model": told.model,
            "output": output,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
            "store": False,
            "temperature": body.temperature,
            "text": {"format": _format_told(body)},
            "tool_choice": body.tool_choice or "auto",
            "tools": [_tool_told(tool) for tool in _functions(body)],
            "top_p": body.top_p,
            "top_logprobs": 0,
            "frequency_penalty": 0,
            "presence_penalty": 0,
            "max_tool_calls": None,
            "prompt_cache_key": None,
            "safety_identifier": None,
            "service_tier": "default",
            "truncation": "disabled",
            "usage": None if answer is None else _usage(answer),
            "user": body.user,
            "metadata": body.metadata or {},
        }
        if router is not None:
            response["router"] = router
        return response


def _part(text: str, logprobs: Sequence[Json] = ()) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": token_logprobs(logprobs)}


def _format_told(body: _Body) -> JsonObject:
    wanted = body.text.format if body.text is not None else None
    if wanted is None or wanted.type != "json_schema":
        return {"type": "text" if wanted is None else wanted.type}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "schema": wanted.schema,
        "strict": wanted.strict is True,
    }


def _tool_told(tool: _Tool) -> Json:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict is True,
    }


def _status(answer: Answer) -> str:
    return "incomplete" if answer.done_reason == "length" else "completed"


def _usage(answer: Answer) -> JsonObject:
    read, written = answer.usage.prompt_tokens or 0, answer.usage.output_tokens or 0
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }


ENDPOINT = Endpoint("openai", RESPONSES, _parse, error_body)
