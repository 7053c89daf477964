"""The task at hand in a conversation: what is asked now, what was asked before, which pictures are meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from llm_router.request import Message, RouteRequest


@dataclass(frozen=True, slots=True)
class Conversation:
    """Which pictures there are: ``pictures`` came with what is asked now, ``past_pictures`` earlier.

    ``picture_just_before`` says that the latest of those came with the user's turn before this one.
    """

    pictures: int = 0
    past_pictures: int = 0
    picture_just_before: bool = False


_IN_WORDS = Conversation()


def conversation_of(request: RouteRequest) -> Conversation:
    if not request.images:
        return _IN_WORDS
    now = sum(len(message.images) for message in _current_turn(request))
    past = len(request.images) - now
    last = next(_earlier_messages(request), None) if past else None
    return Conversation(
        pictures=now,
        past_pictures=past,
        picture_just_before=last is not None and bool(last.images),
    )


def in_tool_loop(request: RouteRequest) -> bool:
    """Whether a tool has answered since the assistant's last words: the model that called it is to go on.

    Words of the user may follow the results: some clients add a note of theirs to them.
    """
    for message in reversed(request.messages):
        if message.role == "tool":
            return True
        if message.role == "assistant":
            return False
    return False


def earlier_tasks(request: RouteRequest) -> Iterator[str]:
    """What the user said before the task at hand, the latest first."""
    return (message.judged or message.text for message in _earlier_messages(request) if message.text.strip())


def _earlier_messages(request: RouteRequest) -> Iterator[Message]:
    """The user's messages before the one that asks, the latest first."""
    asking = request.asking
    seen = False
    for message in reversed(request.messages):
        if message is asking:
            seen = True
        elif seen and message.role == "user":
            yield message


def without_past_pictures(request: RouteRequest) -> RouteRequest:
    """The same request with the pictures of earlier turns left out; itself where there are none.

    For a task in words that follows one about a picture: a model that reads only text would refuse it.
    """
    current = {id(message) for message in _current_turn(request)}
    if not any(message.images and id(message) not in current for message in request.messages):
        return request
    kept = tuple(m if id(m) in current else _in_words(m) for m in request.messages)
    body = request.body.reworded() if request.body is not None else None
    return replace(request, messages=kept, body=body)


def _in_words(message: Message) -> Message:
    if not message.images:
        return message
    return replace(message, images=(), text=message.text if message.text.strip() else "(a picture)")


def _current_turn(request: RouteRequest) -> tuple[Message, ...]:
    """The message that asks, and all after it."""
    if not request.messages:
        return ()
    asking = request.asking
    for place in range(len(request.messages) - 1, -1, -1):
        if request.messages[place] is asking:
            return request.messages[place:]
    return request.messages[-1:]
