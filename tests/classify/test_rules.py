"""Stage 1 reads hard evidence and nothing else."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.classify.rules import Rules, asks_in, script_language
from llm_router.compiled import TEXT
from llm_router.fleet import Fleet, load_fleet
from llm_router.request import ApiKind, Image, Message, RouteRequest, Tool, ToolCall

SIGHTED = frozenset({"max_vision", "fast_vision", "hybrid_reasoner"})
PNG = Image("image/png", base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 16).decode())


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


@pytest.fixture(scope="module")
def rules(fleet: Fleet) -> Rules:
    return Rules(fleet)


def judged(rules: Rules, request: RouteRequest, fleet: Fleet) -> str | frozenset[str] | None:
    verdict = rules.judge(request, frozenset(fleet.categories))
    return verdict.allowed if verdict.allowed else verdict.category


def test_an_embedding_call_is_for_an_embedder(rules: Rules, fleet: Fleet) -> None:
    request = RouteRequest(kind=ApiKind.EMBEDDING, inputs=("Prove that 1 = 1",))
    assert judged(rules, request, fleet) == "embeddings"


def test_an_image_binds_the_next_stage_to_the_vision_categories(rules: Rules, fleet: Fleet) -> None:
    request = RouteRequest.from_text("what is this", images=[PNG])
    assert judged(rules, request, fleet) == SIGHTED


def test_an_image_of_an_earlier_turn_is_left_to_the_words(rules: Rules, fleet: Fleet) -> None:
    request = RouteRequest(
        messages=(
            Message("user", "what is this", (PNG,)),
            Message("assistant", "a cat"),
            Message("user", "which colour?"),
        )
    )
    assert judged(rules, request, fleet) is None


def test_a_tool_that_has_just_answered_keeps_the_loop_on_tool_models(rules: Rules, fleet: Fleet) -> None:
    request = RouteRequest(
        messages=(
            Message("user", "is it raining in Oslo?"),
            Message("assistant", "", tool_calls=(ToolCall("weather", {"city": "Oslo"}),)),
            Message("tool", "light rain", tool_name="weather"),
        )
    )
    assert judged(rules, request, fleet) == "agentic_tool_use"


def test_attached_tools_keep_a_conversation_on_tool_models_whatever_it_says(
    rules: Rules, fleet: Fleet
) -> None:
    for text in ("thanks!", "Prove that √2 is irrational", "오늘 날씨 어때?"):
        request = RouteRequest(messages=(Message("user", text),), tools=(Tool("weather"),))
        assert judged(rules, request, fleet) == "agentic_tool_use"


def test_an_image_and_a_tool_together_leave_both_kinds_possible(rules: Rules, fleet: Fleet) -> None:
    request = RouteRequest(messages=(Message("user", "book what you see", (PNG,)),), tools=(Tool("book"),))
    assert judged(rules, request, fleet) == SIGHTED | {"agentic_tool_use"}


def test_a_large_document_is_long_context_and_a_promised_one_is_not(rules: Rules, fleet: Fleet) -> None:
    large = RouteRequest.from_text("Summarise this.\n" + "The river rose again that night. " * 4000)
    assert judged(rules, large, fleet) == "long_context"
    promised = RouteRequest.from_text("I will send you a 300 page document, please summarise it")
    assert judged(rules, promised, fleet) is None


def test_a_requested_schema_is_structured_data(rules: Rules, fleet: Fleet) -> None:
    request = RouteRequest(
        messages=(Message("user", "my cat is called Tom"),), response_format={"type": "object"}
    )
    assert judged(rules, request, fleet) == "structured_data"


@pytest.mark.parametrize(
    ("text", "korean"),
    [
        ("오늘 저녁 뭐 먹을까?", True),
        ("이 코드 고쳐줘 ```def f(): return undefined_variable_with_a_long_name```", True),
        ("한국어로 답해줘: API가 뭐야?", True),
        ("Translate 'hello' to Korean", False),
        ("How do I say 안녕하세요 politely to my Korean grandmother?", False),
        ("東京の天気は？", False),
        ("12345 !!", False),
    ],
)
def test_korean_is_told_by_its_script_not_by_words(
    rules: Rules, fleet: Fleet, text: str, korean: bool
) -> None:
    found = judged(rules, RouteRequest.from_text(text), fleet)
    assert (found == "korean_multilingual") is korean


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "rapid growth",
        "Call me maybe",
        "JSON is a format, who made it?",
        "image of god",
    ],
)
def test_words_alone_never_decide(rules: Rules, fleet: Fleet, text: str) -> None:
    assert judged(rules, RouteRequest.from_text(text), fleet) is None


def test_evidence_without_a_fitting_category_is_left_to_the_next_stage(fleet: Fleet) -> None:
    from dataclasses import replace

    names = {n: c for n, c in fleet.categories.items() if c.requires.capability != "vision"}
    blind = replace(fleet, categories=names)
    request = RouteRequest.from_text("what is this", images=[PNG])
    verdict = Rules(blind).judge(request, frozenset(blind.categories))
    assert verdict.allowed is None and verdict.category is None


@pytest.mark.parametrize(
    ("text", "code", "share"),
    [
        ("", "", 0),
        ("123 …", "", 0),
        ("plain English", "", 0),
        ("naïve café", "", 0),
        ("가나다", "ko", 1),
        ("가나 ab", "ko", 5 / 7),
        ("東京の天気はどうですか", "ja", 1),
        ("今天天气怎么样", "zh", 1),
        ("столица Перу", "ru", 1),
        ("ما هي عاصمة بيرو", "ar", 1),
        ("πρωτεύουσα", "el", 1),
        ("บอกเรื่องตลก", "th", 1),
        ("यह क्या है", "hi", 1),
        ("שָׁלוֹם", "he", 1),
        ("मेला abcd", "hi", 2 / 6),
        ("؟؟؟؟؟؟؟؟؟ a", "", 0),
        ("・・・ hello", "", 0),
        ("א𝒜", "he", 1 / 2),
    ],
)
@pytest.mark.parametrize("in_python", [False, True])
def test_the_script_of_the_letters_tells_the_language(
    text: str, code: str, share: float, in_python: bool
) -> None:
    """Marks on letters, digits and punctuation have a script as well, and are no letters."""
    found, part = script_language(text, in_python=in_python)
    assert found == code
    assert part == pytest.approx(share)


def test_code_does_not_count_as_letters_of_a_language() -> None:
    assert script_language("고쳐줘 ```def f(): return undefined_variable```") == ("ko", 1.0)


def test_a_category_for_another_language_is_told_by_its_script(fleet: Fleet) -> None:
    from dataclasses import replace

    import msgspec

    general = fleet.categories["default_general"]
    russian = msgspec.structs.replace(
        general, requires=msgspec.structs.replace(general.requires, language="ru")
    )
    own = replace(fleet, categories={**fleet.categories, "russian": russian})
    assert judged(Rules(own), RouteRequest.from_text("Какая столица Перу?"), own) == "russian"
    assert judged(Rules(own), RouteRequest.from_text("ペルーの首都は?"), own) is None


@pytest.mark.parametrize(
    ("text", "korean"),
    [
        ("이 에러 뭐야? TypeError: Cannot read properties of undefined (reading 'map')", True),
        ("다음 글을 요약해줘: The committee met on Tuesday and agreed to postpone the vote.", True),
        ("Translate to English: 오늘 날씨 정말 좋네요", True),
        ("번역해줘: I love you", True),
        ("The sign says 출구 and I wonder where it leads to from this platform", False),
        ("What is the difference between 은 and 는 in these sentences?", False),
    ],
)
def test_a_korean_request_around_another_language_is_korean(
    rules: Rules, fleet: Fleet, text: str, korean: bool
) -> None:
    found = judged(rules, RouteRequest.from_text(text), fleet)
    assert (found == "korean_multilingual") is korean


def test_korean_examples_of_another_category_leave_korean_to_the_words(fleet: Fleet) -> None:
    from dataclasses import replace

    import msgspec

    recipes = msgspec.structs.replace(
        fleet.categories["default_general"],
        examples=("김치찌개 끓이는 법 알려줘", "떡볶이 양념 비율은?", "잡채에 뭐가 들어가?"),
    )
    own = replace(fleet, categories={**fleet.categories, "recipes": recipes})
    assert judged(Rules(own), RouteRequest.from_text("된장찌개는 어떻게 끓여?"), own) is None


def test_a_long_talk_of_short_turns_is_no_long_document(rules: Rules, fleet: Fleet) -> None:
    talk = tuple(
        Message("user", f"turn {n}: " + "the river rose again that night. " * 12) for n in range(150)
    )
    request = RouteRequest(messages=(*talk, Message("user", "thanks!")))
    assert request.estimate().tokens > 9000
    assert judged(rules, request, fleet) is None


def test_an_earlier_picture_keeps_no_rule_about_words_from_being_asked_later(
    rules: Rules, fleet: Fleet
) -> None:
    request = RouteRequest(
        messages=(Message("user", "what is this", (PNG,)), Message("user", "그 사진에서 합계를 확인해줘"))
    )
    assert judged(rules, request, fleet) is None
    assert rules.judge_words(request, frozenset(fleet.categories)).category == "korean_multilingual"


def test_tools_and_an_earlier_picture_stay_with_tool_models(rules: Rules, fleet: Fleet) -> None:
    request = RouteRequest(
        messages=(Message("user", "what is this", (PNG,)), Message("user", "book a table for two")),
        tools=(Tool("book"),),
    )
    assert judged(rules, request, fleet) == "agentic_tool_use"


@given(
    st.lists(
        st.sampled_from(
            ["질문", "이 글", "word ", "a", "1 ", "! ", "```x = '글'```", " " * 300, "é", "かな"]
        ),
        max_size=12,
    )
)
def test_the_ends_of_a_text_tell_what_all_of_its_letters_would(parts: list[str]) -> None:
    text = "".join(parts)
    letters = [char for char in re.sub(r"```.*?(?:```|\Z)", " ", text, flags=re.DOTALL) if char.isalpha()]
    ends = letters[:3], letters[-3:]
    hangul = [len(end) == 3 and all("\uac00" <= char <= "\ud7af" for char in end) for end in ends]
    assert asks_in("ko", text) is any(hangul)


# scripts, in Python and compiled

needs_compiled = pytest.mark.skipif(not TEXT.is_compiled(), reason="this is in Python alone")
ODD_LETTERS = "aé가ㄱかカ漢дαאकกا٣½²_9ａ𝒜𠀀😀\u0604\u318f\ud800"


def assert_told_alike(text: str) -> None:
    assert script_language(text) == script_language(text, in_python=True), text


@needs_compiled
@given(st.lists(st.one_of(st.sampled_from([*ODD_LETTERS, "```"]), st.text(max_size=5)), max_size=30))
def test_whatever_the_text_both_tell_the_same_language(parts: list[str]) -> None:
    assert_told_alike("".join(parts))


@needs_compiled
def test_both_take_each_character_for_the_same() -> None:
    for code in range(0x20000):
        assert_told_alike(f"{chr(code)}가a")


@needs_compiled
def test_kinds_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="kind"):
        TEXT.module().scripts("text", bytes(0x10001))
    with pytest.raises(TypeError):
        TEXT.module().scripts(b"text", bytes(0x10000))
