"""The end of listening, without a connection that was accepted and then forgotten."""

from __future__ import annotations

import asyncio
from contextlib import suppress

_STEPS_TO_PROTOCOL = 3
"""Steps of asyncio's loop from accepting a connection to ``connection_made``."""


async def stop_listening(server: asyncio.Server) -> None:
    """Closes ``server``; every connection that it had accepted has its protocol afterwards.

    asyncio makes the transport of a connection one step after it was accepted, and fails, with the socket
    open, where the server was closed in between. So nothing more is accepted first, and what was accepted is
    waited for. uvloop accepts in one step and knows no such gap.
    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        with suppress(NotImplementedError):  # a loop that does not watch for readiness, as on Windows
            loop.remove_reader(listening.fileno())
    for _ in range(_STEPS_TO_PROTOCOL):
        await asyncio.sleep(0)
    server.close()
