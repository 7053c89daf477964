"""A whole evaluation in this process: the router answers, and every figure comes from its answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.learn.conftest import WriteCases

from llm_router.config import HostSettings, Settings
from llm_router.drawing import Text
from llm_router.errors import InvalidRequest
from llm_router.fleet import Fleet, load_fleet
from llm_router.learn import metrics
from llm_router.learn.baselines import labelled_texts
from llm_router.learn.cases import Case, read_cases
from llm_router.learn.charts import charts, overview
from llm_router.learn.compare import compare, read_report
from llm_router.learn.evaluate import GIVE_UP_AFTER, evaluate, korean_category, report, seen_before
from llm_router.learn.figures import Report
from llm_router.learn.page import page, words_of, worst_cases
from llm_router.providers.ollama import OllamaProvider
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

NOBODY = Settings(hosts=(HostSettings(url="http://127.0.0.1:9", name="nobody"),))
LINES = (
    {"id": "picture", "task": "What is on this photo?", "images": 1, "accept": ["fast_vision", "max_vision"]},
    {"id": "korean", "task": "서울에 대해 알려 주세요", "lang": "ko", "accept": ["korean_multilingual"]},
    {"id": "json", "task": "JSON schema for a user", "accept": ["structured_data"], "group": "g"},
    {"id": "json2", "task": "json schema for a user", "accept": ["structured_data"], "variant": "case"}
    | {"variant_of": "json"},
    {"id": "never", "task": '<b>Say</b> & "hello"', "accept": ["category_of_nobody"]},
    {"id": "vectors", "task": "some text", "kind": "embedding", "accept": ["embeddings"]},
)


@pytest.fixture
def cases(write_cases: WriteCases) -> tuple[Case, ...]:
    return read_cases(write_cases(*LINES))


async def evaluated(fleet: Fleet, cases: tuple[Case, ...]) -> Report:
    return report(await evaluate(fleet, NOBODY, cases), fleet, name="cases.jsonl", ask_below=0.45)


@pytest.fixture
async def found(fleet: Fleet, cases: tuple[Case, ...]) -> Report:
    return await evaluated(fleet, cases)


async def test_it_needs_no_host_and_agrees_with_the_answers(
    found: Report, cases: tuple[Case, ...], fleet: Fleet
) -> None:
    answers = [metrics.Answer(r.category, r.confidence) for r in found.results]
    assert found.figures.accept_micro == metrics.figures(metrics.judged(cases, answers)).accept_micro
    assert found.figures.n == 5
    by_id = {result.id: result for result in found.results}
    assert by_id["picture"].category in fleet.categories_needing["vision"]
    assert by_id["vectors"].category == "embeddings"
    assert by_id["korean"].accepted and not by_id["never"].accepted
    assert [row.name for row in found.languages] == ["en", "ko"]
    assert [row.name for row in found.groups] == ["g"]
    assert sum(row.n for row in found.stages) == 5
    assert found.latency.p50_ms > 0
    assert found.ask is None and "bounds only" in found.curve_note


async def test_cases_that_can_only_be_wrong_are_told(found: Report) -> None:
    assert any("category_of_nobody" in warning for warning in found.warnings)
    assert [result.id for result in worst_cases(found)][-1:] == ["never"]


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(fleet_models(["llama3.2:1b"])) as server:
        yield server


async def test_asking_keeps_both_answers(fleet: Fleet, cases: tuple[Case, ...], ollama: FakeOllama) -> None:
    provider = OllamaProvider("ollama", ollama.url)
    settings = Settings(hosts=(HostSettings(url=ollama.url, name="ollama"),))
    evaluation = await evaluate(fleet, settings, cases, ask_with=[provider], asked_below=0.999)
    found = report(evaluation, fleet, name="cases.jsonl", ask_below=0.999)
    put = [r for r in found.results if r.alone_confidence < 0.999 and r.original]
    assert put and found.ask is not None
    assert (found.ask.asked, found.ask.answered) == (len(put), len(put))
    assert {r.stage for r in put} == {"mission_control"}
    mended = [r for r in put if r.asked in r.accept and r.alone not in r.accept]
    spoilt = [r for r in put if r.asked not in r.accept and r.alone in r.accept]
    assert (found.ask.mended, found.ask.spoilt) == (len(mended), len(spoilt))
    point = next(point for point in found.curve if point.threshold == 0.999)
    assert point.accept_measured == found.figures.accept_micro
    assert next(point for point in found.curve if point.threshold == 1.0).accept_measured is None


async def test_only_what_the_router_would_ask_changes_the_headline(
    fleet: Fleet, cases: tuple[Case, ...], ollama: FakeOllama
) -> None:
    settings = Settings(hosts=(HostSettings(url=ollama.url, name="ollama"),))
    provider = OllamaProvider("ollama", ollama.url)
    evaluation = await evaluate(fleet, settings, cases, ask_with=[provider], asked_below=0.999)
    found = report(evaluation, fleet, name="cases.jsonl", ask_below=0.0)
    assert all(result.category == result.alone for result in found.results)
    assert any(result.asked is not None for result in found.results)


async def test_a_host_without_mission_control_leaves_bounds_and_says_why(
    fleet: Fleet, cases: tuple[Case, ...]
) -> None:
    provider = OllamaProvider("nobody", "http://127.0.0.1:9")
    evaluation = await evaluate(fleet, NOBODY, cases, ask_with=[provider], asked_below=1.0)
    found = report(evaluation, fleet, name="cases.jsonl", ask_below=0.45)
    assert found.ask is None and "bounds only" in found.curve_note
    assert any(warning.startswith("Mission Control was not asked: ") for warning in found.warnings)
    assert len(cases) > GIVE_UP_AFTER
    assert all(result.asked is None for result in found.results)


async def test_a_report_can_be_read_again(found: Report, tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    path.write_bytes(msgspec.json.encode(found))
    assert read_report(path) == found


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{}", "it says no format"),
        ('{"format": 99}', "format 99"),
        ("no json", "it is no evaluation"),
        ('{"format": 1}', "it is no evaluation"),
    ],
)
def test_a_file_that_is_no_evaluation(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "base.json"
    path.write_text(content)
    with pytest.raises(InvalidRequest, match=why):
        read_report(path)


async def test_a_new_category_is_seen_to_win_and_lose_cases(
    fleet: Fleet, write_cases: WriteCases, tmp_path: Path
) -> None:
    own = tmp_path / "fleet.yaml"
    own.write_text(
        "categories:\n"
        "  cocktails:\n"
        "    description: How to mix a drink\n"
        "    examples:\n"
        "      - How do I mix a mojito cocktail?\n"
        "      - Which cocktail goes with rum and lime?\n"
        "      - Shake a margarita cocktail for six people\n"
        "      - What is in a negroni cocktail?\n"
        "      - Recipe of a daiquiri cocktail with rum\n"
        "    models: [{model: phi4, quality: 0.8}]\n"
    )
    lines = (
        {"id": "won", "task": "How do I mix a daiquiri cocktail with rum?", "accept": ["cocktails"]},
        {"id": "lost", "task": "Which cocktail with rum and lime is in a mojito?", "accept": ["simple_chat"]}
        | {"accept": [*fleet.categories]},
        {"id": "same", "task": "Prove that √2 is irrational", "accept": ["max_reasoning"]},
    )
    cases = read_cases(write_cases(*lines))
    before = await evaluated(fleet, cases)
    now = await evaluated(load_fleet([own]), cases[1:] + cases[:1])
    found = compare(before, now, cases[1:] + cases[:1])
    assert found.common == 3
    assert found.new_categories == ("cocktails",)
    assert [(flip.id, flip.kind, flip.now) for flip in found.flips] == [
        ("lost", "lost", "cocktails"),
        ("won", "won", "cocktails"),
    ]
    row = next(row for row in found.per_category if row.category == "cocktails")
    assert (row.n, row.won, row.answered_before, row.answered_now) == (1, 1, 0, 2)
    assert (row.accept_before, row.accept_now) == (0.0, 1.0)
    text = page(msgspec.structs.replace(now, comparison=found), None)
    assert "New categories: cocktails" in text
    assert "<details open><summary>2 cases are answered otherwise" in text


async def test_a_long_name_keeps_to_its_place(found: Report) -> None:
    name = "a_category_with_a_very_long_name"
    rows = (msgspec.structs.replace(found.per_category[0], category=name),)
    bars = charts(msgspec.structs.replace(found, per_category=rows))["categories"]
    labels = [shape.text for group in bars.groups for shape in group.shapes if isinstance(shape, Text)]
    assert "a_category_with_a_ver…" in labels
    assert any(group.title.startswith(name) for group in bars.groups)


async def test_cases_that_only_one_evaluation_has_are_counted(found: Report, cases: tuple[Case, ...]) -> None:
    fewer = msgspec.structs.replace(found, results=found.results[1:])
    against_fewer = compare(fewer, found, cases)
    assert (against_fewer.common, against_fewer.only_now, against_fewer.only_before) == (5, 1, 0)
    against_more = compare(found, fewer, cases[1:])
    assert (against_more.common, against_more.only_now, against_more.only_before) == (5, 0, 1)
    assert compare(found, found, cases).flips == ()


async def test_the_page_escapes_words_and_loads_nothing(found: Report, cases: tuple[Case, ...]) -> None:
    text = page(found, words_of(cases))
    assert "&lt;b&gt;Say&lt;/b&gt; &amp; &quot;hello&quot;" in text
    assert "<b>Say" not in text
    assert not re.search(r"<(script|link|img|iframe)|(src|href)=|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    for chart in charts(found).values():
        assert f"<h2>{chart.title}</h2>" in text


async def test_the_page_can_do_without_words(found: Report) -> None:
    text = page(found, None)
    assert "Say" not in text and "photo" not in text
    assert "never" in text


async def test_the_charts_lie_on_one_sheet_without_leaving_it(found: Report) -> None:
    sheet = overview(found)
    for shape in sheet.shapes:
        points = shape.points if hasattr(shape, "points") else ((shape.x, shape.y),)  # type: ignore[union-attr]
        assert all(0 <= x <= sheet.width and 0 <= y <= sheet.height for x, y in points)


def test_cases_that_stand_in_the_examples_are_told(fleet: Fleet, write_cases: WriteCases) -> None:
    example = fleet.categories["simple_chat"].examples[0]
    path = write_cases(
        {"text": f" {example}", "category": "simple_chat"},
        {"text": "never seen before, really", "category": "simple_chat"},
    )
    texts = labelled_texts(fleet, None)
    assert seen_before(read_cases(path), texts, None).startswith("1 of 2 cases stand word for word in")
    assert seen_before(read_cases(path)[1:], texts, None) == ""


def test_the_shipped_fleet_has_a_category_for_korean(fleet: Fleet) -> None:
    assert korean_category(fleet) == "korean_multilingual"
