"""docs/guides/gateway.md: its tables say what the gateway does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.gateway.conftest import Start

from llm_router.gateway.keys import new_key
from llm_router.gateway.metrics import Metrics
from llm_router.gateway.pages import pages
from llm_router.gateway.wires import endpoints
from llm_router.records.settings import RecordSettings
from llm_router.records.writer import Recorder
from llm_router.serve_settings import ServeSettings

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "gateway.md").read_text(encoding="utf-8")
TASK = {"messages": [{"role": "user", "content": "What's 2+2?"}]}


def table(heading: str) -> list[list[str]]:
    """Cells of the first table under a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.search(r"^\|.*\n\|-.*\n((?:\|.*\n)+)", section, re.M)
    assert found is not None, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


def test_every_path_is_told_and_no_other(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "records.sqlite3", RecordSettings())
    try:
        there = set(pages(manages=True, metrics=Metrics(), recorder=recorder))
    finally:
        recorder.close()
    there |= {endpoint.path for endpoint in endpoints()}
    told = {path for row in table("Paths") for path in re.findall(r"`(/[^`]*)`", row[0])}
    assert {re.sub(r"\{\w+\}$", "", path) for path in told} == there


def test_the_bounds_are_the_defaults_of_the_settings() -> None:
    settings = ServeSettings()
    told = re.findall(r"`serve\.(\w+)`[^|\n]*?\((\d+)(?: s)?\)", PAGE)
    assert {name for name, _ in told} >= {"heartbeat_s", "max_requests", "max_connections", "max_body_mb"}
    for name, value in told:
        assert float(value) == getattr(settings, name), name


VIRTUAL = [name for row in table("Model names")[:3] for name in re.findall(r"`(auto[\w:-]*)`", row[0])]


@pytest.mark.parametrize("name", [*VIRTUAL, "", None])
async def test_names_that_leave_the_choice(start: Start, name: str | None) -> None:
    here = await start()
    status, _, headers = await here.post("/v1/chat/completions", TASK | {"model": name})
    category = "structured_data" if name == "auto:structured_data" else "simple_chat"
    assert (status, headers["x-router-category"]) == (200, category)


async def test_the_headers_are_those_of_the_page(start: Start) -> None:
    here = await start()
    _, told, headers = await here.post("/v1/chat/completions", TASK)
    named = [row[0] for row in table("The reason in the reply")]
    documented = {name for cell in named for name in re.findall(r"`(x-[\w-]+)`", cell)}
    assert documented == {name for name in headers if name.startswith("x-")}
    assert {name for name in told["router"] if f"`{name}`" not in PAGE} <= {
        *("decision_id", "model", "category", "confidence", "reason", "fallback")  # as in the headers
    }


KEYS = table("Keys")


@pytest.mark.parametrize("row", KEYS, ids=[row[0][:30] for row in KEYS])
async def test_who_may_do_what(start: Start, tmp_path: Path, row: list[str]) -> None:
    (key, hashed), (admin, hashed_admin) = new_key(), new_key()
    (tmp_path / "keys.yaml").write_text(
        "keys:\n"
        f"- {{name: alice, hash: '{hashed}'}}\n"
        f"- {{name: operator, hash: '{hashed_admin}', admin: true}}\n",
        encoding="utf-8",
    )
    here = await start(serve={"keys": str(tmp_path / "keys.yaml")})
    paths = re.findall(r"`(/[\w./]+)`", row[0])
    if "tasks" in row[0]:
        paths = ["/v1/models", "/api/tags", "/api/ps"]
    for path in paths:
        for may, given in zip(row[1:], ("", key, admin), strict=True):
            headers = {"authorization": f"Bearer {given}"} if given else {}
            status, _, _ = await here.get(path, **headers)
            assert (status == 200) == bool(may), (path, status)
