"""Which model answered a conversation last, so that its next turn finds what was read already.

A request goes on with an answer where it begins with what that answer was asked with, followed by words of
the assistant: clients send all of a conversation with every turn. That holds whatever a session is taken to
mean, and whoever else begins with the same words. Only hashes are kept.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Generic, TypeAlias, TypeVar

from msgspec import Struct

from llm_router.policy.waits import Place
from llm_router.request import ApiKind, Message, RouteRequest, ToolCall

LEAST_KEPT = 4096
"""Turns, and beside them openings and sessions."""

_MOST_ANSWERS = 8
"""Of one turn: the same question may begin many conversations."""

_Answers: TypeAlias = tuple[tuple[int, Place], ...]
Kept = TypeVar("Kept")


class Before(Struct, frozen=True):
    """Where the turn before was answered. ``sure`` is False where only the opening or the session says so,
    which other conversations may share."""

    place: Place
    sure: bool


class _Latest(Generic[Kept]):
    """By their keys the ``LEAST_KEPT`` that were used last, and up to as many more.

    In two halves, the older of which is forgotten as a whole when the younger is full. An order of all of
    them would lie scattered in memory, and each step in it cost more than all else here.
    """

    __slots__ = ("_older", "_younger")

    def __init__(self) -> None:
        self._younger: dict[int, Kept] = {}
        self._older: dict[int, Kept] = {}

    def get(self, key: int) -> Kept | None:
        """It is used by that."""
        found = self._younger.get(key)
        if found is None:
            found = self._older.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: int, value: Kept) -> None:
        self._younger[key] = value
        if len(self._younger) >= LEAST_KEPT:
            self._younger, self._older = {}, self._younger


class Conversations:
    """The latest ``LEAST_KEPT`` turns and some more; those used longest ago are forgotten first.

    Texts are compared by Python's own hash of them, which is keyed anew for every process and worked out once
    per text.
    """

    def __init__(self) -> None:
        self._turns: _Latest[_Answers] = _Latest()
        self._loosely: _Latest[Place] = _Latest()
        self._lock = threading.Lock()

    def before(self, request: RouteRequest) -> Before | None:
        """Where the turn before was answered; None for a first turn, or where that is not known."""
        messages = request.messages
        if len(messages) < 2 or request.kind is ApiKind.EMBEDDING:
            return None
        begin, end = _last_answer(messages)
        with self._lock:
            if begin:
                answers = self._turns.get(_turn(messages[:begin]))
                if answers is not None:
                    return _among(answers, messages[begin:end])
            # Clients may cut the history, or write it anew. A session may be a person with many talks:
            # what begins one is not the next turn of another.
            loose = [_opening(request)]
            if request.session_id is not None and (end or any(m.role == "tool" for m in messages)):
                loose.append(_session(request))
            for key in loose:
                place = self._loosely.get(key)
                if place is not None:
                    return Before(place, sure=False)
        return None

    def answered(
        self, request: RouteRequest, place: Place, text: str = "", calls: Sequence[ToolCall] = ()
    ) -> None:
        """The request was answered there, with this text and these calls of tools."""
        if request.kind is ApiKind.EMBEDDING:
            return
        messages = request.messages
        begin, end = _last_answer(messages)
        if end == len(messages):  # a beginning of the answer was given: it comes back as one with the rest
            messages = messages[:begin]
        turn, answer = _turn(messages), (_ids(calls) or _words(text, calls), place)
        opening = _opening(request)
        with self._lock:
            others = [known for known in self._turns.get(turn) or () if known != answer]
            self._turns.put(turn, (*others[1 - _MOST_ANSWERS :], answer))
            self._loosely.put(opening, place)
            if request.session_id is not None:
                self._loosely.put(_session(request), place)


def _among(answers: _Answers, said: Sequence[Message]) -> Before:
    """The answer that was said, the latest of several. Clients reword answers: where none of them is the one,
    it is any of them."""
    if len(answers) > 1:
        calls = [call for message in said for call in message.tool_calls]
        told = _ids(calls), _words("".join([message.text for message in said]), calls)
        answers = tuple([answer for answer in answers if answer[0] in told]) or answers
    place = answers[-1][1]
    return Before(place, sure=all(other == place for _, other in answers))


def _last_answer(messages: Sequence[Message]) -> tuple[int, int]:
    """Where the assistant's latest words begin and end; ``(0, 0)`` where there are none."""
    end = len(messages)
    while end and messages[end - 1].role != "assistant":
        end -= 1
    begin = end
    while begin and messages[begin - 1].role == "assistant":
        begin -= 1
    return begin, end


def _turn(messages: Sequence[Message]) -> int:
    """Of all that others than the assistant have said."""
    said: list[str | int] = []
    for message in messages:
        if message.role != "assistant":
            said += (message.role, message.text, len(message.images))
            if message.images:
                said += [len(image.base64) for image in message.images]
    return hash(tuple(said))


def _ids(calls: Sequence[ToolCall]) -> int:
    """0 where a call has none: then the words tell, and clients may have given it one of their own."""
    if not calls:
        return 0
    ids = tuple([call.id for call in calls])
    return hash(ids) if all(ids) else 0


def _words(text: str, calls: Sequence[ToolCall]) -> int:
    return hash((text.strip(), *[f"{call.name} {call.arguments}" for call in calls]))


def _opening(request: RouteRequest) -> int:
    said: list[str] = []
    for message in request.messages:
        said += (message.role, message.text)
        if message.role == "user":
            break
    return hash(("opening", *said))


def _session(request: RouteRequest) -> int:
    return hash(("session", request.session_id))
