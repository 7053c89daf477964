"""The reference pages cannot lie: they are held against the commands and the values themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from tests.cli.conftest import JSON_TASK, Invoke

from llm_router.cli import reference
from llm_router.cli.app import app
from llm_router.sync import SyncRouter
from llm_router.testing.fake_ollama import FakeOllama

DATA = ("probabilities", "arguments", "left_out", "unserved")
"""Objects whose keys are names."""

PAGES = Path(__file__).parents[2] / "docs" / "reference"


def test_the_page_of_the_commands_is_their_help() -> None:
    page = (PAGES / "cli.md").read_text(encoding="utf-8")
    assert page == reference.page(), "run: python -m llm_router.cli.reference"


def documented() -> set[str]:
    pages = [(PAGES / name).read_text(encoding="utf-8") for name in ("decision.md", "json.md")]
    return {key for page in pages for key in re.findall(r"`([a-z_]+)`", page)}


def keys(value: Any) -> set[str]:
    """Every key of a JSON value, inside lists and objects too; names of categories are data."""
    found: set[str] = set()
    if isinstance(value, dict):
        for key, item in value.items():
            found |= {key} | (set() if key in DATA else keys(item))
    if isinstance(value, list):
        for item in value:
            found |= keys(item)
    return found


@pytest.mark.parametrize("task", [JSON_TASK, "Is deepseek-v3 here? Prove Fermat's last theorem in full"])
def test_every_key_of_an_answer_is_documented(fleet_server: FakeOllama, task: str) -> None:
    with SyncRouter() as router:
        told = keys(router.decide(task).as_json()) | keys(router.run(task).as_json())
        told |= keys(router.explain(task, "phi4")[1].as_json())
    assert {"decision_id", "saves", "attempts", "usage", "kept_out"} <= told
    assert told <= documented(), sorted(told - documented())


@pytest.mark.parametrize(
    "command",
    [
        "models",
        "categories",
        "config show",
        "config path",
        "doctor",
        "init --memory-gb 112",
        "pull --all --dry-run",
        "demo",
        pytest.param("plot", marks=pytest.mark.crewai),
    ],
)
def test_every_key_of_the_other_commands_is_documented(
    fleet_server: FakeOllama, invoke: Invoke, command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "plot":
        pytest.importorskip("crewai")
    monkeypatch.chdir(folder)
    result = invoke(*command.split(), "--json")
    told = json.loads(result.stdout)
    if command == "config show":
        told = {"settings": [dict.fromkeys(row) for row in told["settings"]]}
    if command.startswith("init"):
        told["categories"] = list(told["categories"].values())
    assert keys(told) <= documented(), sorted(keys(told) - documented())


def commands(group: click.Group, *before: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        elif command is not None:
            yield " ".join((*before, name)), command


TELLS_NOTHING = {"serve", "keys add", "keys remove"}
"""Commands that do something and have nothing to show but a word of it."""


def test_every_command_has_json() -> None:
    without = {
        name for name, command in commands(app) if "--json" not in {o for p in command.params for o in p.opts}
    }
    assert without == TELLS_NOTHING
