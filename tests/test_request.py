"""The request as a value."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from msgspec.structs import replace

from llm_router.errors import InvalidRequest
from llm_router.names import canonical, is_auto, is_cloud, same_model
from llm_router.request import (
    MAX_IMAGE_BYTES,
    ApiKind,
    Document,
    Image,
    Json,
    Message,
    RouteRequest,
    Tool,
    ToolCall,
)

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 32


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_task_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        RouteRequest.from_text(text)


def test_a_picture_alone_is_a_task() -> None:
    request = RouteRequest.from_text("", images=[Image.from_bytes(PNG)])
    assert request.task == ""
    assert len(request.images) == 1


def test_the_task_is_the_last_word_of_the_user_not_of_a_tool() -> None:
    request = RouteRequest(
        messages=(Message("user", "book it"), Message("tool", "booked"), Message("assistant", "ok"))
    )
    assert request.task == "book it"


def test_everything_the_model_must_read_counts() -> None:
    bare = RouteRequest.from_text("hello there, how are you today?")

    with_tool = replace(bare, tools=(Tool("weather", "tells the weather of a city", {"type": "object"}),))
    with_image = RouteRequest.from_text("hello there, how are you today?", images=[Image.from_bytes(PNG)])
    with_history = replace(bare, messages=(Message("user", "long " * 50), *bare.messages))
    for larger in (with_tool, with_image, with_history):
        assert larger.estimate().tokens > bare.estimate().tokens


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0" + b"0" * 20, "image/jpeg"),
        (b"RIFF0000WEBPVP8 ", "image/webp"),
        (b"GIF89a" + b"0" * 10, "image/gif"),
    ],
)
def test_images_are_known_by_their_bytes(data: bytes, media_type: str) -> None:
    assert Image.from_bytes(data).media_type == media_type


def test_a_file_that_is_no_image_or_too_large_or_missing_is_one_clear_error(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(InvalidRequest) as caught:
        Image.from_file(text)
    assert "--file" in (caught.value.hint or "")
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.write(PNG)
        file.truncate(MAX_IMAGE_BYTES + 1)
    with pytest.raises(InvalidRequest, match="the limit is"):
        Image.from_file(large)
    with pytest.raises(InvalidRequest, match="cannot read"):
        Image.from_file(tmp_path / "missing.png")
    with pytest.raises(InvalidRequest, match="empty"):
        Image.from_bytes(b"")


def test_an_embedding_needs_a_text() -> None:
    with pytest.raises(InvalidRequest, match="nothing to embed"):
        RouteRequest(kind=ApiKind.EMBEDDING, inputs=("  ",))


@pytest.mark.parametrize("name", [None, "", "auto", "AUTO", "auto:latest", " auto "])
def test_names_that_leave_the_choice_to_the_router(name: str | None) -> None:
    assert is_auto(name)
    assert RouteRequest.from_text("x", model=name).model is None


def test_names_are_compared_as_ollama_does() -> None:
    assert canonical("Phi4") == "phi4:latest"
    assert same_model("phi4", "registry.ollama.ai/library/phi4:latest")
    assert same_model("ollama/mistral:7b", "mistral:7B")
    assert not same_model("llama3.1", "llama3.1:70b")
    assert canonical("hf.co/some:thing/model") == "hf.co/some:thing/model:latest"


def test_documents_stand_behind_the_task_and_only_the_model_is_told_their_names() -> None:
    notes, plan = Document("api.txt", "Valve 3 leaks."), Document("plan.md", "Repair it on Monday.")
    request = RouteRequest.from_text("Compare these", documents=[notes, plan])
    (message,) = request.messages
    read = "Compare these\n\nFile api.txt:\nValve 3 leaks.\n\nFile plan.md:\nRepair it on Monday."
    assert message.text == request.prompt == read and request.texts == (read,)
    assert request.task == "Compare these\n\nDocument:\nValve 3 leaks.\n\nDocument:\nRepair it on Monday."
    alone = RouteRequest.from_text("", documents=[notes])
    assert (alone.prompt, alone.task) == ("File api.txt:\nValve 3 leaks.", "Document:\nValve 3 leaks.")
    plain = RouteRequest.from_text("Compare these")
    assert plain.task == plain.prompt == "Compare these"


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_document_without_a_word_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot use notes\.txt: it is empty"):
        Document("notes.txt", text)


def test_cloud_names_are_known() -> None:
    assert is_cloud("gpt-oss:120b-cloud") and is_cloud("x:CLOUD")
    assert not is_cloud("cloudy:7b")


def test_the_calls_that_a_model_asked_for_count_too() -> None:
    asked = (Message("user", "write it"), Message("assistant", ""))
    bare = RouteRequest(messages=asked)
    call = ToolCall("write_file", {"content": "a line of the file\n" * 500})
    with_call = RouteRequest(messages=(asked[0], Message("assistant", "", tool_calls=(call,))))
    assert with_call.estimate().tokens > bare.estimate().tokens + 1000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_predict", "12"),
        ("num_predict", True),
        ("num_predict", 1.5),
        ("num_ctx", math.inf),
        ("temperature", "hot"),
        ("temperature", False),
        ("temperature", math.nan),
        ("stop", 5),
        ("stop", ["END", 5]),
        ("logprobs", "yes"),
        ("num_predict", 10**400),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_by_name(name: str, value: Json) -> None:
    with pytest.raises(InvalidRequest, match=f"option {name}") as caught:
        RouteRequest.from_text("hi", options={name: value})
    assert caught.value.why


def test_options_that_mean_the_same_become_the_same() -> None:
    options: dict[str, Json] = {
        "num_predict": 4096.0,
        "temperature": 1,
        "stop": "END",
        "seed": None,
        "a_new_one": "x",
    }
    request = RouteRequest.from_text("hi", options=options)
    assert request.options == {"num_predict": 4096, "temperature": 1, "stop": ["END"], "a_new_one": "x"}
    assert type(request.options["num_predict"]) is int
    assert request.output_limit_tokens == 4096


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf, 10**400, True, "60", [60]])
def test_a_time_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequest, match="timeout_s") as caught:
        replace(RouteRequest.from_text("hi"), timeout_s=wrong)
    assert caught.value.hint


def test_a_time_of_its_own_stays_with_a_request() -> None:
    request = replace(RouteRequest.from_text("hi", model="auto-fast"), timeout_s=2.5)
    assert replace(request, think=True).timeout_s == 2.5
    assert RouteRequest.from_text("hi").timeout_s is None


@pytest.mark.parametrize(
    ("name", "category", "prefer"),
    [
        ("auto-fast", None, "fast"),
        ("AUTO-best:latest", None, "best"),
        ("auto:structured_data", "structured_data", None),
        ("auto:structured_data:latest", "structured_data", None),
        ("auto-fast:max_rag", "max_rag", "fast"),
    ],
)
def test_a_virtual_name_is_a_wish_and_no_model(name: str, category: str | None, prefer: str | None) -> None:
    request = RouteRequest.from_text("hello", model=name)
    assert request.model is None
    assert request.wish is not None
    assert (request.wish.category, request.wish.prefer) == (category, prefer)


@pytest.mark.parametrize("name", ["autocoder:7b", "auto-gpt", "phi4", ":latest2"])
def test_a_name_that_only_begins_so_is_a_models(name: str) -> None:
    request = RouteRequest.from_text("hello", model=name)
    assert (request.model, request.wish) == (name, None)


@pytest.mark.parametrize("given", [{}, {"temperature": 0.5}])
def test_what_becomes_of_the_callers_options_later_is_none_of_its_own(given: dict[str, Json]) -> None:
    request = RouteRequest(messages=(Message("user", "a task"),), options=given)
    before = dict(request.options)
    given["num_ctx"] = "wrong"
    assert request.options == before
