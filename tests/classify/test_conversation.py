"""The task at hand: what goes on with what, which pictures are meant, and what is sent along."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest

from llm_router.classify.cascade import Cascade
from llm_router.classify.conversation import (
    conversation_of,
    earlier_tasks,
    in_tool_loop,
    without_past_pictures,
)
from llm_router.classify.embedded import EncoderStage
from llm_router.classify.encoder import Encoder
from llm_router.classify.rules import Rules
from llm_router.decision import Classification
from llm_router.fleet import Fleet, load_fleet
from llm_router.learn.train import SERVES
from llm_router.request import ApiKind, Image, Message, RouteRequest, ToolCall

PNG = Image("image/png", base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 16).decode())
ROOT = Path(__file__).parents[2]
CODE = "Write a Python function that parses ISO dates and returns the weekday"


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


@pytest.fixture(scope="module")
def cascade(fleet: Fleet) -> Cascade:
    return Cascade(fleet, [Rules(fleet), EncoderStage(fleet)], sure_from=0.0, clock_s=lambda: 0.0)


def chat(*turns: str | Message) -> RouteRequest:
    """Turns of user and assistant by turns, the first and the last the user's."""
    made = [
        turn if isinstance(turn, Message) else Message("user" if place % 2 == 0 else "assistant", turn)
        for place, turn in enumerate(turns)
    ]
    return RouteRequest(messages=tuple(made))


def codes(found: Classification) -> list[str]:
    return [evidence.code for evidence in found.evidence]


@pytest.mark.parametrize("said", ["yes, do it", "now with type hints please", "make it shorter", "try again"])
async def test_a_follow_up_keeps_the_kind_of_the_task_before_it(cascade: Cascade, said: str) -> None:
    alone = await cascade.classify(chat(CODE))
    found = await cascade.classify(chat(CODE, "Here is a first version.", said))
    assert found.category == alone.category
    assert "follow_up" in codes(found)


async def test_a_chain_of_follow_ups_leads_back_to_the_task(cascade: Cascade) -> None:
    found = await cascade.classify(chat(CODE, "Done.", "yes, go on", "More?", "ok, and again"))
    assert found.category == (await cascade.classify(chat(CODE))).category


@pytest.mark.parametrize(
    ("said", "category"),
    [
        ("thanks, that works", "simple_chat"),
        ("Prove that the square root of 3 is irrational", "max_reasoning"),
        ("What is the capital of Peru?", "efficient_general"),
    ],
)
async def test_a_new_task_or_small_talk_drops_the_kind_before_it(
    cascade: Cascade, said: str, category: str
) -> None:
    assert (await cascade.classify(chat(CODE, "Done.", said))).category == category


async def test_an_earlier_picture_counts_while_it_is_the_subject(cascade: Cascade, fleet: Fleet) -> None:
    seen = Message("user", "What is in this photo?", (PNG,))
    still = await cascade.classify(chat(seen, "A red bus.", "And in the background of the picture?"))
    assert fleet.category(still.category).requires.capability == "vision"
    assert "past_picture" in codes(still)
    gone = await cascade.classify(chat(seen, "A red bus.", "Write a Python function that sorts a list"))
    assert fleet.category(gone.category).requires.capability != "vision"
    assert "past_picture_left" in codes(gone)


async def test_a_picture_that_comes_with_the_task_always_counts(cascade: Cascade, fleet: Fleet) -> None:
    said = Message("user", "Write a Python function that sorts a list", (PNG,))
    found = await cascade.classify(chat("hello", "hi", said))
    assert fleet.category(found.category).requires.capability == "vision"


def test_pictures_of_the_current_turn_and_of_earlier_ones_are_told_apart() -> None:
    talk = conversation_of(chat(Message("user", "a", (PNG, PNG)), "b", Message("user", "c", (PNG,))))
    assert (talk.pictures, talk.past_pictures, talk.picture_just_before) == (1, 2, True)
    assert conversation_of(RouteRequest(kind=ApiKind.EMBEDDING, inputs=("a",))).pictures == 0


def test_earlier_tasks_come_latest_first_and_only_from_the_user() -> None:
    assert list(earlier_tasks(chat("one", "x", "two", "y", "three"))) == ["two", "one"]
    assert list(earlier_tasks(chat("one"))) == []


def test_only_pictures_of_earlier_turns_are_left_out_and_no_message_is_lost() -> None:
    request = chat(Message("user", "", (PNG,)), "a cat", Message("user", "and this?", (PNG,)))
    kept = without_past_pictures(request)
    assert [len(m.images) for m in kept.messages] == [0, 0, 1]
    assert [m.text for m in kept.messages] == ["(a picture)", "a cat", "and this?"]
    assert without_past_pictures(kept) is kept


