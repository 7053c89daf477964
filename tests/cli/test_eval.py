"""``llm-router eval``: a table, JSON with a documented shape, files, a comparison and a gate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Invoke

from llm_router.testing.fake_ollama import FakeOllama

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "evaluation.md"
LINES = (
    {"text": "안녕하세요, 오늘 날씨가 어때요?", "category": "korean_multilingual", "lang": "ko"},
    {"messages": [{"text": "What colour is the car?", "images": 1}], "category": "fast_vision"}
    | {"also": ["max_vision", "hybrid_reasoner"]},
    {"en": "Thank you so much", "ko": "정말 고마워요", "category": "simple_chat"},
    {"text": "this can only be wrong", "category": "none_of_ours"},
)

pytestmark = pytest.mark.usefixtures("no_server")


@pytest.fixture
def cases(tmp_path: Path) -> str:
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in LINES), encoding="utf-8")
    return str(path)


def documented() -> set[str]:
    return set(re.findall(r"`([a-z_0-9]+)`", PAGE.read_text(encoding="utf-8")))


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(keys(item) for item in value.values()))
    return set().union(*(keys(item) for item in value)) if isinstance(value, list) else set()


def test_the_table_says_what_was_measured(invoke: Invoke, cases: str) -> None:
    result = invoke("--no-color", "eval", cases)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("cases.jsonl: 5 cases, 4 categories\n")
    for title in ("accept ", "by category", "calibration", "who decided", "languages", "bounds only"):
        assert title in result.stdout
    assert "\x1b" not in result.stdout
    assert "this can only be wrong" not in result.stdout
    assert "warning: cases that can only be wrong: 1; the fleet does not have none_of_ours" in result.stderr


def test_every_key_of_the_json_is_documented(invoke: Invoke, cases: str, tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    base.write_text(invoke("eval", cases, "--json").stdout)
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "one.jsonl").write_text('{"text": "thanks a lot", "category": "simple_chat"}\n')
    arguments = ("--baselines", "--training", str(texts), "--compare", str(base))
    result = invoke("eval", cases, "--json", *arguments)
    told = json.loads(result.stdout)
    assert told["figures"]["n"] == 5
    assert {row["name"] for row in told["baselines"]} >= {"constant", "keywords", "TF-IDF + LR"}
    assert told["comparison"]["common"] == 5 and told["comparison"]["flips"] == []
    assert keys(told) <= documented(), sorted(keys(told) - documented())


def test_cases_from_stdin(invoke: Invoke) -> None:
    line = json.dumps({"text": "안녕하세요", "category": "korean_multilingual"})
    result = invoke("eval", "-", "--json", stdin=line)
    assert json.loads(result.stdout)["figures"]["accept"] == 1.0


def test_the_page_and_the_image_are_written(invoke: Invoke, cases: str, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    html, png = tmp_path / "out" / "report.html", tmp_path / "report.png"
    result = invoke("eval", cases, "--html", str(html), "--png", str(png))
    assert result.exit_code == 0, result.stderr
    assert "this can only be wrong" in html.read_text(encoding="utf-8")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert f"wrote {html}" in result.stderr
    invoke("eval", cases, "--html", str(html), "--no-text")
    assert "this can only be wrong" not in html.read_text(encoding="utf-8")


def test_the_gate_holds(invoke: Invoke, cases: str) -> None:
    passed = invoke("eval", cases, "--fail-under", "accept=0.5", "--fail-over", "ece=1")
    assert passed.exit_code == 0, passed.stderr
    failed = invoke("eval", cases, "--fail-under", "accept=0.99", "--fail-under", "worst=0.1")
    assert failed.exit_code == 1
    assert failed.stdout == "" or failed.stdout.startswith("cases.jsonl")
    assert "error: the figures are not good enough: accept is 0.75, under 0.99; worst is 0" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--fail-under", "accept"), "--fail-under accept is not NAME=VALUE"),
        (("--fail-under", "accpt=1"), "--fail-under does not know 'accpt'"),
        (("--fail-over", "accept=1"), "--fail-over does not know 'accept'"),
        (("--fail-under", "same=0.9"), "cannot hold same against 0.9: no case gives that figure"),
        (("--ask-below", "0.5"), "--ask-below says nothing without --ask"),
        (("--training", "nowhere"), "no folder nowhere"),
        (("--compare", "nowhere.json"), "cannot read nowhere.json"),
    ],
)
def test_misuse_is_one_line(invoke: Invoke, cases: str, arguments: tuple[str, ...], error: str) -> None:
    result = invoke("eval", cases, *arguments)
    assert result.exit_code == 2
    assert f"error: {error}" in result.stderr


def test_a_broken_line_is_named_with_its_place(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"text": "hi", "category": "simple_chat"}\n{"text": "no category"}\n')
    result = invoke("eval", str(path))
    assert result.exit_code == 2
    error, hint = result.stderr.splitlines()
    assert error == (
        f"error: {path}:2: this line is no case: no category is given: neither accept nor category names one"
    )
    assert hint.startswith("hint: a case is ")


def test_asking_where_nobody_answers_says_so(invoke: Invoke, cases: str) -> None:
    result = invoke("eval", cases, "--ask", "--ask-below", "1")
    assert result.exit_code == 0
    assert "warning: Mission Control was not asked" in result.stderr
    assert "bounds only" in result.stdout


def test_asking_a_host_gives_measured_figures(invoke: Invoke, cases: str, fleet_server: FakeOllama) -> None:
    told = json.loads(invoke("eval", cases, "--json", "--ask", "--ask-below", "1").stdout)
    assert told["ask"]["answered"] == told["ask"]["asked"] > 0
    assert keys(told) <= documented()
    assert "this can only be wrong" in "".join(str(request.body) for request in fleet_server.requests)
    quiet = len(fleet_server.requests)
    invoke("eval", cases)
    assert len(fleet_server.requests) == quiet  # without --ask no host is touched
