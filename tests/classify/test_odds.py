"""Logprobs of an answer as probabilities of categories, and their pool with the encoder's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.classify.odds import Share, pooled, shares, spread
from llm_router.request import Json, JsonObject

NAMES = ("max_reasoning", "max_reasoning_moe", "max_rag", "fast_rag", "simple_chat")


def token(text: str, p: float = 1.0, others: Mapping[str, float] | None = None) -> JsonObject:
    """A token as both wires tell it, with what it might have been instead, as probabilities."""

    def body(text: str, p: float) -> JsonObject:
        return {"token": text, "logprob": math.log(p), "bytes": list(text.encode())}

    listed: list[Json] = [body(other, q) for other, q in {text: p, **(others or {})}.items()]
    return {**body(text, p), "top_logprobs": listed}


def told(*tokens: JsonObject, names: Sequence[str] = NAMES) -> dict[str, float]:
    answer = "".join(str(one["token"]) for one in tokens)
    found = shares(answer, tokens, names)
    assert found is not None
    assert sum(share.weight for share in found) == pytest.approx(1)
    return spread(found, {})


FRAME = (token("{"), token('"category'), token('":'), token(' "'))
END = (token('"'), token("}"))


def test_names_that_part_at_their_first_token_have_its_probabilities() -> None:
    odds = told(
        *FRAME,
        token("simple", 0.6, {"fast": 0.3, "max": 0.1}),
        token("_chat"),
        *END,
        names=("simple_chat", "fast_rag", "max_rag"),
    )
    assert odds == pytest.approx({"simple_chat": 0.6, "fast_rag": 0.3, "max_rag": 0.1})


def test_a_name_spread_over_several_tokens_is_weighed_at_each_that_parts_names() -> None:
    odds = told(
        *FRAME,
        token("max", 0.8, {"fast": 0.15, "simple": 0.05}),
        token("_rag", 0.25, {"_re": 0.75}),
        *END,
        names=("max_rag", "max_reasoning", "fast_rag", "simple_chat"),
    )
    assert odds == pytest.approx(
        {"max_rag": 0.2, "max_reasoning": 0.6, "fast_rag": 0.15, "simple_chat": 0.05}
    )


@pytest.mark.parametrize("said", ["max_reasoning", "max_reasoning_moe"])
def test_a_name_that_begins_another_is_told_apart_by_the_quote_after_it(said: str) -> None:
    long = said.endswith("_moe")
    last = (
        (token("_m", 0.7, {'"': 0.2, '"}': 0.1}), token("oe"), token('"}'))
        if long
        else (token('"}', 0.2, {'"': 0.1, "_m": 0.7}),)
    )
    odds = told(*FRAME, token("max"), token("_reasoning"), *last, names=NAMES[:2])
    assert odds == pytest.approx({"max_reasoning": 0.3, "max_reasoning_moe": 0.7})


def test_quotes_and_blanks_merged_with_the_name_do_not_matter() -> None:
    odds = told(
        token('{"'),
        token("category"),
        token('":'),
        token('"fast', 0.5, {' "fast': 0.1, '"max': 0.4, ' "': 0.3, " ": 0.1}),
        token('_rag"}', 1.0),
        names=("fast_rag", "max_rag"),
    )
    assert odds == pytest.approx({"fast_rag": 0.6, "max_rag": 0.4})


def test_blanks_and_line_breaks_in_the_json_do_not_matter() -> None:
    answer = (token("{\n "), token(' "category"'), token(" :"), token(' "'))
    odds = told(*answer, token("fast", 0.9, {"max": 0.1}), token("_rag"), token('"\n'), token("}\n\n"))
    assert odds["fast_rag"] > 0.85


def test_what_the_schema_forbids_is_left_out() -> None:
    odds = told(
        *FRAME,
        token("fast", 0.02, {"The": 0.9, "max": 0.01, "[": 0.05}),
        token("_rag"),
        *END,
        names=("fast_rag", "max_rag"),
    )
    assert odds == pytest.approx({"fast_rag": 2 / 3, "max_rag": 1 / 3})


def test_a_name_that_no_listed_token_leads_to_has_at_most_what_the_rarest_has() -> None:
    odds = told(*FRAME, token("fast", 0.7, {"max": 0.2}), token("_rag"), *END, names=NAMES[2:])
    assert odds == pytest.approx({"fast_rag": 0.7, "max_rag": 0.2, "simple_chat": 0.1})
    only = told(*FRAME, token("fast", 0.7), token("_rag"), *END, names=("fast_rag", "max_rag", "simple_chat"))
    assert only == pytest.approx({"fast_rag": 0.7, "max_rag": 0.15, "simple_chat": 0.15})


def test_within_a_group_that_was_not_told_apart_the_encoders_ratios_hold() -> None:
    tokens = (*FRAME, token("fast", 0.5, {"max": 0.5}), token("_rag"), *END)
    found = shares(
        "".join(str(one["token"]) for one in tokens), tokens, ("fast_rag", "max_rag", "max_vision")
    )
    assert found is not None
    assert spread(found, {"max_rag": 0.3, "max_vision": 0.1}) == pytest.approx(
        {"fast_rag": 0.5, "max_rag": 0.375, "max_vision": 0.125}
    )


def test_names_in_hangul_split_inside_a_character_are_read_by_their_bytes() -> None:
    def cut(raw: bytes, p: float, others: Mapping[bytes, float] | None = None) -> JsonObject:
        listed: list[Json] = [
            {"token": "\ufffd", "logprob": math.log(q), "bytes": list(other)}
            for other, q in {raw: p, **(others or {})}.items()
        ]
        return {
            "token": "\ufffd",
            "logprob": math.log(p),
            "bytes": list(raw),
            "top_logprobs": listed,
        }

    raw = "한국".encode()
    tokens = (*FRAME, cut(raw[:2], 0.75, {"일".encode()[:2]: 0.25}), cut(raw[2:], 1.0), *END)
    found = shares('{"category": "한국"}', tokens, ("한국", "일본"))
    assert found is not None
    assert spread(found, {}) == pytest.approx({"한국": 0.75, "일본": 0.25})


def test_reasoning_before_the_answer_is_passed_over() -> None:
    thought = (token("hm "), token('"category": "max_rag"?'))
    doubt = token("fast", 0.75, {"max": 0.25})
    tokens = (*thought, *FRAME, doubt, token("_rag"), *END, token("<|im_end|>"))
    found = shares('{"category": "fast_rag"}', tokens, ("fast_rag", "max_rag"))
    assert found is not None
    assert spread(found, {}) == pytest.approx({"fast_rag": 0.75, "max_rag": 0.25})


@pytest.mark.parametrize(
    "logprobs",
    [
        [],
        [token("something else")],
        ["no token"],
        [{"token": 5}],
        [None],
        [{"token": '{"category": "fast_rag"}', "logprob": None}],
        [{"token": '{"category": "fast_rag"}', "logprob": -math.inf, "bytes": [999]}],
        [token('{"category": "nonsense"}')],
        [token('{"kind": "fast_rag"}')],
    ],
)
def test_logprobs_that_do_not_belong_to_the_answer_are_no_logprobs(logprobs: list[Json]) -> None:
    answer = "".join(str(t["token"]) for t in logprobs if isinstance(t, dict)) or '{"category": "fast_rag"}'
    assert shares(answer, logprobs, ("fast_rag", "max_rag")) is None


@given(
    said=st.sampled_from(NAMES),
    cuts=st.sets(st.integers(1, 60), max_size=12),
    seed=st.integers(0, 10**6),
    weights=st.lists(st.floats(0.01, 1), min_size=len(NAMES), max_size=len(NAMES)),
)
def test_however_an_answer_is_cut_into_tokens_its_distribution_comes_out(
    said: str, cuts: set[int], seed: int, weights: list[float]
) -> None:
    """A model that knows ``truth``: each token is as probable as the names that go on with it together."""
    truth = {name: weight / sum(weights) for name, weight in zip(NAMES, weights, strict=True)}
    answers = {name: f'{{"category": "{name}"}}' for name in NAMES}
    edges = [0, *sorted(cut for cut in cuts if cut < len(answers[said])), len(answers[said])]
    tokens = []
    for begin, end in itertools.pairwise(edges):
        here = {n: a for n, a in answers.items() if a.startswith(answers[said][:begin])}
        pieces: dict[str, float] = {}
        for name, answer in here.items():
            piece = answer[begin:end]
            pieces[piece] = pieces.get(piece, 0.0) + truth[name]
        whole = sum(pieces.values())
        chosen = answers[said][begin:end]
        others = {piece: p / whole for piece, p in pieces.items() if piece != chosen}
        tokens.append(token(chosen, pieces[chosen] / whole, others))
    found = shares(answers[said], tokens, NAMES)
    assert found is not None
    assert sum(share.weight for share in found) == pytest.approx(1)
    assert spread(found, truth) == pytest.approx(truth, abs=1e-4)


def test_the_pool_is_the_weighted_geometric_mean_of_both() -> None:
    before = {"a": 0.5, "b": 0.3, "c": 0.2}
    mixed = pooled(before, {"a": 0.1, "b": 0.9}, 0.5)
    ratio = math.sqrt((0.5 / 0.3) * (0.1 / 0.9))
    assert mixed["a"] / mixed["b"] == pytest.approx(ratio)
    assert mixed["c"] == 0.2  # it was not offered, so nothing was said about it
    assert sum(mixed.values()) == pytest.approx(1)


def test_the_weight_runs_from_the_encoder_alone_to_the_model_alone() -> None:
    before, said = {"a": 0.7, "b": 0.3}, {"a": 0.2, "b": 0.8}
    assert pooled(before, said, 0.0) == pytest.approx(before)
    assert pooled(before, said, 1.0) == pytest.approx(said)
    assert pooled({}, said, 0.3) == said


def test_a_certain_word_does_not_erase_what_the_encoder_knows() -> None:
    mixed = pooled({"a": 0.9, "b": 0.1}, {"a": 0.0, "b": 1.0}, 0.5)
    assert 0 < mixed["a"] < 0.05


def test_shares_of_nothing_known_are_split_evenly() -> None:
    assert spread([Share(frozenset("ab"), 1.0)], {}) == pytest.approx({"a": 0.5, "b": 0.5})
