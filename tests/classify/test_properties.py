"""What holds for every request: no unfit category, and no answer that depends on how a text is typed."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.classify.cascade import Cascade
from llm_router.classify.embedded import EncoderStage
from llm_router.classify.encoder import Encoder, Judgement
from llm_router.classify.rules import Rules
from llm_router.fleet import load_fleet
from llm_router.learn.corpus import Row, read_rows
from llm_router.request import ApiKind, Image, Message, RouteRequest, Tool

PNG = Image("image/png", base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 16).decode())
ROWS = read_rows(Path(__file__).parents[2] / "training" / "heldout.jsonl")
FLEET = load_fleet()
CASCADE = Cascade(FLEET, [Rules(FLEET), EncoderStage(FLEET)], sure_from=0.0, clock_s=lambda: 0.0)
ENCODER = Encoder.load()

texts = st.text(min_size=1, max_size=300).filter(lambda text: text.strip() != "")
rows = st.sampled_from(ROWS)


def judged(text: str) -> Judgement:
    return ENCODER.judge(ENCODER.read(text))


@given(text=texts, before=st.lists(texts, max_size=3), pictures=st.integers(1, 3))
async def test_a_picture_never_goes_to_a_category_that_cannot_see(
    text: str, before: list[str], pictures: int
) -> None:
    turns = [Message("user", said) for said in before]
    request = RouteRequest(messages=(*turns, Message("user", text, (PNG,) * pictures)))
    found = await CASCADE.classify(request)
    assert FLEET.category(found.category).requires.capability == "vision"


@given(text=texts, tools=st.integers(1, 4))
async def test_tools_never_go_to_a_category_without_them(text: str, tools: int) -> None:
    attached = tuple(Tool(f"tool_{number}") for number in range(tools))
    found = await CASCADE.classify(RouteRequest(messages=(Message("user", text),), tools=attached))
    assert FLEET.category(found.category).requires.capability == "tools"


@given(text=texts)
async def test_an_embedding_call_goes_to_an_embedder(text: str) -> None:
    found = await CASCADE.classify(RouteRequest(kind=ApiKind.EMBEDDING, inputs=(text,)))
    assert FLEET.category(found.category).requires.capability == "embedding"


@given(text=texts, before=st.lists(texts, max_size=4))
async def test_every_answer_is_a_category_with_shares_that_sum_to_one(text: str, before: list[str]) -> None:
    found = await CASCADE.classify(RouteRequest(messages=tuple(Message("user", t) for t in (*before, text))))
    assert found.category in FLEET.categories
    assert 0.0 <= found.confidence <= 1.0
    assert sum(found.probabilities.values()) == pytest.approx(1.0, abs=1e-5)


@given(row=rows, before=st.text(" \n\t", max_size=5), after=st.text(" \n\t", max_size=5))
def test_white_space_around_a_text_changes_nothing(row: Row, before: str, after: str) -> None:
    assert judged(before + row.text + after) == judged(row.text)


@given(row=rows)
def test_the_form_of_a_character_changes_nothing(row: Row) -> None:
    for form in ("NFC", "NFD"):
        assert judged(unicodedata.normalize(form, row.text)).category == judged(row.text).category
    assert judged(row.text.replace("'", "\u2019")).category == judged(row.text).category


def test_a_slip_of_the_finger_hardly_ever_changes_the_answer() -> None:
    """Two letters swapped in the longest word of every held-back text that has a long one."""
    same = total = 0
    for row in ROWS:
        words = [word for word in row.text.split() if len(word) >= 6 and word.isascii() and word.isalpha()]
        if not words or row.picture:
            continue
        word = max(words, key=len)
        place = len(word) // 2
        swapped = word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :]
        total += 1
        same += judged(row.text).category == judged(row.text.replace(word, swapped, 1)).category
    assert total > 100
    assert same / total >= 0.95


CHANGES: dict[str, Callable[[str], str]] = {
    "lower case": str.lower,
    "upper case": str.upper,
    "no final mark": lambda text: text.rstrip(".?!"),
    "please": lambda text: "Please " + text[:1].lower() + text[1:],
    "two blanks": lambda text: text.replace(" ", "  "),
    "an aside": lambda text: text + " By the way, it is raining here.",
}


@pytest.mark.parametrize("name", CHANGES)
def test_mechanical_changes_hardly_ever_change_the_answer(name: str) -> None:
    change = CHANGES[name]
    held = [row for row in ROWS if not row.picture and row.category not in ("simple_chat", "embeddings")]
    same = sum(judged(row.text).category == judged(change(row.text)).category for row in held)
    assert same / len(held) >= 0.95
