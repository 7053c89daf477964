"""Which model answered a conversation last, so that its next turn finds what was read already.

A conversation is known by its session where the caller names one, else by how it begins: clients send all of
it with every turn. Only digests are kept.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from llm_router.policy.waits import Place
from llm_router.request import ApiKind, RouteRequest

MOST_KEPT = 4096
_HEAD_CHARS = 2000


class Conversations:
    """The latest ``MOST_KEPT`` of them; the one used longest ago is forgotten first."""

    def __init__(self) -> None:
        self._places: OrderedDict[bytes, Place] = OrderedDict()
        self._lock = threading.Lock()

    def place_of(self, request: RouteRequest) -> Place | None:
        """Where the turn before was answered; None for a first turn, or where that is not known."""
        if len(request.messages) < 2:
            return None
        key = _key(request)
        with self._lock:
            found = self._places.get(key) if key is not None else None
            if found is not None and key is not None:
                self._places.move_to_end(key)
            return found

    def answered(self, request: RouteRequest, place: Place) -> None:
        """A turn of the conversation was answered there."""
        key = _key(request)
        if key is None:
            return
        with self._lock:
            self._places[key] = place
            self._places.move_to_end(key)
            while len(self._places) > MOST_KEPT:
                self._places.popitem(last=False)


def _key(request: RouteRequest) -> bytes | None:
    if request.kind is ApiKind.EMBEDDING:
        return None
    if request.session_id is not None:
        text = f"session {request.session_id}"
    else:
        begin = []
        for message in request.messages:
            begin.append(f"{message.role} {message.text[:_HEAD_CHARS]}")
            if message.role == "user":
                break
        text = "\n".join(begin)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).digest()
