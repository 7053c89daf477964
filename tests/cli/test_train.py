"""``train``: weights and card from text, and the proof that the ones in use come from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Invoke

from llm_router.classify.encoder import Encoder

KINDS = {
    "simple_chat": "hello, how are you, do you like {}",
    "structured_data": "write a SQL query that counts {} per month",
    "max_vision": "read every figure of the chart about {}",
}
TOPICS = ("boats", "bread", "tax", "owls", "guitars", "snow", "trains", "roses", "chess", "bees")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    rows = [{"text": f.format(t), "category": name} for name, f in KINDS.items() for t in TOPICS]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "heldout.jsonl").write_text(json.dumps({**rows[0], "split": "heldout"}) + "\n")
    asides = [{"text": t, "follow_up": t != "hello"} for t in ("yes", "again", "shorter please", "hello")]
    (folder / "follow_ups.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asides))
    return folder


def test_weights_and_card_are_written_and_can_be_used(
    invoke: Invoke, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_server: str
) -> None:
    out = tmp_path / "mine.npz"
    done = invoke("train", "--text", str(text), "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert Encoder.load(out).version == told["version"]
    assert told["version"] in out.with_suffix(".card.md").read_text(encoding="utf-8")
    monkeypatch.setenv("LLM_ROUTER_CLASSIFY__WEIGHTS", str(out))
    assert invoke("train", "--text", str(text), "--check").exit_code == 0  # the weights in use are these
    routed = json.loads(invoke("route", "--json", "write a SQL query that counts owls per month").stdout)
    assert routed["stage"] == "encoder"


def test_check_finds_the_same_text_alike_and_refuses_other_text(
    invoke: Invoke, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mine.npz"
    assert invoke("train", "--text", str(text), "--out", str(out)).exit_code == 0
    monkeypatch.setenv("LLM_ROUTER_CLASSIFY__WEIGHTS", str(out))
    same = invoke("train", "--text", str(text), "--check", "--json")
    assert same.exit_code == 0, same.output
    assert json.loads(same.stdout)["different"] == 0
    with (text / "all.jsonl").open("a") as file:
        file.write('{"text": "hello again, how is your dog", "category": "simple_chat"}\n')
    other = invoke("train", "--text", str(text), "--check")
    assert other.exit_code == 2
    assert "are not what you name" in other.stderr


def test_a_broken_line_is_told_with_its_place(invoke: Invoke, text: Path) -> None:
    with (text / "all.jsonl").open("a") as file:
        file.write('{"text": "hello", "category": "simple_chat", "colour": "red"}\n')
    done = invoke("train", "--text", str(text))
    assert done.exit_code == 2
    assert "all.jsonl, line 31" in done.stderr
    assert "hint: " in done.stderr


@pytest.mark.parametrize("arguments", [("--text", "nowhere"), ("--cases", "nowhere"), ("--unseen", "file")])
def test_folders_that_do_not_help_are_refused(invoke: Invoke, text: Path, arguments: tuple[str, str]) -> None:
    done = invoke("train", "--text", str(text), *arguments)
    assert done.exit_code == 2
    assert "error: " in done.stderr


def test_a_named_weights_file_that_cannot_be_read_degrades_to_the_rules_and_says_so(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_server: str
) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"not weights")
    monkeypatch.setenv("LLM_ROUTER_CLASSIFY__WEIGHTS", str(broken))
    routed = json.loads(invoke("route", "--json", "hello there").stdout)
    assert routed["stage"] == "default"
    assert any("out of order" in stage["note"] for stage in routed["stages"])
    assert any("out of order" in warning for warning in routed["warnings"])
