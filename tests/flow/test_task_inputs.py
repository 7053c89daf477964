"""Named inputs of a kickoff become one RouteRequest, or one clear error."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from llm_router.errors import InvalidRequest
from llm_router.request import Image, RouteRequest
from llm_router.task_inputs import request_from_inputs

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
ENCODED = base64.b64encode(PNG).decode()


def test_words_alone_are_the_users_message() -> None:
    request = request_from_inputs({"task_description": "Say hello"})
    assert (request.task, len(request.messages), request.model) == ("Say hello", 1, None)


def test_the_task_follows_the_messages_and_auto_names_no_model() -> None:
    earlier = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    request = request_from_inputs(
        {"task_description": "And now?", "messages": earlier, "model": "auto", "session_id": "s"}
    )
    assert [message.text for message in request.messages] == ["Be brief.", "Hi", "And now?"]
    assert (request.model, request.session_id) == (None, "s")


def test_pictures_may_be_a_path_bytes_base64_or_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    long = base64.b64encode(PNG + bytes(1200)).decode()
    given = [path, str(path), PNG, f"data:image/png;base64,{ENCODED}", long, Image("image/png", ENCODED)]
    request = request_from_inputs({"task_description": "What is it?", "images": given})
    assert [image.base64 for image in request.images] == [ENCODED] * 4 + [long, ENCODED]


def test_a_picture_alone_is_a_task() -> None:
    assert len(request_from_inputs({"images": [PNG]}).images) == 1


def test_a_whole_request_is_taken_as_it_is() -> None:
    request = RouteRequest.from_text("Hello", options={"temperature": 0.0})
    assert request_from_inputs({"request": request, "id": "run-1"}) is request


def test_options_reach_the_request() -> None:
    request = request_from_inputs({"task_description": "Hi", "options": {"num_predict": 5}})
    assert request.output_limit_tokens == 5


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "nothing to do"),
        ({"task_description": "   "}, "nothing to do"),
        ({"task_description": 7}, "task_description is not a text: it is a int"),
        ({"task": "Hi"}, "unknown input 'task'"),
        ({"task_description": "Hi", "tools": "weather"}, "cannot read tools"),
        ({"task_description": "Hi", "messages": [{"role": "judge"}]}, "messages"),
        ({"task_description": "Hi", "images": ["http://host/a.png"]}, "web address"),
        ({"task_description": "Hi", "images": [7]}, "not a path or bytes"),
        ({"task_description": "Hi", "images": ["missing.png"]}, "cannot read missing.png"),
        ({"request": "Hi"}, "not a RouteRequest"),
        ({"request": RouteRequest.from_text("Hi"), "model": "phi4"}, "both given"),
    ],
)
def test_what_cannot_be_meant_is_refused(inputs: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        request_from_inputs(inputs)
