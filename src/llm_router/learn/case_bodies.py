"""The request body that a case stands for, as a client of the OpenAI API would have sent it."""

from __future__ import annotations

import base64
import functools
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from llm_router.request import Json, JsonObject, Role

_WIDE = re.compile("[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_WIDE_CHARS_PER_TOKEN, _CHARS_PER_TOKEN = 1.5, 4
_WORTH_FILLING_TOKENS = 500
_SHORTENED_CHARS = 8000
_PAGE = "The protocol goes on overleaf: further entries of the same kind, with dates, sums and signatures. "


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of a conversation: who, the words, how many pictures came with them."""

    role: Role
    text: str
    images: int = 0


def body_of(
    conversation: Sequence[Said], *, tools: int = 0, kind: str = "chat", context_tokens: int = 0
) -> JsonObject:
    """One body: messages with their pictures, function definitions, documents at their true size.

    ``context_tokens`` is the size of the whole request. What the last turn lacks of it is filled up: inside
    a long text, which has lost its middle, else as a document behind the words.
    """
    *before, last = conversation or [Said("user", "")]
    if kind == "embedding":
        return {"model": "auto", "input": last.text}
    text, document = _with_document(last.text, context_tokens)
    messages: list[Json] = [{"role": s.role, "content": _content([s.text], s.images)} for s in before]
    texts = [text, document] if document else [text]
    messages.append({"role": last.role, "content": _content(texts, last.images)})
    body: JsonObject = {"model": "auto", "messages": messages}
    if tools:
        body["tools"] = [_tool(number) for number in range(1, tools + 1)]
    return body


@functools.cache
def picture() -> str:
    """One white pixel as a data URL: a router that does not look at pictures can only count them."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\x00\xff")), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def rough_tokens(text: str) -> float:
    """Tokens by the rule of thumb that ``context_tokens`` of such files are counted with."""
    wide = len(_WIDE.findall(text))
    return wide / _WIDE_CHARS_PER_TOKEN + (len(text) - wide) / _CHARS_PER_TOKEN


def _with_document(text: str, context_tokens: int) -> tuple[str, str]:
    """The text, and the document that belongs behind it; a text that was cut gets its middle back."""
    missing = context_tokens - rough_tokens(text)
    if missing <= _WORTH_FILLING_TOKENS:
        return text, ""
    length = int(missing * _CHARS_PER_TOKEN)
    third = len(text) // 3
    stuff = text[third : 2 * len(text) // 3] if len(text) > _SHORTENED_CHARS else _PAGE
    document = (stuff * (length // len(stuff) + 1))[:length]
    if len(text) <= _SHORTENED_CHARS:
        return text, document
    half = len(text) // 2
    return text[:half] + document + text[half:], ""


def _content(texts: Sequence[str], images: int) -> Json:
    if len(texts) == 1 and not images:
        return texts[0]
    parts: list[Json] = [{"type": "text", "text": text} for text in texts]
    parts += [{"type": "image_url", "image_url": {"url": picture()}} for _ in range(images)]
    return parts


def _tool(number: int) -> JsonObject:
    parameters: JsonObject = {"type": "object", "properties": {}}
    function: JsonObject = {"name": f"function_{number}", "description": "", "parameters": parameters}
    return {"type": "function", "function": function}
