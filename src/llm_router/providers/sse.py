"""Server-sent events: the lines of a reply put together to the data of each event."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

DONE = b"[DONE]"
"""What OpenAI-compatible servers send as their last event."""


async def events(lines: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The ``data`` of one event after the other.

    Comments, event names, ids and retry times are passed over. The last event is given even where the empty
    line after it is missing, and a bare JSON object (an error of a server that forgot the framing) is an
    event too.
    """
    data: list[bytes] = []
    async for line in lines:
        if not line.strip():
            if any(data):
                yield b"\n".join(data)
            data = []
        elif line.startswith(b"{"):
            data.append(line)
        else:
            field, _, value = line.partition(b":")
            if field == b"data" or (field == b"error" and value.lstrip().startswith(b"{")):
                data.append(value.removeprefix(b" "))
    if any(data):
        yield b"\n".join(data)
