"""What the fake answers and how many tokens it counts: deterministic, and true to the request's options."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_router.testing.fake_faults import NO_TOOLS_TEXT, Fault, Strike
from llm_router.testing.fake_models import FakeModel
from llm_router.testing.fake_scheduler import FakeSettings
from llm_router.testing.fake_wire import GenerationCall, RefusedError, count_tokens, go_quote

_IMAGE_TOKENS = 576
_MESSAGE_TOKENS = 4
_NUM_KEEP = 4
_PIECE = re.compile(r"\s*\S+|\s+$")
_IMAGE_TEXT = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
_TOO_LONG_TEXT = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of one of the tools that came with the request."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token, how probable it was, and how probable others were in its place, as logprobs.

    None where the server does not tell, as older ones do not.
    """

    text: str
    logprob: float | None
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `thinking` only reaches the client when the model can think and was not told not to.

    With `tokens` they are the text, in place of `content`, and a chunk each.
    """

    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: tuple[Token, ...] = ()


Reply = Callable[[dict[str, Any]], "Answer | str | None"]
"""Decides the answer from the parsed native body, also for /v1. None means: answer as usual."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk of a streamed answer."""

    content: str = ""
    thinking: str = ""
    token: Token | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """An answer with everything the wire needs to tell it: its chunks, its token counts and why it ended."""

    model: str
    pieces: tuple[Piece, ...]
    tool_calls: tuple[ToolCall, ...]
    prompt_tokens: int
    done_reason: str

    @property
    def eval_tokens(self) -> int:
        """Tokens generated: one for each chunk, and at least one."""
        return max(1, len(self.pieces) + 8 * len(self.tool_calls))

    @property
    def content(self) -> str:
        """The whole text."""
        return "".join(piece.content for piece in self.pieces)

    @property
    def thinking(self) -> str:
        """The whole reasoning."""
        return "".join(piece.thinking for piece in self.pieces)


def check_capabilities(model: FakeModel, call: GenerationCall, *, chat: bool, strike: Strike) -> None:
    """Refuse what the model cannot do, before anything is loaded.

    Raises:
        RefusedError: 400 with the text of the first capability that is missing.
    """
    if call.think and not model.can("thinking"):
        raise RefusedError(400, f"{go_quote(call.model)} does not support thinking")
    if not model.can("completion"):
        raise RefusedError(400, f"{go_quote(call.model)} does not support {'chat' if chat else 'generate'}")
    if (call.tools and not model.can("tools")) or strike(Fault.NO_TOOLS):
        raise RefusedError(400, NO_TOOLS_TEXT.format(path_name=model.path_name))
    if call.suffix and not model.can("insert"):
        raise RefusedError(400, f"{model.path_name} does not support insert")


def check_images(model: FakeModel, call: GenerationCall) -> None:
    """Refuse images the loaded model cannot read.

    Raises:
        RefusedError: 500 for a model without vision, 400 for more images than the architecture takes.
    """
    if call.image_count and not model.can("vision"):
        raise RefusedError(500, _IMAGE_TEXT)
    if model.architecture == "mllama" and call.image_count > 1:
        raise RefusedError(400, "this model only supports one image while more than one image requested")


def generate(
    model: FakeModel,
    call: GenerationCall,
    num_ctx: int,
    *,
    settings: FakeSettings,
    reply: Reply | None,
    strike: Strike,
) -> Generation:
    """The answer to a request for a loaded model.

    Raises:
        RefusedError: 400 for a prompt that does not fit and may not be cut, 500 for a format that is none.
    """
    _check_format(call.format)
    prompt_tokens = fit_prompt(model, call, num_ctx)
    if strike(Fault.TRUNCATE):
        prompt_tokens = shifted_limit(num_ctx)
    answer = _answer(model, call, settings, reply)
    if strike(Fault.EMPTY_ANSWER):
        answer = Answer("")
    # gpt-oss takes a level of reasoning, and cannot be told to do without.
    thinks = model.can("thinking") and (call.think is not False or model.architecture == "gptoss")
    pieces = [Piece(thinking=text) for text in _PIECE.findall(answer.thinking)] if thinks else []
    content = _until_stop(answer.content, call.options)
    pieces += [Piece(token.text, token=token) for token in answer.tokens] or [
        Piece(text) for text in _PIECE.findall(content)
    ]
    limit = call.options.get("num_predict", -1)
    cut = isinstance(limit, (int, float)) and 0 <= limit < len(pieces)
    return Generation(
        model="some-other-model:latest" if strike(Fault.WRONG_MODEL) else call.model,
        pieces=tuple(pieces[: int(limit)] if cut else pieces),
        tool_calls=answer.tool_calls,
        prompt_tokens=prompt_tokens,
        done_reason="length" if cut else "stop",
    )


def _until_stop(content: str, options: Mapping[str, Any]) -> str:
    for stop in options.get("stop") or ():
        content = content.split(stop, 1)[0] if stop else content
    return content


def _answer(model: FakeModel, call: GenerationCall, settings: FakeSettings, reply: Reply | None) -> Answer:
    thinking = model.thinking or f"{model.name} weighs the question. It decides."
    chosen = reply(call.body) if reply is not None else None
    if isinstance(chosen, Answer):
        return chosen
    if isinstance(chosen, str):
        return Answer(chosen, thinking)
    if settings.call_tools and call.tools and call.messages[-1].get("role") != "tool":
        return Answer("", thinking, (_first_tool_call(call.tools),))
    return Answer(_default_content(model, call), thinking)


