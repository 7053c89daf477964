"""What is in deploy/ fits the project: the unit is sound, the container file starts what is there."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from llm_router.cli.app import app

ROOT = Path(__file__).parents[1]
UNIT = (ROOT / "deploy" / "llm-router.service").read_text(encoding="utf-8")
CONTAINER = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
LOCK = (ROOT / "requirements" / "serve.txt").read_text(encoding="utf-8")
EXPOSURE = 1.5


def command_exists(words: list[str]) -> bool:
    """Whether the first word is a command of ours that has the options."""
    command = app.get_command(click.Context(app), words[0])
    options = {option for p in command.params for option in p.opts} if command is not None else set()
    return command is not None and {word for word in words if word.startswith("--")} <= options


def instructions(name: str) -> list[str]:
    joined = CONTAINER.replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in joined.splitlines() if line.startswith(f"{name} ")]


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is here, since systemd looks whether it is."""
    path = tmp_path / "llm-router.service"
    path.write_text(UNIT.replace("/opt/llm-router/bin/llm-router", sys.executable), encoding="utf-8")
    return path


needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "llm-router.service" not in said


@needs_systemd
def test_the_unit_leaves_little_open(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.search(r"exposure level for llm-router\.service: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip("this systemd cannot judge a unit offline")
    assert float(found[1]) <= EXPOSURE


def test_the_unit_starts_a_command_that_exists() -> None:
    start = re.search(r"^ExecStart=\S+/llm-router (.+)$", UNIT, re.M)
    assert start is not None
    assert command_exists(shlex.split(start[1]))


def test_the_container_starts_a_command_that_exists_and_is_not_root() -> None:
    (cmd,) = instructions("CMD")
    assert command_exists(re.findall(r'"([^"]+)"', cmd))
    (user,) = instructions("USER")
    assert int(user.partition(":")[0]) > 0
    assert CONTAINER.index("USER ") > CONTAINER.rindex("\nRUN ")


def test_the_container_is_built_from_the_lock_alone() -> None:
    installs = [line for line in instructions("RUN") if "pip install" in line]
    assert len(installs) == 2
    assert all("--no-deps" in line for line in installs)
    assert "--require-hashes -r requirements/serve.txt" in installs[0]
    assert "--no-build-isolation" in installs[1]
    assert "://" not in CONTAINER.replace("http://127.0.0.1:11435/health", "")


def test_what_the_container_copies_is_there_and_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    kept = [line.removeprefix("!") for line in lines if line.startswith("!")]
    copied = [source for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]]
    assert len(copied) == 6
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source


def test_the_lock_of_serving_has_hashes_no_address_and_the_versions_that_are_tested() -> None:
    pins = re.findall(r"^([\w.-]+==[^ \n]+)", LOCK, re.M)
    assert {"uvloop", "prometheus-client", "zstandard", "xllamacpp", "httptools"} <= {
        pin.partition("==")[0] for pin in pins
    }
    assert len(re.findall(r"^[\w.-]+==[^\n]* \\\n    --hash=sha256:", LOCK, re.M)) == len(pins)
    assert "://" not in LOCK
    tested = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    assert [pin for pin in pins if f"\n{pin} " not in f"\n{tested}"] == []
