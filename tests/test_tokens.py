"""The token estimate against real tokenizers' counts, and its behaviour on any string."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.compiled import TEXT
from llm_router.learn.corpus import training_rows
from llm_router.tokens import (
    ENGLISH_PAIRS,
    PRICES,
    SAMPLED_ABOVE_CHARS,
    TokenEstimate,
    TokenizerFamily,
    cut_into_runs,
    estimate_tokens,
    estimates,
    priced,
    run_features,
)

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "tests" / "data" / "token_counts.json"
FAMILIES: tuple[TokenizerFamily, ...] = get_args(TokenizerFamily)
KOREAN = "ko|ko-chat|ko-en"
CODE = "python|sql|.*script|tsx|go|rust|java|c|cpp|csharp|kotlin|swift|php|ruby|bash|html|css|code-.*"

needs_compiled = pytest.mark.skipif(not TEXT.is_compiled(), reason="this is in Python alone")
every_family = pytest.mark.parametrize("family", FAMILIES)
any_text = st.text(alphabet=st.characters(), max_size=400)  # surrogates included


@dataclass(frozen=True, slots=True)
class Reference:
    kind: str
    text: str
    counts: dict[TokenizerFamily, list[int]]

    def mean(self, family: TokenizerFamily) -> float:
        return statistics.fmean(self.counts[family])


def _load() -> tuple[list[Reference], list[Reference]]:
    document = json.loads(REFERENCE.read_text(encoding="utf-8"))
    texts = document["texts"]
    short = [(row, row["text"]) for row in texts]
    long = [(row, "\n\n".join(texts[index]["text"] for index in row["parts"])) for row in document["long"]]
    made = [[Reference(r["kind"], t, {f: r[f] for f in FAMILIES}) for r, t in rows] for rows in (short, long)]
    return made[0], made[1]


SHORT, LONG = _load()


def of_20_tokens(family: TokenizerFamily, kinds: str = ".*") -> list[Reference]:
    return [r for r in SHORT if r.mean(family) >= 20 and re.fullmatch(kinds, r.kind)]


def mean_error(references: list[Reference], family: TokenizerFamily) -> float:
    return statistics.fmean(
        abs(estimate_tokens(r.text, family).tokens - r.mean(family)) / r.mean(family) for r in references
    )


def mean_error_of_a_quarter_of_the_characters(references: list[Reference], family: TokenizerFamily) -> float:
    return statistics.fmean(abs(len(r.text) / 4 - r.mean(family)) / r.mean(family) for r in references)


def test_the_reference_is_as_broad_as_the_documentation_says() -> None:
    tokenizers = json.loads(REFERENCE.read_text(encoding="utf-8"))["tokenizers"]
    assert len(SHORT) >= 380
    assert len({reference.kind for reference in SHORT}) >= 80
    assert len(tokenizers["large"]) == 8
    assert len(tokenizers["small"]) == 3
    assert REFERENCE.stat().st_size <= 300_000


@every_family
def test_high_is_above_every_tokenizer_for_99_percent_of_texts(family: TokenizerFamily) -> None:
    held = [estimate_tokens(r.text, family).high >= max(r.counts[family]) for r in of_20_tokens(family)]
    assert statistics.fmean(held) >= 0.99


@every_family
def test_low_is_below_every_tokenizer_for_99_percent_of_texts(family: TokenizerFamily) -> None:
    held = [estimate_tokens(r.text, family).low <= min(r.counts[family]) for r in of_20_tokens(family)]
    assert statistics.fmean(held) >= 0.99


@every_family
def test_bounds_hold_for_every_long_text(family: TokenizerFamily) -> None:
    for reference in LONG:
        estimate = estimate_tokens(reference.text, family)
        assert estimate.low <= min(reference.counts[family]), reference.kind
        assert estimate.high >= max(reference.counts[family]), reference.kind


@every_family
def test_high_stays_close_enough_to_plan_memory_with(family: TokenizerFamily) -> None:
    ratios = [r.high / r.tokens for r in (estimate_tokens(r.text, family) for r in LONG)]
    assert statistics.median(ratios) <= 1.6


@every_family
def test_mean_error_is_below_8_percent_on_short_and_4_percent_on_long_texts(family: TokenizerFamily) -> None:
    assert mean_error(of_20_tokens(family), family) < 0.08
    assert mean_error(LONG, family) < 0.04


@every_family
@pytest.mark.parametrize(("kinds", "factor"), [(KOREAN, 8), (CODE, 4), (".*", 4)])
def test_error_is_several_times_smaller_than_with_a_quarter_of_the_characters(
    family: TokenizerFamily, kinds: str, factor: float
) -> None:
    references = of_20_tokens(family, kinds)
    naive = mean_error_of_a_quarter_of_the_characters(references, family)
    assert mean_error(references, family) * factor < naive


@every_family
def test_an_empty_text_has_no_tokens(family: TokenizerFamily) -> None:
    assert estimate_tokens("", family) == TokenEstimate(tokens=0, low=0, high=0)


@every_family
@given(text=any_text)
def test_bounds_enclose_the_estimate_of_any_string(family: TokenizerFamily, text: str) -> None:
    estimate = estimate_tokens(text, family)
    assert (1 if text else 0) <= estimate.low <= estimate.tokens <= estimate.high


@every_family
@given(text=any_text)
def test_the_same_text_always_gets_the_same_estimate(family: TokenizerFamily, text: str) -> None:
    assert estimate_tokens(text, family) == estimate_tokens(text, family)


@every_family
@given(first=any_text, second=any_text)
def test_the_whole_costs_about_what_its_parts_cost(family: TokenizerFamily, first: str, second: str) -> None:
    parts = estimate_tokens(first, family).tokens + estimate_tokens(second, family).tokens
    whole = estimate_tokens(first + second, family).tokens
    # Where they meet one run may be cut differently (at most a word of 32 letters), and each part rounds.
    assert abs(whole - parts) <= 24 + 0.1 * parts


@every_family
@given(line=st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=80))
def test_more_lines_never_cost_less(family: TokenizerFamily, line: str) -> None:
    assert estimate_tokens(f"{line}\n" * 8, family).tokens >= estimate_tokens(f"{line}\n" * 4, family).tokens


@pytest.mark.parametrize(
    "text",
    [
        "\ud800",
        "\udfff\ud800 x",
        "\x00" * 50,
        "\ufffe\uffff",
        "e\u0301" * 200,
        "\u202eabc\u202c",
        "\U0010ffff",
        " " * 5_000,
        "\n" * 5_000,
        "\r\n\t\v\f\u2028\u2029\u0085",
        "_" * 999,
        "A" * 999 + "a" * 999,
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    ],
    ids=ascii,
)
@every_family
def test_odd_text_gets_an_estimate(family: TokenizerFamily, text: str) -> None:
    assert estimate_tokens(text, family).tokens >= 1


@every_family
def test_no_character_of_the_basic_plane_is_left_without_a_price(family: TokenizerFamily) -> None:
    for code in range(0x10000):
        assert estimate_tokens(chr(code), family).high >= 1


@every_family
def test_sampling_a_long_text_is_within_10_percent_of_reading_it_all(family: TokenizerFamily) -> None:
    sampled = [reference for reference in LONG if len(reference.text) > SAMPLED_ABOVE_CHARS]
    assert len(sampled) >= 4
    for reference in sampled:
        mean = reference.mean(family)
        assert abs(estimate_tokens(reference.text, family).tokens - mean) <= 0.1 * mean, reference.kind


@every_family
def test_the_step_to_sampling_is_small_for_even_text(family: TokenizerFamily) -> None:
    line = "2026-11-23T08:15:02Z INFO [gateway.http] request finished status=200 duration_ms=412\n"
    text = line * (SAMPLED_ABOVE_CHARS // len(line) + 1)
    read, sampled = estimate_tokens(text[:SAMPLED_ABOVE_CHARS], family), estimate_tokens(text, family)
    assert sampled.tokens / read.tokens == pytest.approx(len(text) / SAMPLED_ABOVE_CHARS, rel=0.03)


def test_a_long_text_takes_no_longer_than_a_text_at_the_sampling_limit() -> None:
    text = "".join(reference.text for reference in SHORT) * 40
    limit, long = text[:SAMPLED_ABOVE_CHARS], text[:2_000_000]
    assert len(long) == 2_000_000

    def best(sample: str) -> float:
        def once() -> float:
            begin = time.perf_counter()
            estimate_tokens(sample)
            return time.perf_counter() - begin

        return min(once() for _ in range(15))

    assert best(long) <= 3 * best(limit)


def test_importing_the_module_does_not_import_numpy() -> None:
    code = "import sys, llm_router.tokens; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


spaced_text = st.text(alphabet=st.sampled_from(list("aAz0_.-\n\t 요g一か!") + [" "] * 6), max_size=300)


@pytest.mark.parametrize("in_python", [pytest.param(False, marks=needs_compiled), True])
@every_family
@given(text=st.one_of(any_text, spaced_text))
def test_pieces_cost_what_their_runs_cost(family: TokenizerFamily, in_python: bool, text: str) -> None:
    first = {"large": 0, "small": 3}[family]
    english = sum(text.count(pair) for pair in ENGLISH_PAIRS)
    for column, price in enumerate(priced(text, family, in_python=in_python), start=first):
        runs = sum(
            times * amount * PRICES[name][column]
            for run, times in cut_into_runs(text).items()
            for name, amount in run_features(run).items()
        )
        credit = min(PRICES["english_credit"][column] * english, 0.3 * runs)
        assert price == pytest.approx(runs - credit, abs=1e-6)


@every_family
def test_a_hostile_text_prices_as_any_other_and_fills_no_memory(family: TokenizerFamily) -> None:
    words = [f"{'a' * (i % 7)}{'Z' * (i % 5)}{i}.{'_' * (i % 3)}{'요' * (i % 11)}" for i in range(2_000)]
    once, again = (estimate_tokens(" ".join(order), family) for order in (words, words))
    assert once == again
    assert estimate_tokens(" " * 200, family).tokens < 20


# the compiled counting and the one in Python

# One character of every class and its neighbours in runs, often enough to reach the longest of them.
CHARACTERS = " \t\n\raAzZéǐ_.-#0가갊걁一丁㐀のカㄱдβעعनகก“。→═\u200b\x00\x80\ud800\uffff😀🤿𐀀"
LENGTHS = (1, 2, 3, 4, 7, 8, 9, 12, 13, 15, 16, 17, 20, 21, 31, 32, 33, 62, 63, 64, 65, 127)
runs = st.builds(
    lambda character, times: character * times, st.sampled_from(CHARACTERS), st.sampled_from(LENGTHS)
)
pairs = st.sampled_from(("th", "ou", "ea", "sh", "ow", "ing", "in", "g", "h", "TH"))


def assert_counted_alike(text: str) -> None:
    for family in FAMILIES:
        assert priced(text, family) == priced(text, family, in_python=True), text
    assert estimates(text) == estimates(text, in_python=True), text


@needs_compiled
@given(st.lists(st.one_of(runs, pairs, any_text), max_size=12))
def test_whatever_the_text_both_count_alike(parts: list[str]) -> None:
    assert_counted_alike("".join(parts))


@needs_compiled
def test_every_two_characters_count_alike() -> None:
    for before in CHARACTERS:
        for after in CHARACTERS:
            for between in ("", " ", "_", "  "):
                assert_counted_alike(before + between + after)


@needs_compiled
def test_all_texts_of_training_and_reference_count_alike() -> None:
    texts = [row.text for row in training_rows(ROOT / "training")]
    assert len(texts) > 4000
    for text in (*texts, *(reference.text for reference in SHORT + LONG)):
        assert_counted_alike(text)


@needs_compiled
def test_every_character_counts_alike() -> None:
    for first in (*range(0, 0x20000, 0x80), 0x10FF80):
        assert_counted_alike("a".join(map(chr, range(first, first + 0x80))))


@needs_compiled
def test_tables_of_another_size_are_refused() -> None:
    priced, estimates = TEXT.module().priced, TEXT.module().estimates
    classes, prices, terms = bytes(0x10000), bytes(len(TEXT.module().FEATURES) * 6 * 4), bytes(12 * 8)
    assert priced("a text", classes, prices) == (0,) * 7
    assert estimates("a text", classes, prices, terms) == ((1, 1, 1), (1, 1, 1))
    for wrong in ((classes[1:], prices), (classes, prices + b"\0"), (b"", b"")):
        with pytest.raises(ValueError, match="prices"):
            priced("a text", *wrong)
        with pytest.raises(ValueError, match="prices"):
            estimates("a text", *wrong, terms)
    with pytest.raises(ValueError, match="credits"):
        estimates("a text", classes, prices, terms[1:])
    with pytest.raises(TypeError):
        priced(b"a text", classes, prices)
    with pytest.raises(TypeError):
        estimates(b"a text", classes, prices, terms)
