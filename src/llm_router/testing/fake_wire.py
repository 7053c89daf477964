"""How Ollama reads a request and writes an answer: durations, body checks, error texts, Go's JSON."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llm_router.testing.fake_models import canonical_name

CLOUD_REFUSAL = "ollama cloud is disabled: remote model is unavailable"
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([-+]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)")
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_THINK_LEVELS = ("high", "medium", "low", "max")
_GO_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "model": (str, "string"),
    "name": (str, "string"),
    "prompt": (str, "string"),
    "suffix": (str, "string"),
    "system": (str, "string"),
    "stream": (bool, "bool"),
    "truncate": (bool, "bool"),
    "shift": (bool, "bool"),
    "logprobs": (bool, "bool"),
    "top_logprobs": (int, "int"),
    "dimensions": (int, "int"),
    "messages": (list, "[]api.Message"),
    "tools": (list, "api.Tools"),
    "images": (list, "[]api.ImageData"),
    "options": (dict, "map[string]interface {}"),
}
_FLOAT32 = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_INTEGERS = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "draft_num_predict",
    "num_keep",
    "seed",
    "num_predict",
    "top_k",
    "repeat_last_n",
)


class RefusedError(Exception):
    """An answer other than 200: the HTTP status and the text of its `error` field."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class GenerationCall:
    """A chat or generate request after the server's own checks, with its defaults filled in.

    `keep_alive_s` is None when the request carries none, and infinite for a negative one.
    """

    model: str
    messages: tuple[dict[str, Any], ...]
    stream: bool
    format: Any
    keep_alive_s: float | None
    tools: tuple[dict[str, Any], ...]
    options: dict[str, Any]
    think: bool | str | None
    truncate: bool
    shift: bool | None
    logprobs: bool
    top_logprobs: int
    suffix: str
    body: dict[str, Any]

    @property
    def image_count(self) -> int:
        """Images over all messages."""
        return sum(len(message.get("images") or ()) for message in self.messages)


def read_body(raw: bytes, struct: str) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        RefusedError: 400, in Go's words, when it is missing, malformed or has a field of the wrong type.
    """
    if not raw.strip():
        raise RefusedError(400, "missing request body")
    try:
        body = json.loads(raw)
    except UnicodeDecodeError:
        raise RefusedError(400, "invalid character '�' looking for beginning of value") from None
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc.rstrip()):
            raise RefusedError(400, "unexpected EOF") from None
        found = error.doc[error.pos]
        raise RefusedError(400, f"invalid character {found!r} looking for beginning of value") from None
    if not isinstance(body, dict):
        raise RefusedError(400, f"json: cannot unmarshal {_go_kind(body)} into Go value of type api.{struct}")
    present = {key: value for key, value in body.items() if value is not None}
    for key, (wanted, go_type) in _GO_TYPES.items():
        if key in present and not _is_of(present[key], wanted):
            kind = _go_kind(present[key])
            text = f"json: cannot unmarshal {kind} into Go struct field {struct}.{key} of type {go_type}"
            raise RefusedError(400, text)
    _check_messages(present.get("messages", ()), struct)
    return present


def _check_messages(messages: Iterable[object], struct: str) -> None:
    for message in messages:
        if not isinstance(message, dict):
            kind = _go_kind(message)
            raise RefusedError(
                400,
                f"json: cannot unmarshal {kind} into Go struct field {struct}.messages of type api.Message",
            )
        for key, wanted, go_type in (("content", str, "string"), ("images", list, "[]api.ImageData")):
            value = message.get(key)
            # /v1 also takes a list of parts, and translates it before anything here would see one.
            if value is not None and not isinstance(value, wanted) and struct == "ChatRequest":
                kind = _go_kind(value)
                where = f"Go struct field Message.messages.{key} of type {go_type}"
                raise RefusedError(400, f"json: cannot unmarshal {kind} into {where}")


def _is_of(value: object, wanted: type | tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, wanted)


def _go_kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"


def read_generation(raw: bytes, *, chat: bool) -> GenerationCall:
    """A chat or generate request.

    Raises:
        RefusedError: 400 for what the server refuses before it looks for the model.
    """
    return generation_from(read_body(raw, "ChatRequest" if chat else "GenerateRequest"), chat=chat)


def generation_from(body: dict[str, Any], *, chat: bool) -> GenerationCall:
    """As `read_generation`, from a body that is parsed already."""
    keep_alive_s = read_keep_alive(body)
    think = _read_think(body.get("think"))
    top_logprobs = body.get("top_logprobs", 0)
    if not 0 <= top_logprobs <= 20:
        raise RefusedError(400, "top_logprobs must be between 0 and 20")
    return GenerationCall(
        model=required_model(body),
        messages=tuple(body.get("messages", ())) if chat else _prompt_as_messages(body),
        stream=body.get("stream", True),
        format=body.get("format"),
        keep_alive_s=keep_alive_s,
        tools=tuple(body.get("tools", ())) if chat else (),
        options=body.get("options", {}),
        think=think,
        truncate=body.get("truncate", True),
        shift=body.get("shift"),
        logprobs=body.get("logprobs", False),
        top_logprobs=top_logprobs,
        suffix=body.get("suffix", ""),
        body=body,
    )


def required_model(body: dict[str, Any]) -> str:
    """The model a request names.

    Raises:
        RefusedError: 400 when it names none, 403 when it names a cloud model.
    """
    name = body.get("model") or body.get("name") or ""
    if not isinstance(name, str) or not name.strip():
        raise RefusedError(400, "model is required")
    if is_cloud_name(name):
        raise RefusedError(403, CLOUD_REFUSAL)
    return name


def is_cloud_name(name: str) -> bool:
    """Whether the name asks for a model that runs on somebody else's computer."""
    tag = canonical_name(name).rsplit(":", 1)[-1]
    return tag == "cloud" or tag.endswith("-cloud")


