"""Server-sent events as servers really send them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llm_router.providers.sse import events


async def read(text: bytes) -> list[bytes]:
    async def lines() -> AsyncIterator[bytes]:
        for line in text.split(b"\n"):
            yield line

    return [event async for event in events(lines())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b": ping\n\ndata: a\n\n: ping\n\n", [b"a"]),
        (b"event: delta\nid: 7\nretry: 100\ndata: a\n\n", [b"a"]),
        (b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n1}']),
        (b"data: a\n", [b"a"]),
        (b"data: a", [b"a"]),
        (b"\n\n\n", []),
        (b"data:\n\ndata: a\n\n", [b"a"]),
        (b'{"error":{"message":"no"}}', [b'{"error":{"message":"no"}}']),
        (b'error: {"message":"no"}\n\n', [b'{"message":"no"}']),
        (b"hello", []),
    ],
)
async def test_lines_become_events(text: bytes, expected: list[bytes]) -> None:
    assert await read(text) == expected
