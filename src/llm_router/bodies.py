"""From the bodies of other APIs to a ``RouteRequest``: OpenAI and Ollama, chat, completion and embedding.

Bodies are read leniently where the APIs are lenient (unknown fields, missing optional ones, numbers as
floats) and strictly where a mistake would change the answer. Which API a body belongs to is told by its
path where there is one, else by its own fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from operator import attrgetter
from typing import Any, Literal

import msgspec

from llm_router.errors import InvalidRequest
from llm_router.request import (
    ApiKind,
    Image,
    Json,
    JsonObject,
    Message,
    Role,
    RouteRequest,
    SentBody,
    Tool,
    ToolCall,
)

Api = Literal["openai", "ollama"]

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}

_NATIVE_CHAT = "/api/chat"

_OPENAI_OPTIONS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
    "top_logprobs": "top_logprobs",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repeat_penalty",
    "repetition_penalty": "repeat_penalty",
}
"""Top-level parameters of OpenAI and of servers with its API live under ``options`` in Ollama, so named."""

_openai_options = attrgetter(*_OPENAI_OPTIONS)
_NO_OPTIONS = (None,) * len(_OPENAI_OPTIONS)
_WHOLE = frozenset({"seed", "max_tokens", "max_completion_tokens", "top_logprobs", "top_k"})

_EFFORTS: Mapping[str, bool | str] = {
    "none": False,
    "minimal": False,
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
    "ultra": "high",
}
"""What callers say of thinking → the values that every version of Ollama with thinking takes."""


class _Function(msgspec.Struct):
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    arguments: str | dict[str, Any] | None = None


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Tool(msgspec.Struct):
    function: _Function | None = None
    name: str | None = None


class _ImageUrl(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str = "text"
    text: str | None = None
    image_url: _ImageUrl | str | None = None


class _Message(msgspec.Struct):
    role: str = "user"
    content: str | list[_Part] | None = None
    images: list[str] | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    name: str | None = None
    thinking: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _JsonSchema(msgspec.Struct):
    schema: dict[str, Any] | None = None


class _ResponseFormat(msgspec.Struct):
    type: str = "text"
    json_schema: _JsonSchema | None = None


class _Body(msgspec.Struct):
    """Every field of either API that a decision or an answer depends on."""

    model: str | None = None
    messages: list[_Message] | None = None
    prompt: str | list[str] | None = None
    input: str | list[str | int | list[int]] | None = None
    system: str | None = None
    suffix: str | None = None
    images: list[str] | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    function_call: str | dict[str, Any] | None = None
    functions: list[_Function] | None = None
    response_format: _ResponseFormat | None = None
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    think: bool | str | None = None
    reasoning_effort: str | None = None
    reasoning: Any = None
    raw: bool | None = None
    dimensions: int | float | None = None
    user: str | None = None
    session_id: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | float | None = None
    stop: str | list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | float | None = None
    max_completion_tokens: int | float | None = None
    logprobs: bool | int | None = None
    top_logprobs: int | float | None = None
    top_k: int | float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repetition_penalty: float | None = None


_KINDS = (ApiKind.EMBEDDING, ApiKind.CHAT, ApiKind.GENERATE)

KNOWN_FIELDS = frozenset(_Body.__struct_fields__) | {"stream", "stream_options", "n", "parallel_tool_calls"}
"""What a ``RouteRequest`` or a wire speaks for; every other field of a body is a server's own affair."""

_decoder = msgspec.json.Decoder(_Body)


