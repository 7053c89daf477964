"""aider against the gateway, as the page of clients sets it up: one task, one edit, one commit."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.clients.installed import installed, ran
from tests.clients.pages import ADDRESS, blocks
from tests.gateway.conftest import HERE, Start

from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

EDIT = "hello.py\n```\nprint('hello')\n```\n"
ONCE = ("--yes-always", "--no-pretty", "--no-fancy-input", "--no-show-release-notes", "--no-gitignore")
PRICES = "raw.githubusercontent.com"
"""Where it looks for a list of prices; it works without."""
QUIET = ("--analytics-disable", "--no-check-update")


def _reply(body: dict[str, Any]) -> str:
    told = "\n".join(message["content"] for message in body["messages"])
    return "feat: add hello.py" if "commit message" in told else EDIT


@pytest.mark.parametrize("settings", ["environment", "file"])
async def test_an_edit(start: Start, tmp_path: Path, own_home: Path, settings: str) -> None:
    aider = installed("aider", "bin", "aider")
    here = await start(fake=FakeOllama(fleet_models(HERE), reply=_reply))
    place = here.url.removeprefix("http://")
    project = tmp_path / "project"
    project.mkdir()
    (own_home / ".gitconfig").write_text("[user]\nname = A\nemail = a@localhost\n", encoding="utf-8")
    await ran("git", "init", "-q", cwd=project)

    environment: dict[str, str] = {}
    options: list[str] = []
    if settings == "environment":
        ((_, code),) = blocks("console", "aider")
        code = code.replace(ADDRESS, place)
        environment = dict(re.findall(r"^export (\w+)=(.+)$", code, re.M))
        (command,) = re.findall(r"^aider (.+)$", code, re.M)
        options = shlex.split(command)
    else:
        ((_, code),) = blocks("yml", "aider")
        (project / ".aider.conf.yml").write_text(code.replace(ADDRESS, place), encoding="utf-8")
    asked = ("--message", "Write hello.py, which prints hello", "hello.py")
    done = await ran(aider, *options, *ONCE, *QUIET, *asked, cwd=project, **environment)

    assert done.tried_outside == (PRICES,)
    assert (project / "hello.py").read_text(encoding="utf-8") == "print('hello')\n"
    log = await ran("git", "log", "--format=%s", cwd=project)
    assert set(log.out.splitlines()) == {"feat: add hello.py"}
    sent = here.asked()
    assert any("Write hello.py, which prints hello" in str(body["messages"]) for body in sent)
    recorded = await here.recorded()
    assert sorted(record["model"] for record in recorded) == sorted(body["model"] for body in sent)
    assert all(record["category"] and not record["error"] for record in recorded)
    assert len(sent) >= 2