def test_the_encoder_tells_follow_ups_from_tasks() -> None:
    encoder = Encoder.load()
    for text in ("yes, do it", "make it shorter", "and in French?", "계속해줘"):
        assert encoder.read(text).follow_up >= 0.5, text
    for text in ("hello", "What is the capital of Peru?", "thanks!", CODE):
        assert encoder.read(text).follow_up < 0.5, text


async def test_an_earlier_picture_counts_in_korean_too(cascade: Cascade, fleet: Fleet) -> None:
    seen = Message("user", "What is this?", (PNG,))
    still = await cascade.classify(chat(seen, "A receipt.", "그 사진에서 합계 금액 다시 확인해줘"))
    assert fleet.category(still.category).requires.capability == "vision"
    gone = await cascade.classify(
        chat(seen, "A receipt.", "thanks", "You are welcome.", "다음 주 서울 여행 일정을 짜 줘")
    )
    assert gone.category == "korean_multilingual"
    assert "past_picture_left" in codes(gone)


@pytest.mark.parametrize("said", ["2", "1)", "b", "B."])
async def test_a_bare_choice_goes_on_with_what_was_offered(cascade: Cascade, said: str) -> None:
    asked = "Write a short story about a lighthouse keeper, but first offer me three plots"
    found = await cascade.classify(chat(asked, "1) a storm 2) a letter 3) a ghost", said))
    assert found.category == (await cascade.classify(chat(asked))).category


async def test_many_follow_ups_in_a_row_lead_back_to_the_task(cascade: Cascade) -> None:
    turns: list[str] = [CODE]
    for said in ("make it shorter", "and with types", "now add a test", "make it faster", "try again"):
        turns += ["Done.", said]
    assert (await cascade.classify(chat(*turns))).category == (await cascade.classify(chat(CODE))).category


async def test_held_back_conversations_are_mostly_understood(cascade: Cascade) -> None:
    """Never trained on; the floor is below what was measured, for a change that breaks conversations."""
    held = [
        row
        for line in (ROOT / "training" / "conversations.jsonl").read_bytes().splitlines()
        if (row := msgspec.json.decode(line))["split"] == "heldout"
    ]
    right = 0
    for row in held:
        messages = tuple(Message(m["role"], m["text"], (PNG,) * m.get("images", 0)) for m in row["messages"])
        right += (await cascade.classify(RouteRequest(messages=messages))).category == row["category"]
    assert len(held) >= 70
    assert right / len(held) >= 0.7


async def test_the_same_task_in_english_and_korean_goes_to_a_fitting_category(cascade: Cascade) -> None:
    pairs = [
        msgspec.json.decode(line) for line in (ROOT / "training" / "parallel.jsonl").read_bytes().splitlines()
    ]
    assert len(pairs) >= 90
    exact = 0
    for pair in pairs:
        english = (await cascade.classify(chat(pair["en"]))).category
        exact += english == pair["category"]
        serves = SERVES[pair["category"]].get(english, 0.0) if english != pair["category"] else 1.0
        assert serves >= 0.5, f"{pair['en']}: {english}"
        korean = (await cascade.classify(chat(pair["ko"]))).category
        assert korean == "korean_multilingual", pair["ko"]
    assert exact / len(pairs) >= 0.95


CALL = Message("assistant", "", tool_calls=(ToolCall("look", {}),))
RESULT = Message("tool", "sunny", tool_name="look")
NOTE = Message("user", "remember the style guide")


@pytest.mark.parametrize(
    ("after_the_call", "goes_on"),
    [
        ((RESULT,), True),
        ((RESULT, RESULT), True),
        ((RESULT, NOTE), True),
        ((RESULT, NOTE, Message("system", "be brief"), NOTE), True),
        ((RESULT, CALL, RESULT, NOTE), True),
        ((), False),
        ((NOTE,), False),
        ((RESULT, Message("assistant", "It is sunny.")), False),
        ((RESULT, Message("assistant", "It is sunny."), NOTE), False),
    ],
)
def test_a_loop_of_tools_goes_on_until_the_assistant_has_answered(
    after_the_call: tuple[Message, ...], goes_on: bool
) -> None:
    asked = Message("user", "what is the weather like?")
    assert in_tool_loop(RouteRequest(messages=(asked, CALL, *after_the_call))) is goes_on
