"""Case files: four forms, the requests they stand for, and what is said of a broken line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.learn.conftest import WriteCases

from llm_router.bodies import request_from_body
from llm_router.errors import InvalidRequest
from llm_router.learn.case_bodies import Said, body_of
from llm_router.learn.cases import CaseError, read_cases
from llm_router.request import ApiKind

LABEL = {"category": "simple_chat"}


def test_a_case_with_everything_becomes_the_request_it_describes(write_cases: WriteCases) -> None:
    line = {
        "id": "one",
        "task": "Which bar is highest?",
        "images": 2,
        "tools": 3,
        "accept": ["fast_vision", "max_vision"],
        "primary": "max_vision",
        "template": "a field of somebody else",
    }
    (case,) = read_cases(write_cases(line))
    assert (case.id, case.accept, case.primary) == ("one", ("max_vision", "fast_vision"), "max_vision")
    assert not case.is_text_only
    request = case.request()
    assert request.task == "Which bar is highest?"
    assert [image.media_type for image in request.images] == ["image/png"] * 2
    assert [tool.name for tool in request.tools] == ["function_1", "function_2", "function_3"]


def test_an_embedding_case_is_an_embedding_call(write_cases: WriteCases) -> None:
    (case,) = read_cases(write_cases({"task": "a text", "kind": "embedding", "accept": ["embeddings"]}))
    assert case.request().kind is ApiKind.EMBEDDING
    assert case.request().inputs == ("a text",)


def test_a_training_line_accepts_its_second_category_too(write_cases: WriteCases) -> None:
    path = write_cases(
        {"text": "안녕", "category": "korean_multilingual", "also": "simple_chat", "lang": "ko"},
        {"text": "hi", "category": "simple_chat", "also": ["efficient_general", "simple_chat"]},
    )
    korean, english = read_cases(path)
    assert (korean.accept, korean.lang) == (("korean_multilingual", "simple_chat"), "ko")
    assert english.accept == ("simple_chat", "efficient_general")


def test_a_conversation_keeps_its_turns_and_their_pictures(write_cases: WriteCases) -> None:
    messages = [
        {"role": "user", "text": "What is on this photo?", "images": 1},
        {"role": "assistant", "text": "A cat."},
        {"role": "user", "text": "Which breed?"},
    ]
    (case,) = read_cases(write_cases({"messages": messages, "category": "fast_vision"}))
    request = case.request()
    assert [message.role for message in request.messages] == ["user", "assistant", "user"]
    assert len(request.messages[0].images) == 1 and not request.messages[2].images
    assert case.task == request.task == "Which breed?"


def test_a_pair_is_two_cases_and_korean_may_go_to_its_own_category(write_cases: WriteCases) -> None:
    path = write_cases({"en": "Thank you", "ko": "고마워", "category": "simple_chat"})
    english, korean = read_cases(path, korean="korean_multilingual")
    assert (english.lang, korean.lang) == ("en", "ko")
    assert english.pair == korean.pair != ""
    assert english.accept == ("simple_chat",)
    assert korean.accept == ("korean_multilingual", "simple_chat")


def test_a_pair_with_a_picture_has_to_be_seen_in_both_languages(write_cases: WriteCases) -> None:
    path = write_cases({"en": "What is it?", "ko": "뭐야?", "category": "fast_vision", "images": 1})
    assert {case.accept for case in read_cases(path, korean="korean_multilingual")} == {("fast_vision",)}


def words(text: str, context_tokens: int) -> str:
    return request_from_body(body_of([Said("user", text)], context_tokens=context_tokens)).task


@pytest.mark.parametrize("size_tokens", [2_000, 60_000])
def test_a_document_has_its_true_size_again(size_tokens: int) -> None:
    assert words("Summarise this contract", size_tokens).startswith("Summarise this contract")
    assert abs(len(words("Summarise this contract", size_tokens)) / 4 - size_tokens) < 30


def test_a_long_text_gets_back_the_middle_it_has_lost() -> None:
    found = words("head " * 1000 + "middle " * 1000 + "tail " * 1000, 20_000)
    assert found.startswith("head head") and found.endswith("tail ")
    assert abs(len(found) / 4 - 20_000) < 30


def test_a_case_without_an_id_keeps_its_name_when_lines_move(write_cases: WriteCases) -> None:
    first = [{"text": text, **LABEL} for text in ("hello", "bye", "hello")]
    names = [case.id for case in read_cases(write_cases(*first))]
    assert len(set(names)) == 3
    moved = [case.id for case in read_cases(write_cases({"text": "new", **LABEL}, "", *first))]
    assert moved[1:] == names


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "truncated"),
        ("[]", "Expected 'object'"),
        ('"text"', "Expected 'object'"),
        ({"text": "hi"}, "no category is given"),
        ({"category": "simple_chat"}, "nothing is asked"),
        ({"en": "only one language", **LABEL}, "nothing is asked"),
        ({"text": "   ", **LABEL}, "the task is empty"),
        ({"messages": [], **LABEL}, "the task is empty"),
        ({"text": 5, **LABEL}, "$.text"),
        ({"text": "hi", "images": -1, **LABEL}, "$.images"),
        ({"text": "hi", "context_tokens": 10**12, **LABEL}, "$.context_tokens"),
        ({"text": "hi", "kind": "video", **LABEL}, "video"),
        ({"messages": [{"role": "robot", "text": "x"}], **LABEL}, "robot"),
    ],
)
def test_a_broken_line_is_one_error_with_its_place(
    write_cases: WriteCases, line: dict[str, object] | str, why: str
) -> None:
    path = write_cases({"text": "fine", **LABEL}, "", line)
    with pytest.raises(CaseError) as caught:
        read_cases(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert why in str(caught.value)
    assert caught.value.hint and caught.value.exit_code == 2


def test_an_id_may_be_used_once(write_cases: WriteCases) -> None:
    path = write_cases({"id": "a", "text": "x", **LABEL}, {"id": "a", "text": "y", **LABEL})
    with pytest.raises(CaseError, match=r":2: the id 'a' is taken: line 1 has it"):
        read_cases(path)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_bytes(b'{"text": "\xff\xfe", "category": "simple_chat"}\n')
    with pytest.raises(CaseError, match=":1: this line is no case"):
        read_cases(str(path))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_cases(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(content)
    with pytest.raises(InvalidRequest, match="no cases in"):
        read_cases(str(path))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InvalidRequest, match=r"cannot read nowhere\.jsonl"):
        read_cases("nowhere.jsonl")


def test_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "hi", "category": "simple_chat"}\r\n')
    assert read_cases(str(path))[0].task == "hi"
