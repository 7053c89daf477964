"""Requests that came together take each of their larger steps together.

What a decision costs is for the most part what its code and its tables cost to be brought into the caches of
the processor: alone it takes clearly longer than in a row of others. So a request waits before each such step
until all that are ready are there too, and then they take it one after the other. One that is alone pays some
microseconds for it.
"""

from __future__ import annotations

import types
from collections.abc import Generator


@types.coroutine
def in_step() -> Generator[None, None, None]:
    """Lets all others go first that can go on now. May be cancelled, as every wait."""
    yield
