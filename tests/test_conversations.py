"""Which answer a request goes on with: by what was said before it, whatever else begins alike."""

from __future__ import annotations

from typing import Any

import pytest

from llm_router.conversations import LEAST_KEPT, Conversations
from llm_router.policy.waits import Place
from llm_router.request import ApiKind, Image, Message, RouteRequest, ToolCall

HERE, THERE = Place("a", "box"), Place("b", "box")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def user(text: str) -> Message:
    return Message("user", text)


def said(text: str = "", *calls: ToolCall) -> Message:
    return Message("assistant", text, tool_calls=calls)


def told(text: str = "ok") -> Message:
    return Message("tool", text, tool_name="look")


def look(where: str = "", call_id: str = "") -> ToolCall:
    return ToolCall("look", {"where": where}, call_id)


def talk(*messages: Message, session_id: str | None = None) -> RouteRequest:
    return RouteRequest(messages=messages, session_id=session_id)


@pytest.fixture
def talks() -> Conversations:
    return Conversations()


def place(talks: Conversations, request: RouteRequest, *, sure: bool = True) -> Place | None:
    before = talks.before(request)
    assert before is None or before.sure is sure
    return before.place if before is not None else None


def test_a_turn_goes_on_where_the_one_before_was_answered(talks: Conversations) -> None:
    talks.answered(talk(user("one")), HERE, "two")
    talks.answered(talk(user("other")), THERE, "two")
    assert place(talks, talk(user("one"), said("two"), user("three"))) == HERE
    talks.answered(talk(user("one"), said("two"), user("three")), THERE, "four")
    assert place(talks, talk(user("one"), said("two"), user("three"), said("four"), user("five"))) == THERE


def test_nothing_is_known_of_a_first_turn_and_of_texts_to_embed(talks: Conversations) -> None:
    talks.answered(talk(user("one")), HERE, "two")
    texts = RouteRequest(kind=ApiKind.EMBEDDING, inputs=("one", "two"))
    talks.answered(texts, HERE)
    assert talks.before(talk(user("one"))) is None
    assert talks.before(texts) is None
    assert talks.before(talk(user("never heard"), said("two"), user("three"))) is None


def test_the_assistants_words_may_come_back_in_other_words(talks: Conversations) -> None:
    talks.answered(talk(user("one")), HERE, "a long answer", [look("x", "call-1")])
    assert place(talks, talk(user("one"), said("short", look("x", "other")), told())) == HERE
    talks.answered(talk(user("one"), said("short"), told()), THERE, "so it is")
    assert place(talks, talk(user("one"), said("even shorter"), told(), said("yes"), user("and?"))) == THERE


def test_an_answer_of_several_messages_is_one(talks: Conversations) -> None:
    talks.answered(talk(user("one")), HERE, "let me look", [look()])
    assert place(talks, talk(user("one"), said("let me look"), said("", look()), told())) == HERE


