"""The embedded classifier: what it answers, how sure it is, and what happens when its file is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from llm_router.classify import features
from llm_router.classify.encoder import Encoder, EncoderFileError
from llm_router.learn.corpus import Row, read_rows, training_rows
from llm_router.learn.rebuild import digest

ROOT = Path(__file__).parents[2]
EXACT = {
    "Analyze this sales chart and extract quarterly revenue trends": "max_vision",
    "Prove that √2 is irrational using proof by contradiction": "max_reasoning",
    "What's 2+2?": "simple_chat",
    "Generate JSON schema for user profile with name, email, age": "structured_data",
    "Search 500 PDFs for 'quantum computing' with full citations": "max_rag",
    "Call the weather API and book a restaurant if it's sunny": "agentic_tool_use",
    "Analyze this sales chart and extract trends": "max_vision",
    "Prove that √2 is irrational": "max_reasoning",
    "SQL: 7-day moving average of revenue per shop": "structured_data",
}
VISION = {"max_vision", "fast_vision", "hybrid_reasoner"}
RECALL_FLOOR = {
    "max_reasoning_moe": 0.7,
    "max_vision": 0.7,
    "default_general": 0.7,
    "structured_data": 0.8,
    "instruction_following": 0.8,
}
USUAL_FLOOR = 0.9


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


@pytest.fixture(scope="module")
def heldout() -> list[Row]:
    return read_rows(ROOT / "training" / "heldout.jsonl")


def answer(encoder: Encoder, text: str, allowed: set[str] | None = None) -> str:
    return encoder.judge(encoder.read(text), allowed).category


def answer_about_a_picture(encoder: Encoder, text: str) -> str:
    return encoder.judge(encoder.read(text), VISION, picture=True).category


@pytest.mark.parametrize(("text", "category"), EXACT.items())
def test_the_texts_that_define_a_category_come_out_exactly(
    encoder: Encoder, text: str, category: str
) -> None:
    assert answer(encoder, text) == category


def test_every_category_is_found_again_in_texts_it_was_not_trained_on(
    encoder: Encoder, heldout: list[Row]
) -> None:
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in heldout:
        total[row.category] += 1
        found = answer_about_a_picture(encoder, row.text) if row.picture else answer(encoder, row.text)
        right[row.category] += found == row.category
    assert set(total) == set(encoder.categories)
    recall = {name: right[name] / total[name] for name in total}
    too_low = {n: r for n, r in recall.items() if r < RECALL_FLOOR.get(n, USUAL_FLOOR)}
    assert not too_low
    assert min(total.values()) >= 10


def test_held_back_texts_are_not_in_the_training_text(heldout: list[Row]) -> None:
    trained = {row.text.strip().lower() for row in training_rows(ROOT / "training")}
    assert not [row.text for row in heldout if row.text.strip().lower() in trained]


@pytest.mark.parametrize(
    "text",
    ["What is the capital of France?", "capital of peru", "who built the rapid transit system in Paris"],
)
def test_words_that_contain_a_keyword_are_not_read_as_the_keyword(encoder: Encoder, text: str) -> None:
    assert answer(encoder, text) in {"efficient_general", "simple_chat"}


def test_text_about_a_kind_of_work_is_not_a_request_for_it(encoder: Encoder) -> None:
    assert answer(encoder, "What does JSON stand for?") == "efficient_general"
    assert answer(encoder, "what is an embedding in machine learning") == "efficient_general"


def test_korean_texts_do_not_all_fall_in_one_bin_where_the_korean_category_is_ruled_out(
    encoder: Encoder,
) -> None:
    others = set(encoder.categories) - {"korean_multilingual"}
    texts = {
        "안녕, 뭐 하고 있어?": "simple_chat",
        "루트 3이 무리수임을 증명해줘": "max_reasoning",
        "사용자 프로필에 대한 JSON 스키마를 만들어줘": "structured_data",
        "회의를 4시로 옮기고 팀에 메일 보내줘": "agentic_tool_use",
        "독일의 수도는?": "efficient_general",
        "여름 바다에 대한 이야기를 써줘": "default_general",
    }
    found = {text: answer(encoder, text, others) for text in texts}
    assert sum(found[text] == category for text, category in texts.items()) >= 4
    assert len(set(found.values())) >= 4


def test_korean_requests_about_an_image_are_told_apart(encoder: Encoder) -> None:
    assert answer_about_a_picture(encoder, "이 표에서 매출을 읽어줘") == "max_vision"
    assert answer_about_a_picture(encoder, "이 꽃 이름이 뭐야?") == "fast_vision"
    assert answer_about_a_picture(encoder, "그림에서 각 x의 크기를 구하시오") == "hybrid_reasoner"


@pytest.mark.parametrize(
    "change",
    [str.lower, lambda t: t + " ", lambda t: "\n" + t, lambda t: "Please " + t[:1].lower() + t[1:]],
    ids=["lower case", "trailing space", "leading newline", "Please"],
)
def test_answers_survive_how_a_text_is_typed(encoder: Encoder, heldout: list[Row], change: object) -> None:
    assert callable(change)
    rows = [row for row in heldout if row.category not in ("simple_chat", "embeddings")]
    same = sum(answer(encoder, row.text) == answer(encoder, str(change(row.text))) for row in rows)
    assert same / len(rows) >= 0.93


def test_probabilities_sum_to_one_and_are_ordered_as_the_categories(encoder: Encoder) -> None:
    found = encoder.probabilities("write a poem about a lost glove")
    assert tuple(found) == encoder.categories
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-5)
    assert all(0.0 <= value <= 1.0 for value in found.values())


def test_only_allowed_categories_share_the_probability(encoder: Encoder) -> None:
    found = encoder.probabilities("What is this?", {"max_vision", "fast_vision", "not_a_category"})
    assert set(found) == {"max_vision", "fast_vision"}
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-5)
    assert found["fast_vision"] > found["max_vision"]


def test_a_mask_keeps_the_order_of_what_it_allows(encoder: Encoder) -> None:
    text = "Find x in the triangle and explain"
    everything = encoder.probabilities(text)
    few = encoder.probabilities(text, ["max_reasoning", "hybrid_reasoner", "fast_vision"])
    assert sorted(few, key=few.__getitem__) == sorted(few, key=everything.__getitem__)


@pytest.mark.parametrize("allowed", [set(), {"nobody_knows_this"}])
def test_a_mask_without_a_known_category_is_refused(encoder: Encoder, allowed: set[str]) -> None:
    with pytest.raises(ValueError, match="none of the allowed categories"):
        encoder.probabilities("hello", allowed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n",
        "?",
        "\ud83d",
        "🙂🙂🙂",
        "\x00\x01",
        "a",
        "한",
        "漢",
        "0" * 50,
        "ﷺ" * 4000,
        "e\u0301" * 3,
    ],
    ids=repr,
)
def test_odd_texts_get_an_answer(encoder: Encoder, text: str) -> None:
    assert sum(encoder.probabilities(text).values()) == pytest.approx(1.0, abs=1e-5)
    encoder.telling(encoder.read(text), "simple_chat")


def test_a_huge_text_is_read_in_part_and_its_ends_count(encoder: Encoder) -> None:
    filler = "The record of the sitting goes on with the same matter and the same speakers. " * 40_000
    assert len(features.sample(filler)) <= features.MAX_CHARS
    assert "summarise" not in encoder.read(filler).keys
    assert "summarise" in encoder.read(filler + "\n\nSummarise the whole document above.").keys
    assert "summarise" in encoder.read("Summarise the whole document below.\n\n" + filler).keys


def test_decomposed_hangul_reads_like_composed(encoder: Encoder) -> None:
    import unicodedata

    text = "오늘 저녁 뭐 먹을까?"
    decomposed = unicodedata.normalize("NFD", text)
    assert decomposed != text
    assert features.tokens(decomposed) == features.tokens(text)


def test_what_is_told_are_words_of_the_text(encoder: Encoder) -> None:
    text = "Prove that the square root of 2 is irrational"
    found = encoder.telling(encoder.read(text), "max_reasoning")
    assert 1 <= len(found) <= 3
    assert all(word.startswith("(") or word in text.lower() for word in found)
    assert any(word in text.lower() for word in found)
    assert encoder.telling(encoder.read("Prove it"), "max_reasoning", n=0) == ()


def test_contributions_add_up_to_the_score_they_explain(encoder: Encoder) -> None:
    for text in ("Write a SQL query for the ten best shops", "이 그래프를 분석해줘", "東京の天気は?"):
        odds = np.log(np.array(list(encoder.probabilities(text).values())))
        for name, logit in zip(encoder.categories, odds - odds.mean(), strict=True):
            told = encoder.contributions(encoder.read(text), name)
            assert sum(told.values()) == pytest.approx(logit, abs=2e-3)


def test_features_of_an_unknown_category_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="does not know the category 'poetry'"):
        encoder.telling(encoder.read("hello"), "poetry")


GARDEN = (
    "when should I prune my apple tree",
    "how deep do I plant tulip bulbs",
    "my tomato plants have yellow leaves",
    "best soil for growing carrots in a raised garden bed",
    "how often should I water a newly planted hedge",
    "which plants grow in a shady garden corner",
    "how do I keep slugs off my lettuce plants",
)


def test_a_new_category_answers_texts_like_its_examples(encoder: Encoder) -> None:
    wider = encoder.extend({"gardening": GARDEN})
    assert wider.categories == (*encoder.categories, "gardening")
    for text in ("when do I plant garlic bulbs in the garden", "should I prune my pear tree in winter"):
        assert answer(wider, text) == "gardening"
    assert wider.telling(wider.read("should I prune my pear tree in winter"), "gardening")


def test_a_new_category_hardly_disturbs_the_others(encoder: Encoder, heldout: list[Row]) -> None:
    wider = encoder.extend({"gardening": GARDEN})
    moved = [row.text for row in heldout if answer(wider, row.text) != answer(encoder, row.text)]
    assert len(moved) <= 0.02 * len(heldout)
    gaps = []
    for row in heldout:
        before, after = encoder.probabilities(row.text), wider.probabilities(row.text)
        gaps.append(max(abs(before[name] - after[name]) for name in before))
    assert np.median(gaps) < 0.02
    assert "gardening" not in encoder.categories


def test_masking_works_with_a_new_category(encoder: Encoder) -> None:
    wider = encoder.extend({"gardening": GARDEN})
    assert wider.probabilities("anything", {"gardening"}) == {"gardening": pytest.approx(1.0)}


def test_too_few_examples_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="has 1 different examples, at least 5"):
        encoder.extend({"gardening": [GARDEN[0]] * 9})


def test_a_known_category_cannot_be_added_again(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="already known"):
        encoder.extend({"simple_chat": GARDEN})


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"not an archive",
        lambda data: data[: len(data) // 2],
        lambda data: data[:2000] + bytes(2000) + data[4000:],
    ],
    ids=["empty", "other file", "cut short", "overwritten"],
)
def test_a_broken_file_is_an_encoder_file_error(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    whole = (ROOT / "src" / "llm_router" / "data" / "encoder.npz").read_bytes()
    path = tmp_path / "encoder.npz"
    path.write_bytes(damage(whole))
    with pytest.raises(EncoderFileError, match=r"cannot read the encoder weights[\s\S]*hint: "):
        Encoder.load(path)


def test_a_missing_file_is_an_encoder_file_error(tmp_path: Path) -> None:
    with pytest.raises(EncoderFileError, match=r"encoder weights \(nothing.npz\)"):
        Encoder.load(tmp_path / "nothing.npz")


def test_a_pickled_file_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "encoder.npz"
    np.savez(path, format=np.array([{"a": 1}], dtype=object))
    with pytest.raises(EncoderFileError):
        Encoder.load(path)


Values = dict[str, np.ndarray]


def vocabulary(values: Values, change: Callable[[list[bytes]], list[bytes]]) -> Values:
    keys = change(values["vocabulary"].tobytes().split(b"\n"))
    return {"vocabulary": np.frombuffer(b"\n".join(keys), dtype=np.uint8)}


@pytest.mark.parametrize(
    "change",
    [
        lambda _: {"format": np.array(99)},
        lambda _: {"temperature": np.array(-1.0)},
        lambda _: {"picture_temperature": np.array(np.inf)},
        lambda _: {"sureness": np.array([np.nan, 0.0])},
        lambda _: {"strange_mass": np.array(-1.0)},
        lambda _: {"strange_mass": np.array(np.nan)},
        lambda _: {"idf": np.ones(3)},
        lambda _: {"table": np.ones(3)},
        lambda values: {"idf": np.full_like(values["idf"], np.nan)},
        lambda values: {"idf": values["idf"].astype(str)},
        lambda values: {"serves": values["serves"].astype(str)},
        lambda values: {"serves": np.full_like(values["serves"], np.inf)},
        lambda values: {"scale": values["scale"].astype(np.float32)},
        lambda values: {"group_mass": values["group_mass"].astype(np.float32)},
        lambda values: {"mass": -values["mass"]},
        lambda values: {"group_mass": np.append(values["group_mass"][:-1], np.float16(-0.5))},
        lambda values: vocabulary(values, lambda keys: [*keys[:7], b"", *keys[8:]]),
        lambda values: vocabulary(values, lambda keys: [b"", *keys[1:]]),
        lambda values: vocabulary(values, lambda keys: [*keys[:-1], b""]),
        lambda values: vocabulary(values, lambda keys: [*keys[:7], keys[6], *keys[8:]]),
        lambda values: vocabulary(values, lambda keys: [*keys[:7], b"caf\xe9", *keys[8:]]),
    ],
)
def test_a_file_with_values_that_do_not_fit_is_refused(
    tmp_path: Path, change: Callable[[Values], Values]
) -> None:
    with np.load(ROOT / "src" / "llm_router" / "data" / "encoder.npz", allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    path = tmp_path / "encoder.npz"
    np.savez(path, **(values | change(values)))
    with pytest.raises(EncoderFileError):
        Encoder.load(path)


def test_the_packaged_weights_stay_small() -> None:
    assert (ROOT / "src" / "llm_router" / "data" / "encoder.npz").stat().st_size <= 20_000_000


def test_answers_do_not_depend_on_the_hash_seed_of_the_process() -> None:
    code = (
        "import json\nfrom llm_router.classify.encoder import Encoder\n"
        "print(json.dumps(Encoder.load().probabilities('Fix the bug in 이 코드 and 東京')))"
    )
    answers = set()
    for seed in ("0", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            check=True,
            timeout=60,
        )
        answers.add(done.stdout)
    assert len(answers) == 1
    assert len(json.loads(answers.pop())) == 18


def test_a_row_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"text": "a", "category": "b", "colour": "red"}', type=Row)


def test_the_packaged_weights_were_made_from_the_training_text_here(encoder: Encoder) -> None:
    text, cases = encoder.made_from
    assert text == digest(ROOT / "training"), "train again: make weights CASES=folder"
    assert cases


@pytest.mark.parametrize(
    "text", ["…" * 4000, "“" * 4000, "«" * 4000, ":" * 4000, "(" * 4000, "ﷺ" * 4000, "a " * 3000]
)
def test_texts_of_one_character_are_read_like_any_other(encoder: Encoder, text: str) -> None:
    reading = encoder.read("Contents\n" * 30 + text + "\nthe end\n" * 30)
    assert 0 <= encoder.judge(reading).confidence <= 1


def test_what_spoke_for_an_answer_about_a_picture_is_told_by_the_head_that_gave_it(encoder: Encoder) -> None:
    reading = encoder.read("find the angle ABC")
    assert "angle" in encoder.telling(reading, "hybrid_reasoner", picture=True)