def _first_tool_call(tools: tuple[dict[str, Any], ...]) -> ToolCall:
    function = tools[0].get("function", {})
    return ToolCall(function.get("name", "tool"), instance_of(function.get("parameters", {"type": "object"})))


def _default_content(model: FakeModel, call: GenerationCall) -> str:
    heard = next((m.get("content", "") for m in reversed(call.messages) if m.get("role") == "user"), "")
    text = model.answer if model.answer is not None else f"{model.name} heard: {heard[:400]}"
    if call.format in (None, ""):
        return _with_in_band_reasoning(text) if model.in_band_reasoning else text
    instance = {"answer": text} if call.format == "json" else instance_of(call.format)
    return json.dumps(instance, ensure_ascii=False)


def _check_format(wanted: object) -> None:
    if wanted not in (None, "", "json") and not isinstance(wanted, dict):
        shown = go_quote(json.dumps(wanted))
        raise RefusedError(500, f'invalid format: {shown}; expected "json" or a valid JSON Schema object')


def _with_in_band_reasoning(text: str) -> str:
    return (
        "Here are my reasoning steps:\nThe question is short. I answer it.\n"
        f"[BEGIN FINAL RESPONSE]\n{text}\n[END FINAL RESPONSE]\n<|end|>"
    )


def prompt_token_count(call: GenerationCall) -> int:
    """Tokens of the whole prompt as the fake counts them: text, tools, images and a few for each message."""
    tools = count_tokens(json.dumps(call.tools)) if call.tools else 0
    return tools + sum(_message_tokens(message) for message in call.messages)


def _message_tokens(message: Mapping[str, Any]) -> int:
    text = message.get("content") or ""
    images = message.get("images") or ()
    return _MESSAGE_TOKENS + count_tokens(text) + _IMAGE_TOKENS * len(images)


def shifted_limit(num_ctx: int) -> int:
    """Tokens that remain of an over-long prompt: the first few, and half of the rest."""
    return num_ctx - max((num_ctx - _NUM_KEEP) // 2, 1)


def fit_prompt(model: FakeModel, call: GenerationCall, num_ctx: int) -> int:
    """Prompt tokens that reach the model: oldest messages dropped first, then the remaining one cut.

    Raises:
        RefusedError: 400 when it does not fit and may not be cut.
    """
    total = prompt_token_count(call)
    if total < num_ctx:
        return total
    if not call.truncate:
        raise RefusedError(400, _exceeds_text(total, num_ctx))
    kept = [message for message in call.messages[:-1] if message.get("role") != "system"]
    while kept and total >= num_ctx:
        total -= _message_tokens(kept.pop(0))
    if total < num_ctx:
        return total
    if call.shift is False or model.architecture == "deepseek2":
        raise RefusedError(400, _TOO_LONG_TEXT)
    return shifted_limit(num_ctx)


def _exceeds_text(tokens: int, num_ctx: int) -> str:
    message = (
        f"request ({tokens} tokens) exceeds the available context size ({num_ctx} tokens), try increasing it"
    )
    error = {
        "code": 400,
        "message": message,
        "type": "exceed_context_size_error",
        "n_prompt_tokens": tokens,
        "n_ctx": num_ctx,
    }
    return json.dumps({"error": error}, separators=(",", ":"))


def instance_of(schema: Any, root: Any = None) -> Any:
    """A small value that satisfies a JSON schema: the first of every choice, and only the required keys."""
    root = schema if root is None else root
    if not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        return instance_of(_referenced(root, schema["$ref"]), root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return instance_of(schema[choice][0], root)
    kind = schema.get("type", "object" if "properties" in schema else "null")
    return _typed_instance(kind[0] if isinstance(kind, list) else kind, schema, root)


def _typed_instance(kind: str, schema: dict[str, Any], root: Any) -> Any:
    if kind == "object":
        properties = schema.get("properties", {})
        return {
            key: instance_of(properties.get(key, {"type": "string"}), root)
            for key in schema.get("required", ())
        }
    if kind == "array":
        return [instance_of(schema.get("items", {}), root) for _ in range(schema.get("minItems", 0))]
    if kind == "string":
        return "text".ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    return False if kind == "boolean" else None


def _referenced(root: Any, reference: str) -> Any:
    found = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part, {}) if isinstance(found, dict) else {}
    return found


def logprobs_of(piece: Piece, top: int) -> list[dict[str, Any]]:
    """The `logprobs` field of a chunk that holds one token."""
    text = piece.content or piece.thinking
    others = {f" alternative{n}": -0.25 - n for n in range(1, top)}
    token = piece.token or Token(text, -0.25, others)
    if token.logprob is None:
        return []
    body = _logprob(text, token.logprob)
    if top:
        listed = sorted({text: token.logprob, **token.others}.items(), key=lambda item: -item[1])
        body["top_logprobs"] = [_logprob(*item) for item in listed[:top]]
    return [body]


def _logprob(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def embedding_of(text: str, dimensions: int) -> list[float]:
    """A vector that depends on nothing but the text's words: texts that share words point the same way."""
    vector = [0.01] * dimensions  # never quite zero, so that any cut of it still has a direction
    for word in re.findall(r"\w+", text.lower()) or [text]:
        digest = hashlib.sha256(word.encode("utf-8", "replace")).digest()
        for start in range(0, 16, 4):
            position = int.from_bytes(digest[start : start + 3]) % dimensions
            vector[position] += 1.5 if digest[start + 3] & 1 else -1.5
    return vector


def normalised(vector: list[float]) -> list[float]:
    """The vector scaled to length one."""
    norm = math.sqrt(sum(value * value for value in vector))
    return [value / norm for value in vector]