def test_a_beginning_of_the_answer_that_was_given_counts_as_part_of_it(talks: Conversations) -> None:
    talks.answered(talk(user("one"), said("It is")), HERE, " two")
    assert place(talks, talk(user("one"), said("It is two"), user("why?"))) == HERE


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("", look("x", "call-1")), ("", look("x", "call-2"))),
        (("", look("x")), ("", look("y"))),
        (("I look there",), ("I look here",)),
    ],
)
def test_two_that_begin_with_the_same_words_are_told_apart_by_the_answer(
    talks: Conversations, one: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    first, second = said(*one), said(*other)
    talks.answered(talk(user("go on")), HERE, first.text, first.tool_calls)
    talks.answered(talk(user("go on")), THERE, second.text, second.tool_calls)
    assert place(talks, talk(user("go on"), first, told())) == HERE
    assert place(talks, talk(user("go on"), second, told())) == THERE
    assert place(talks, talk(user("go on"), said("in other words"), told()), sure=False) == THERE


def test_calls_that_a_client_has_given_names_of_its_own_are_told_by_their_words(talks: Conversations) -> None:
    talks.answered(talk(user("go on")), HERE, "", [look("x")])
    talks.answered(talk(user("go on")), THERE, "", [look("y")])
    assert place(talks, talk(user("go on"), said("", look("x", "call_0")), told())) == HERE


def test_the_same_answer_from_two_places_may_be_either(talks: Conversations) -> None:
    talks.answered(talk(user("go on")), HERE, "yes")
    talks.answered(talk(user("go on")), THERE, "yes")
    assert place(talks, talk(user("go on"), said("yes"), user("more")), sure=False) == THERE
    for _ in range(20):  # the others are forgotten, not kept for ever
        talks.answered(talk(user("go on")), HERE, "yes")
        talks.answered(talk(user("go on")), HERE, "no")
    assert place(talks, talk(user("go on"), said("no"), user("more"))) == HERE


def test_a_long_beginning_in_common_is_no_conversation_in_common(talks: Conversations) -> None:
    rules = "Read this first. " * 500
    talks.answered(talk(user(rules + "one")), HERE, "", [look()])
    talks.answered(talk(user(rules + "two")), THERE, "", [look()])
    assert place(talks, talk(user(rules + "one"), said("", look()), told())) == HERE


def test_what_tools_have_told_is_part_of_it(talks: Conversations) -> None:
    begin = user("go on"), said("", look())
    talks.answered(talk(*begin, told("sun")), HERE, "", [look()])
    talks.answered(talk(*begin, told("rain")), THERE, "", [look()])
    assert place(talks, talk(*begin, told("sun"), said("", look()), told())) == HERE


def test_a_session_may_be_a_person_with_many_conversations(talks: Conversations) -> None:
    def of(*messages: Message) -> RouteRequest:
        return talk(*messages, session_id="someone")

    talks.answered(of(user("one")), HERE, "", [look()])
    talks.answered(of(user("two")), THERE, "", [look()])
    assert place(talks, of(user("one"), said("", look()), told())) == HERE
    assert talks.before(of(Message("system", "be brief"), user("three"))) is None


def test_a_history_that_was_cut_is_found_by_its_session_without_being_sure(talks: Conversations) -> None:
    talks.answered(talk(user("one"), session_id="s"), HERE, "two")
    cut = talk(said("five"), user("six"), session_id="s")
    assert place(talks, cut, sure=False) == HERE
    assert talks.before(talk(said("five"), user("six"), session_id="another")) is None
    talks.answered(cut, THERE, "seven")
    assert place(talks, talk(user("one"), said("two"), user("three"), session_id="s")) == HERE


def test_a_history_that_was_written_anew_is_found_by_its_opening_without_being_sure(
    talks: Conversations,
) -> None:
    talks.answered(talk(user("one"), said("two"), user("three")), HERE, "four")
    anew = talk(user("one"), said("in short: all but five"), user("five"))
    assert place(talks, anew, sure=False) == HERE


def test_pictures_are_part_of_what_was_said(talks: Conversations) -> None:
    picture = Message("user", "", images=(Image("image/png", PIXEL),))
    two = Message("user", "", images=(Image("image/png", PIXEL),) * 2)
    talks.answered(talk(picture), HERE, "a pixel")
    talks.answered(talk(two), THERE, "a pixel")
    assert place(talks, talk(picture, said("one pixel"), user("its colour?"))) == HERE
    assert place(talks, talk(two, said("two pixels"), user("their colour?"))) == THERE


def test_the_turn_used_longest_ago_is_forgotten_first(talks: Conversations) -> None:
    def again(number: int) -> RouteRequest:
        return talk(user(f"turn {number}"), said("yes"), user("more"))

    for number in range(LEAST_KEPT):
        talks.answered(talk(user(f"turn {number}")), HERE, "yes")
    assert place(talks, again(0)) == HERE
    for number in range(LEAST_KEPT):
        talks.answered(talk(user(f"another {number}")), HERE, "yes")
    assert place(talks, again(0)) == HERE
    assert talks.before(again(1)) is None
    for number in (0, LEAST_KEPT // 2, LEAST_KEPT - 1):
        assert place(talks, talk(user(f"another {number}"), said("yes"), user("more"))) == HERE