def _prompt_as_messages(body: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    prompt = body.get("prompt", "")
    if not prompt:
        return ()
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    return (*system, {"role": "user", "content": prompt, "images": body.get("images", [])})


def _read_think(value: object) -> bool | str | None:
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise RefusedError(
            400, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'
        )
    if value not in _THINK_LEVELS:
        levels = '(must be "high", "medium", "low", "max", true, or false)'
        raise RefusedError(400, f"invalid think value: {go_quote(value)} {levels}")
    return value


def read_keep_alive(body: dict[str, Any]) -> float | None:
    """Seconds of keep_alive; infinite when negative; None when the request carries none.

    Raises:
        RefusedError: 400 for a string that is no Go duration or a value of another type.
    """
    value = body.get("keep_alive")
    if value is None:
        return None
    if isinstance(value, str):
        seconds = parse_go_duration(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        go_type = {"bool": "bool", "array": "[]interface {}"}.get(_go_kind(value), "map[string]interface {}")
        raise RefusedError(400, f"Unsupported type: '{go_type}'")
    return math.inf if seconds < 0 else seconds


def parse_go_duration(text: str) -> float:
    """Seconds of a Go duration such as `1h30m` or `250ms`.

    Raises:
        RefusedError: 400 with Go's own words.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        problem = "missing unit in" if re.fullmatch(r"[-+]?\d+(\.\d*)?", text) else "invalid"
        raise RefusedError(400, f"time: {problem} duration {go_quote(text)}")
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(match[2]))
    return -seconds if match[1] == "-" else seconds


def check_options(options: dict[str, Any]) -> None:
    """Refuse an option of the wrong type, as the scheduler does; unknown names pass.

    Raises:
        RefusedError: 500, which is the status Ollama gives here.
    """
    for key, value in options.items():
        if value is None:
            continue
        if key in _INTEGERS and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise RefusedError(500, f'option "{key}" must be of type integer')
        if key in _FLOAT32 and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise RefusedError(500, f'option "{key}" must be of type float32')
        if key == "stop" and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            raise RefusedError(500, 'option "stop" must be of type array')


def go_quote(text: str) -> str:
    """The text as Go's %q prints it."""
    return json.dumps(text, ensure_ascii=False)


def go_json(value: object) -> bytes:
    """One JSON value as Go's encoder writes it: compact, UTF-8, with <, > and & escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    escaped = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return escaped.encode("utf-8", "replace")


def timestamp() -> str:
    """Now in UTC with nanoseconds, as Go writes it: more digits than Python's own datetime keeps."""
    now_ns = time.time_ns()
    return f"{datetime.fromtimestamp(now_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{now_ns % 10**9:09d}Z"


def nanoseconds(seconds: float) -> int:
    """A Go time.Duration."""
    return round(seconds * 1e9)


def without_empty(body: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The body without those of the named fields that hold zero or nothing: Go's omitempty."""
    return {key: value for key, value in body.items() if key not in keys or value}


def count_tokens(text: str) -> int:
    """The fake's tokenizer: one token for every four bytes of UTF-8, at least one for any text."""
    return -(-len(text.encode("utf-8", "replace")) // 4)
