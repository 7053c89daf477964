"""Columns: nothing is cut off, only columns that may wrap give way, words stay whole where there is room."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.cli.conftest import Invoke

from llm_router.cli.tables import Cell, print_table
from llm_router.testing.fake_ollama import FakeOllama, fleet_models

HEAD = ("model", ">size", "~serves", "state")
SERVES = "max_reasoning, max_reasoning_moe, agentic_tool_use, long_context, max_quality_general"


def printed(capsys: pytest.CaptureFixture[str], width: int, *rows: tuple[Cell, ...]) -> list[str]:
    print_table(HEAD, rows, Console(width=width, color_system=None))
    return capsys.readouterr().out.splitlines()


def row(model: str, serves: str, below: tuple[str, ...] = ()) -> tuple[Cell, ...]:
    return (Cell(model), Cell("4.4 GB"), Cell(serves, below=below), Cell("installed"))


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_long_cell_wraps_between_words_and_squeezes_nothing(
    capsys: pytest.CaptureFixture[str], width: int
) -> None:
    lines = printed(capsys, width, row("nomic-embed-text", "embeddings"), row("mistral:7b", SERVES))
    assert lines[1].split() == ["nomic-embed-text", "4.4", "GB", "embeddings", "installed"]
    assert lines[2].startswith("mistral:7b        4.4 GB  max_reasoning,")
    assert max(len(line) for line in lines) <= width
    assert not [line for line in lines if line != line.rstrip()]
    for name in SERVES.split(", "):
        assert sum(name in line.replace(",", " ").split() for line in lines) == 1, "no name is broken up"


def test_where_there_is_room_a_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(printed(capsys, 140, row("mistral:7b", SERVES))) == 2


def test_a_terminal_too_narrow_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, 20, row("nomic-embed-text", SERVES))
    assert "nomic-embed-text  4.4 GB  max_reasoning," in lines[1] and lines[1].endswith("installed")


def test_a_line_feed_in_a_cell_does_not_begin_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, 100, row("two\nlines", "a\n\n  b"))
    assert len(lines) == 2 and lines[1].startswith("two lines  4.4 GB  a b ")


def test_wide_characters_keep_the_columns_straight(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, 100, row("김치", "a"), row("phi4", "b"))
    assert {cell_len(line[: line.index("4.4")]) for line in lines[1:]} == {len("model  ")}


def test_what_stands_below_a_row_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, 60, row("phi4", "", ("first", "second")))[2:] == ["  first", "  second"]


@pytest.mark.parametrize("width", ["80", "100"])
def test_the_models_of_a_fleet_of_few_are_readable(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    few = ["phi4", "gemma2:9b", "mistral:7b", "nomic-embed-text"]
    with FakeOllama(fleet_models(few)).in_thread() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        assert invoke("init", "--memory-gb", "64").exit_code == 0
        lines = invoke("models").stdout.splitlines()
    assert max(len(line) for line in lines) <= int(width)
    for name in few:
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert line.endswith(" installed") and " GB " in line


def test_a_model_that_serves_everything_names_the_first_categories(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOllama(fleet_models(["mistral:7b"])).in_thread() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        assert invoke("init", "--memory-gb", "64").exit_code == 0
        shown = " ".join(invoke("models").stdout.split())
    assert "max_reasoning, max_reasoning_moe, efficient_reasoning" in shown and " and 9 more" in shown
