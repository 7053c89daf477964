"""Training: the same text gives the same weights, and what is left out leaves no trace."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llm_router.classify.encoder import Encoder
from llm_router.classify.npz import Numbers
from llm_router.classify.weights import read_weights
from llm_router.errors import InvalidRequest
from llm_router.fleet import Fleet, load_fleet
from llm_router.learn import corpus, outside, rebuild
from llm_router.learn.leaks import pairs, texts_of
from llm_router.learn.texts import matrix, read, vocabulary
from llm_router.learn.train import Trainer, calibrated, serves_matrix, to_bytes

TOPICS = (
    "boats",
    "bread",
    "tax",
    "owls",
    "guitars",
    "snow",
    "trains",
    "roses",
    "chess",
    "bees",
    "maps",
    "salt",
)
FRAMES = {
    "simple_chat": "hello there, how are you, do you like {}",
    "structured_data": "write a SQL query that counts {} per month",
    "max_reasoning": "prove that the number of {} is even",
    "fast_vision": "what colour are the {} in this photo",
    "max_vision": "read every figure of the chart about {}",
}


def lines(rows: Sequence[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    rows = [
        {"text": frame.format(topic), "category": name} for name, frame in FRAMES.items() for topic in TOPICS
    ]
    (folder / "all.jsonl").write_text(lines(rows))
    (folder / "heldout.jsonl").write_text(
        lines(
            [{"text": "prove that the sum of bees is odd", "category": "max_reasoning", "split": "heldout"}]
        )
    )
    asides = [{"text": t, "follow_up": True} for t in ("yes", "do it", "make it shorter", "again", "why so")]
    asides += [{"text": t, "follow_up": False} for t in ("hello", "thanks a lot", "tell me about snow")]
    (folder / "follow_ups.jsonl").write_text(lines(asides))
    return folder


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    folder = tmp_path / "cases"
    folder.mkdir()
    rows = [
        {
            "id": f"{source}-{name}-{topic}",
            "source": f"{source}:file.jsonl",
            "task": FRAMES[name].format(f"{source} {topic}"),
            "accept": [name, "max_quality_general"],
            "primary": name,
            "images": int("vision" in name),
        }
        for source in ("quokka", "zebu", "okapi", "dingo", "tapir", "numbat", "ibex", "saiga")
        for name in FRAMES
        for topic in TOPICS[:3]
    ]
    (folder / "cases.jsonl").write_text(lines(rows))
    return folder


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


def test_the_same_text_gives_the_same_bytes(text: Path, fleet: Fleet) -> None:
    first, second = rebuild.rebuild(text, None, fleet), rebuild.rebuild(text, None, fleet)
    assert first.data == second.data
    assert first.card == second.card
    assert rebuild.differences(first, Encoder(read_weights(second.data))) == []


def test_what_was_learnt_is_answered_and_told_in_the_card(text: Path, fleet: Fleet) -> None:
    run = rebuild.rebuild(text, None, fleet)
    encoder = Encoder(run.weights)
    assert encoder.judge(encoder.read("prove that the number of foxes is even")).category == "max_reasoning"
    assert encoder.judge(encoder.read("count the tickets per month in SQL")).category == "structured_data"
    assert encoder.read("do it again").follow_up > encoder.read("prove that snow is even").follow_up
    assert f"classifier {run.weights.version}" in run.card
    assert rebuild.digest(text) in run.card
    assert "1 of 1 right" in run.card


def test_another_text_gives_another_version_and_the_check_finds_it(text: Path, fleet: Fleet) -> None:
    before = rebuild.rebuild(text, None, fleet)
    rows = [{"text": FRAMES["simple_chat"].format(t), "category": "structured_data"} for t in TOPICS]
    (text / "more.jsonl").write_text(lines([*rows, *rows[:1]]))
    (text / "all.jsonl").write_text(
        "".join(
            line for line in (text / "all.jsonl").read_text().splitlines(True) if "simple_chat" not in line
        )
        + lines([{"text": FRAMES["structured_data"].format(t), "category": "simple_chat"} for t in TOPICS])
    )
    after = rebuild.rebuild(text, None, fleet)
    assert after.weights.version != before.weights.version
    assert rebuild.differences(after, Encoder(before.weights))


def test_a_source_that_is_left_out_leaves_no_trace_in_the_weights(
    text: Path, cases: Path, fleet: Fleet
) -> None:
    others = outside.read_folder(cases, fleet)
    trainer = Trainer([*corpus.build(text), *outside.examples_of(others)], corpus.follow_ups(text))
    assert "quokka" in trainer.weights().vocabulary
    without = trainer.weights(frozenset({"quokka"}))
    assert not [key for key in without.vocabulary if "quokka" in key]
    assert "zebu" in without.vocabulary
    for fold, weights in enumerate(outside.leave_sources_out(trainer, others)):
        held = {one.source for one in others if outside.fold_of(one.source) == fold}
        assert not [key for key in weights.vocabulary if any(source in key for source in held)]


def test_cases_are_answered_by_weights_that_saw_nothing_of_their_source(
    text: Path, cases: Path, fleet: Fleet
) -> None:
    run = rebuild.rebuild(text, cases, fleet)
    assert len(run.unseen) == 8 * len(FRAMES) * 3
    assert sum(one.category in one.case.accept for one in run.unseen) / len(run.unseen) > 0.9
    assert all(0 <= one.confidence <= 1 for one in run.unseen)
    assert all(sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5) for one in run.unseen)
    assert all(one.category in one.probabilities for one in run.unseen)
    assert "leave-sources-out" in run.card
    assert rebuild.digest(cases) in run.card


def test_keys_of_a_single_text_are_not_kept(text: Path, fleet: Fleet) -> None:
    with (text / "all.jsonl").open("a") as file:
        file.write(lines([{"text": "hello, my password is swordfish", "category": "simple_chat"}]))
    trainer = Trainer(corpus.build(text), corpus.follow_ups(text))
    assert not [key for key in trainer.weights().vocabulary if "swordfish" in key]


def test_the_matrix_that_is_learnt_from_is_what_the_encoder_reads(text: Path) -> None:
    trainer = Trainer(corpus.build(text), corpus.follow_ups(text))
    weights = trainer.weights()
    encoder = Encoder(weights)
    texts = [read(example.text) for example in trainer.examples if example.original]
    known = vocabulary(texts)
    assert known.keys == weights.vocabulary
    samples = [
        "Prove that the number of BEES is even",
        "what colour are the zorblax",
        "x " * 900,
        "안녕 bees",
    ]
    rows = matrix([read(sample) for sample in samples], known)
    masses = [np.asarray(rows[i].multiply(rows[i]).sum()) for i in range(len(samples))]
    assert all(mass > 0 for mass in masses)
    keys = len(known.keys)
    for i, sample in enumerate(samples):
        reading = encoder.read(sample)
        words = rows[i, :keys].toarray()[0] / np.maximum(known.weights, 1e-9)
        seen = {known.keys[place] for place in np.flatnonzero(words)}
        assert seen == set(reading.keys)


def test_calibration_changes_confidence_and_no_answer(text: Path) -> None:
    trainer = Trainer(corpus.build(text), corpus.follow_ups(text))
    judged = trainer.cross_validated(3)
    plain = trainer.weights()
    done = calibrated(plain, judged)
    assert to_bytes(done) != to_bytes(plain)
    lone = replace(plain, serves=Numbers.of(np.eye(len(plain.categories), dtype=np.float32)))
    alone = calibrated(lone, judged)
    for example in trainer.examples[:40]:
        answers = {Encoder(w).judge(Encoder(w).read(example.text)).category for w in (lone, alone)}
        assert len(answers) == 1


def test_a_category_always_serves_its_own_tasks_best() -> None:
    names = sorted({"simple_chat", "efficient_general", "default_general", "max_quality_general"})
    table = serves_matrix(names)
    assert (np.diag(table) == 1).all()
    assert (table - np.eye(len(names)) < 1).all()


def test_folders_without_cases_or_text_are_refused(tmp_path: Path, fleet: Fleet) -> None:
    with pytest.raises(InvalidRequest, match="no cases in"):
        outside.read_folder(tmp_path, fleet)
    with pytest.raises(corpus.CorpusError, match="no training text"):
        rebuild.rebuild(tmp_path, None, fleet)


def test_no_text_stands_twice_in_the_training_text() -> None:
    assert pairs(texts_of(Path(__file__).parents[2] / "training")) == []


def test_the_check_looks_at_every_head(text: Path, fleet: Fleet) -> None:
    run = rebuild.rebuild(text, None, fleet)
    words = len(run.weights.categories)
    for first, last in ((0, words), (words, words + 2), (words + 2, words + 3)):
        table = run.weights.table.array.copy()
        table[:, first:last] = 0
        assert rebuild.differences(run, Encoder(replace(run.weights, table=Numbers.of(table))))
