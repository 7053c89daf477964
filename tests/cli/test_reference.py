"""The reference pages cannot lie: they are held against the commands and the values themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import JSON_TASK, Invoke

from llm_router.cli import reference
from llm_router.sync import SyncRouter
from llm_router.testing.fake_ollama import FakeOllama

PAGES = Path(__file__).parents[2] / "docs" / "reference"


def test_the_page_of_the_commands_is_their_help() -> None:
    page = (PAGES / "cli.md").read_text(encoding="utf-8")
    assert page == reference.page(), "run: python -m llm_router.cli.reference"


def documented() -> set[str]:
    page = (PAGES / "decision.md").read_text(encoding="utf-8")
    return set(re.findall(r"`([a-z_]+)`", page))


def keys(value: Any) -> set[str]:
    """Every key of a JSON value, inside lists and objects too; names of categories are data."""
    found: set[str] = set()
    if isinstance(value, dict):
        for key, item in value.items():
            found |= {key} | (set() if key in ("probabilities", "arguments") else keys(item))
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


@pytest.mark.parametrize("command", ["models", "categories", "config show"])
def test_every_key_of_the_other_commands_is_documented(
    fleet_server: FakeOllama, invoke: Invoke, command: str
) -> None:
    result = invoke(*command.split(), "--json")
    told = json.loads(result.stdout)
    if command == "config show":
        told = {"settings": [dict.fromkeys(row) for row in told["settings"]]}
    assert keys(told) <= documented(), sorted(keys(told) - documented())
