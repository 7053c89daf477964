"""A task as a CrewAI user hands it in: named inputs of a kickoff, turned into one ``RouteRequest``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from llm_router.bodies import request_from_body
from llm_router.errors import InvalidRequest, nearest
from llm_router.request import Image, Json, RouteRequest

_FILE_NAME_LIMIT = 1000
"""A longer text cannot be the path of a picture, so it is read as base64."""


class MoreInputs(TypedDict, total=False):
    """What may belong to a task besides the words that say it."""

    messages: Sequence[Mapping[str, Any]]
    images: Sequence[Image | Path | str | bytes]
    tools: Sequence[Mapping[str, Any]]
    model: str | None
    session_id: str | None
    options: Mapping[str, Json]


class TaskInputs(MoreInputs, total=False):
    """What one task may consist of. One of task_description, messages and request is needed.

    ``messages`` and ``tools`` have OpenAI's or Ollama's form. ``images`` are paths, bytes or base64 and
    belong to ``task_description``, the last message of the user. ``model`` asks for one model by name.
    ``request`` is a whole ``RouteRequest`` and stands alone. ``id`` is CrewAI's name of the run.
    """

    task_description: str
    request: RouteRequest
    id: str


_NAMES = tuple(sorted(TaskInputs.__optional_keys__))


def request_from_inputs(given: Mapping[str, Any]) -> RouteRequest:
    """Raises InvalidRequest for an unknown or wrongly typed input, and where there is nothing to do."""
    for name in given:
        if name not in _NAMES:
            raise InvalidRequest(
                f"unknown input {name!r}",
                why="it would have no effect",
                hint=nearest(name, _NAMES) or f"known inputs: {', '.join(_NAMES)}",
            )
    if given.get("request") is not None:
        return _whole_request(given)
    body: dict[str, Any] = {"messages": _messages(given)}
    for name in ("tools", "options"):
        if given.get(name):
            body[name] = _plain(name, given[name])
    for name in ("model", "session_id"):
        if given.get(name) is not None:
            body[name] = given[name]
    return request_from_body(body)


def _whole_request(given: Mapping[str, Any]) -> RouteRequest:
    request = given["request"]
    others = [name for name, value in given.items() if name not in ("request", "id") and value is not None]
    if others:
        raise InvalidRequest(
            f"request and {others[0]} were both given",
            why="a RouteRequest already holds the whole task",
            hint=f"put {others[0]} into the request",
        )
    if not isinstance(request, RouteRequest):
        raise InvalidRequest("request is not a RouteRequest", why=f"it is a {type(request).__name__}")
    return request


def _messages(given: Mapping[str, Any]) -> list[Any]:
    messages = list(_plain("messages", given.get("messages") or []))
    task = given.get("task_description")
    images = [_image(image) for image in given.get("images") or ()]
    if task is not None and not isinstance(task, str):
        raise InvalidRequest("task_description is not a text", why=f"it is a {type(task).__name__}")
    if task is not None or images:
        content = {"role": "user", "content": task or "", "images": [image.base64 for image in images]}
        messages.append(content)
    if not messages:
        raise InvalidRequest(
            "nothing to do",
            why="neither task_description nor messages was given",
            hint='flow.kickoff(task_description="what you want done")',
        )
    return messages


def _plain(name: str, value: Any) -> Any:
    """Lists and mappings of any kind as the plain ones of a request body."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [dict(item) if isinstance(item, Mapping) else item for item in value]
    raise InvalidRequest(f"cannot read {name}", why=f"it is a {type(value).__name__}")


def _image(given: Image | Path | str | bytes) -> Image:
    if isinstance(given, Image):
        return given
    if isinstance(given, bytes):
        return Image.from_bytes(given)
    if isinstance(given, Path):
        return Image.from_file(given)
    if not isinstance(given, str):
        raise InvalidRequest(
            "cannot use an image", why=f"it is a {type(given).__name__}, not a path or bytes"
        )
    if given.startswith(("data:", "http://", "https://")) or len(given) > _FILE_NAME_LIMIT:
        return Image.from_base64(given)
    return Image.from_file(Path(given).expanduser())
