"""The ways of answering that the router is compared with: honest, and behind the same evidence."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from tests.learn.conftest import WriteCases

from llm_router.errors import ConfigError
from llm_router.fleet import Fleet
from llm_router.learn.baselines import (
    Baseline,
    Constant,
    Keywords,
    Labelled,
    Missing,
    NearestDescription,
    TfidfRegression,
    baselines,
    labelled_texts,
    measured,
)
from llm_router.learn.cases import read_cases
from llm_router.learn.keywords import KEYWORDS
from llm_router.learn.metrics import Answer
from llm_router.learn.tfidf import Vocabulary


def best(baseline: Baseline, text: str) -> str | None:
    found = baseline.scores(text, ())
    return max(found, key=lambda name: found[name]) if found else None


class Clock:
    """Every look at it is a millisecond later."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.001
        return self.now_s


def test_keywords_know_the_shipped_categories_and_fall_into_the_usual_trap(fleet: Fleet) -> None:
    assert KEYWORDS.keys() == fleet.categories.keys()
    assert all(word == word.lower() for words in KEYWORDS.values() for word in words)
    assert "agentic_tool_use" in Keywords().scores("the capital of Peru", ())  # api is inside it
    assert Keywords().scores("서울의 날씨", ()) == {}


def test_the_nearest_description_finds_an_example_of_the_fleet_file(fleet: Fleet) -> None:
    baseline = NearestDescription(fleet)
    for name in ("structured_data", "simple_chat", "max_reasoning"):
        assert best(baseline, fleet.categories[name].examples[0]) == name
    assert baseline.scores("qqqq zzzz", ()) == {}


def test_the_regression_learns_and_its_scores_are_probabilities() -> None:
    fruit = [Labelled(f"{word} {n} fruit", "fruit") for n in range(6) for word in ("apple", "pear")]
    tools = [Labelled(f"{word} {n} tool", "tools") for n in range(3) for word in ("hammer", "saw")]
    baseline = TfidfRegression([*fruit, *tools])
    found = baseline.scores("a pear, a fruit", ())
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    assert found["fruit"] > 0.9
    assert baseline.scores("the saw tool", ())["tools"] > 0.9
    assert set(baseline.scores("nothing known here", ())) == {"fruit", "tools"}


def test_vectors_have_unit_length_also_when_folded() -> None:
    texts = ["a red apple", "a green apple and a red apple", "서울 날씨", ""]
    vocabulary = Vocabulary(texts, at_least=1)
    sparse = vocabulary.vectors(texts)
    squares = [float(np.sum(part**2)) for part in np.split(sparse.values, sparse.starts[1:-1])]
    assert squares == pytest.approx([1, 1, 1, 0])
    assert np.linalg.norm(vocabulary.folded(texts, 64), axis=1) == pytest.approx([1, 1, 1, 1])


def test_evidence_binds_a_baseline_as_it_binds_the_router(fleet: Fleet, write_cases: WriteCases) -> None:
    path = write_cases(
        {"task": "what is on it?", "images": 1, "accept": ["fast_vision"]},
        {"task": "안녕", "accept": ["korean_multilingual"]},
        {"task": "tell me a tale", "accept": [fleet.default_category]},
    )
    cases = read_cases(path)
    seen = [
        Answer("max_vision", 0.5, "encoder", possible=("fast_vision", "max_vision")),
        Answer("korean_multilingual", 0.97, "rules"),
        Answer("simple_chat", 0.4, "encoder", possible=tuple(fleet.categories)),
    ]
    found = measured(Constant(fleet), fleet, cases, seen, Clock())
    assert found.alone is not None and found.after_rules is not None
    assert found.alone.accept_micro == 0.3333  # only the last one
    assert found.after_rules.accept_micro == 1.0  # first possible, the rule's answer, the default
    assert found.after_rules.ece is None
    assert found.p50_ms == pytest.approx(1.0)


def test_texts_come_from_the_fleet_and_the_folder(fleet: Fleet, tmp_path: Path) -> None:
    rows = [
        {"text": "a new text", "category": "simple_chat"},
        {"text": "kept back", "category": "simple_chat", "split": "heldout"},
        {"text": "{documents}\n{question}", "category": "fast_rag", "least": 1},
        {"title": "a passage", "text": "without a category"},
        {"text": "of another fleet", "category": "unheard_of"},
    ]
    (tmp_path / "some.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    examples = set(labelled_texts(fleet, None))
    assert set(labelled_texts(fleet, tmp_path)) - examples == {Labelled("a new text", "simple_chat")}
    assert Labelled(fleet.categories["simple_chat"].examples[0], "simple_chat") in examples


def test_a_broken_training_line_is_named(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_text('{"text": "fine", "category": "simple_chat"}\n{"text": 1}\n')
    with pytest.raises(ConfigError, match=r"some\.jsonl:2: not a training text"):
        labelled_texts(fleet, tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("semantic_router") is not None, reason="it is installed")
def test_a_library_that_is_not_installed_says_how_to_install_it(fleet: Fleet) -> None:
    *_, last = baselines(fleet, labelled_texts(fleet, None))
    assert isinstance(last, Missing)
    assert "pip install 'semantic-router" in measured(last, fleet, (), (), Clock()).missing


@pytest.mark.skipif(importlib.util.find_spec("semantic_router") is None, reason="needs semantic-router")
def test_the_library_finds_an_example_and_keeps_to_what_is_possible(fleet: Fleet) -> None:
    *_, last = baselines(fleet, labelled_texts(fleet, None))
    assert not isinstance(last, Missing)
    example = fleet.categories["structured_data"].examples[0]
    assert set(last.scores(example, tuple(fleet.categories))) == {"structured_data"}
    assert set(last.scores(example, ("fast_vision", "max_vision"))) <= {"fast_vision", "max_vision"}
