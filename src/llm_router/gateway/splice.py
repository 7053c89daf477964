"""Adding one member to a JSON object without reading it: the rest stays as it was, byte for byte."""

from __future__ import annotations

import msgspec

from llm_router.request import JsonObject

_encoder = msgspec.json.Encoder()


def with_member(raw: bytes, name: str, value: JsonObject) -> bytes:
    """The object ``raw`` with one more member at its end; ``raw`` itself where it is no object."""
    end = raw.rfind(b"}")
    if end < 0 or not raw.lstrip().startswith(b"{"):
        return raw
    head = raw[:end].rstrip()
    comma = b"" if head.endswith(b"{") else b","
    return b'%s%s"%s":%s%s' % (head, comma, name.encode(), _encoder.encode(value), raw[end:])