def request_from_json(
    data: bytes | str, *, sent: SentBody | None = None, kind: ApiKind | None = None
) -> RouteRequest:
    """One OpenAI or Ollama request body as JSON text → RouteRequest, which keeps ``sent``.

    ``kind`` is what the body's path asks for; it counts where the body has the field for it. Raises
    InvalidRequest that names the field which is wrong.
    """
    try:
        return _request(_decoder.decode(data), sent, kind)
    except msgspec.ValidationError as error:
        raise _wrong_field(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(data, error) from error
    except RecursionError as error:
        raise InvalidRequest(
            "the body is nested too deeply", why="no request needs that", hint="send it flatter"
        ) from error


def request_from_body(body: JsonObject) -> RouteRequest:
    """The same for a body that is already parsed."""
    try:
        return _request(msgspec.convert(body, _Body))
    except msgspec.ValidationError as error:
        raise _wrong_field(error) from error


def _not_json(data: bytes | str, error: Exception) -> InvalidRequest:
    """The decoder also stops at half a surrogate pair and says nothing that would help to find it."""
    try:
        json.dumps(json.loads(data), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return InvalidRequest(
            "cannot read a text of the body",
            why="it has half of a surrogate pair (\\ud800 to \\udfff), which is no character",
            hint="send the whole character, or leave it out",
        )
    except (ValueError, RecursionError):
        pass
    return InvalidRequest(
        "the body is not JSON", why=str(error), hint="one request is one JSON object, in UTF-8"
    )


def _wrong_field(error: msgspec.ValidationError) -> InvalidRequest:
    message, _, where = str(error).partition(" - at ")
    field = where.strip("`").removeprefix("$.") or "the body"
    return InvalidRequest(
        f"cannot read {field}",
        why=message.replace("`", "'"),
        hint="send it as OpenAI's or Ollama's API takes it",
    )


def _kind(body: _Body, wanted: ApiKind | None) -> ApiKind:
    for kind in _KINDS if wanted is None else (wanted, *_KINDS):
        if kind is ApiKind.CHAT:
            given = body.messages is not None
        elif kind is ApiKind.EMBEDDING:
            given = body.input is not None
        else:
            given = body.prompt is not None or (wanted is ApiKind.GENERATE and bool(body.images))
        if given:
            return kind
    raise InvalidRequest(
        "the body asks nothing",
        why="it has none of messages, prompt and input",
        hint="send messages, prompt or input, as OpenAI's or Ollama's API takes them",
    )


def _request(body: _Body, sent: SentBody | None = None, wanted: ApiKind | None = None) -> RouteRequest:
    kind = _kind(body, wanted)
    if kind is ApiKind.EMBEDDING and body.input is not None:
        return _embedding(body, body.input, sent)
    chats = kind is ApiKind.CHAT and body.messages is not None
    native = sent is not None and sent.endpoint == _NATIVE_CHAT
    messages = _chat_messages(body.messages or (), native=native) if chats else _prompt_messages(body)
    tools, must_call = _tools(body) if body.tools or body.functions else ((), False)
    return RouteRequest(
        messages=messages,
        kind=kind,
        tools=tools,
        response_format=_response_format(body),
        model=body.model,
        options=_options(body),
        think=_think(body),
        suffix=body.suffix,
        raw=bool(body.raw),
        must_call=must_call,
        session_id=body.session_id or body.user,
        body=sent,
    )


def _embedding(body: _Body, value: str | Sequence[Any], sent: SentBody | None) -> RouteRequest:
    items = [value] if isinstance(value, str) else list(value)
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) < len(items):
        raise InvalidRequest(
            "cannot embed token numbers",
            why="they belong to one model's vocabulary and the router chooses the model",
            hint="send the text itself as input",
        )
    return RouteRequest(
        kind=ApiKind.EMBEDDING,
        inputs=tuple(texts),
        model=body.model,
        options=dict(body.options or {}),
        dimensions=_whole("dimensions", body.dimensions),
        session_id=body.session_id or body.user,
        body=sent,
    )


def _chat_messages(messages: Sequence[_Message], *, native: bool) -> tuple[Message, ...]:
    if not messages:
        raise InvalidRequest(
            "the conversation is empty", why="messages has no entry", hint="send at least one message"
        )
    called = {call.id: call.function.name for m in messages for call in m.tool_calls or () if call.id}
    return tuple([_message(message, index, called, native) for index, message in enumerate(messages)])


def _message(message: _Message, index: int, called: Mapping[str, str], native: bool) -> Message:
    """``called`` holds the names of the functions that were called, by the id of the call."""
    role: str | None = _ROLES.get(message.role)
    if role is None and native:  # Ollama reads roles in small letters, and leaves them to the template
        role = message.role.lower()
        role = _ROLES.get(role, role)
    if not role:
        raise InvalidRequest(
            f"cannot read messages[{index}].role",
            why=f"{message.role!r} is not a role",
            hint="roles are system, user, assistant and tool",
        )
    text, images = _content(message)
    return Message(
        role,
        text,
        images,
        _calls(message) if message.tool_calls or message.function_call else (),
        _tool_name(message, called) if role == "tool" else message.tool_name or "",
        message.tool_call_id or "",
        thinking=message.thinking or message.reasoning_content or message.reasoning or "",
    )


def _calls(message: _Message) -> tuple[ToolCall, ...]:
    if message.tool_calls:
        return tuple(map(_tool_call, message.tool_calls))
    called = message.function_call
    return () if called is None else (_tool_call(_ToolCall(called)),)


def _tool_name(message: _Message, called: Mapping[str, str]) -> str:
    """Whose result it is. OpenAI's clients name the call, and templates of models want the function."""
    return message.tool_name or message.name or called.get(message.tool_call_id or "", "")


def _content(message: _Message) -> tuple[str, tuple[Image, ...]]:
    content = message.content
    if not message.images and (content is None or isinstance(content, str)):
        return content or "", ()
    images = [Image.from_base64(item) for item in message.images or ()]
    if content is None or isinstance(content, str):
        return content or "", tuple(images)
    texts = []
    for part in content:
        if part.image_url is not None:
            url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
            images.append(Image.from_base64(url))
        elif part.text is not None:
            texts.append(part.text)
        elif part.type not in ("text", "refusal"):
            raise InvalidRequest(
                f"cannot read a part of type {part.type[:40]!r}",
                why="only text and images reach the models here",
                hint="send what it says as text, or the picture as image_url",
            )
    return "\n".join(texts), tuple(images)


def _prompt_messages(body: _Body) -> tuple[Message, ...]:
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt or [""]
    if len(prompts) > 1:
        raise InvalidRequest(
            f"cannot answer {len(prompts)} prompts at once",
            why="each one is a task of its own and may need another model",
            hint="send one request per prompt",
        )
    images = tuple(Image.from_base64(item) for item in body.images or ())
    system = (Message("system", body.system),) if body.system else ()
    return (*system, Message("user", prompts[0], images))


def _tool_call(call: _ToolCall) -> ToolCall:
    arguments = call.function.arguments
    if isinstance(arguments, str):
        try:
            parsed = msgspec.json.decode(arguments or "{}")
        except msgspec.DecodeError as error:
            raise InvalidRequest(
                f"cannot read the arguments of the tool call {call.function.name!r}",
                why=str(error),
                hint="send them as a JSON object, or as its text",
            ) from error
        arguments = parsed if isinstance(parsed, dict) else {"value": parsed}
    return ToolCall(call.function.name, arguments or {}, call.id or "")


def _tools(body: _Body) -> tuple[tuple[Tool, ...], bool]:
    """The functions that the model may call, and whether it must call one."""
    if "none" in (body.tool_choice, body.function_call):
        return (), False
    functions = [tool.function or _Function(name=tool.name or "") for tool in body.tools or ()]
    functions += body.functions or []
    tools = tuple(Tool(f.name, f.description or "", f.parameters or {}) for f in functions if f.name)
    if not tools:  # beside functions others are left out: an offer that the model does not see harms nobody
        raise InvalidRequest(
            "cannot use tools",
            why="none of them is a function, and models here call nothing else",
            hint="describe a function with its name, description and parameters",
        )
    choice = body.function_call if body.tool_choice is None else body.tool_choice
    return chosen(tools, choice)


def chosen(tools: tuple[Tool, ...], choice: str | Mapping[str, Any] | None) -> tuple[tuple[Tool, ...], bool]:
    """The tools that ``tool_choice`` leaves of all, and whether it insists on a call.

    No server can be made to call a function, but to see no other. Raises InvalidRequest where the choice
    names one that is not there.
    """
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    if not isinstance(choice, Mapping) or kind in ("auto", "required"):
        return tools, kind == "required"
    if kind == "allowed_tools":
        allowed = choice.get("allowed_tools", choice)  # its members stand in the choice itself for responses
        allowed = allowed if isinstance(allowed, Mapping) else {}
        listed, must = allowed.get("tools"), allowed.get("mode") == "required"
        names = [_name_of(tool) for tool in listed] if isinstance(listed, list) else []
    else:
        names, must = [_name_of(choice)], True
    wanted = {name for name in names if name is not None}
    missing = sorted(wanted - {tool.name for tool in tools})
    if missing or not wanted:
        raise InvalidRequest(
            "cannot use tool_choice",
            why=f"{missing[0][:80]!r} is not among the tools" if missing else "it names no function",
            hint='name a function of tools, or send "auto" or "required"',
        )
    return tuple(tool for tool in tools if tool.name in wanted), must


def _name_of(tool: object) -> str | None:
    """Of a function as ``tool_choice`` refers to it: chat has its name one level deeper than responses."""
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return name if isinstance(name, str) else None


def _response_format(body: _Body) -> Literal["json"] | JsonObject | None:
    wanted = body.response_format
    if wanted is not None:
        if wanted.type == "json_schema" and wanted.json_schema is not None:
            return wanted.json_schema.schema or "json"
        return _plain_format("response_format.type", wanted.type, {"json_object", "json_schema"}, {"text"})
    if isinstance(body.format, dict):
        return body.format
    return _plain_format("format", body.format, {"json"}, {""}) if body.format else None


def _plain_format(field: str, given: str, is_json: Set[str], is_text: Set[str]) -> Literal["json"] | None:
    if given in is_json or given in is_text:
        return "json" if given in is_json else None
    raise InvalidRequest(
        f"cannot use {field}",
        why=f"{given[:80]!r} is not a format that models can be held to",
        hint="ask for JSON, give a JSON schema, or leave it out",
    )


def _options(body: _Body) -> dict[str, Json]:
    options: dict[str, Json] = dict(body.options) if body.options else {}
    if body.logprobs is not None:
        # /v1/completions says with one number what chat says with two fields.
        options["logprobs"] = body.logprobs is not False
        if not isinstance(body.logprobs, bool) and body.logprobs > 0:
            options["top_logprobs"] = body.logprobs
    values = _openai_options(body)
    if values != _NO_OPTIONS:
        for (theirs, ours), value in zip(_OPENAI_OPTIONS.items(), values, strict=True):
            if value is not None:
                options[ours] = _whole(theirs, value) if theirs in _WHOLE else value
    return options


def _whole(field: str, value: int | float | None) -> int | None:
    if isinstance(value, float):
        if not value.is_integer():
            raise InvalidRequest(
                f"cannot read {field}",
                why=f"{value} is not a whole number",
                hint="round it, or leave it out",
            )
        return int(value)
    return value


def _think(body: _Body) -> bool | str | None:
    if body.think is not None:
        return effort("think", body.think)
    if body.reasoning_effort is not None:
        return effort("reasoning_effort", body.reasoning_effort)
    wanted = body.reasoning.get("effort") if isinstance(body.reasoning, dict) else None
    return effort("reasoning.effort", wanted) if isinstance(wanted, str) else None


def effort(field: str, wanted: bool | str | None) -> bool | str | None:
    """What callers say of thinking, as every server here takes it. Raises InvalidRequest."""
    if wanted is None or isinstance(wanted, bool):
        return wanted
    try:
        return _EFFORTS[wanted.lower()]
    except KeyError:
        raise InvalidRequest(
            f"cannot read {field}",
            why=f"{wanted[:80]!r} is not an effort",
            hint=f"efforts are {', '.join(_EFFORTS)}",
        ) from None
