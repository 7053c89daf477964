"""Docs that cannot lie: their code runs, their files load, their commands exist, their links lead on."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from llm_router.cli.app import app as cli
from llm_router.config import load_configuration
from llm_router.fleet import load_fleet

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "requirements" / "README.md"])
BLOCK = re.compile(r"^[ \t]*```(\w+)\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
FORBIDDEN = re.compile(r"/(?:work|root|farm)/")


def blocks(language: str) -> list[tuple[str, str]]:
    """(place, text) of every fenced block of a language, without the indentation of its list."""
    found = []
    for page in PAGES:
        for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")), 1):
            if match[1] == language:
                lines = match[2].splitlines()
                indent = min((len(x) - len(x.lstrip()) for x in lines if x.strip()), default=0)
                text = "\n".join(x[indent:] for x in lines)
                found.append((f"{page.relative_to(ROOT)}#{number}", text))
    return found


def by_place(language: str) -> pytest.MarkDecorator:
    found = blocks(language)
    return pytest.mark.parametrize("text", [t for _, t in found], ids=[place for place, _ in found])


@pytest.mark.embedded
@pytest.mark.crewai
@by_place("python")
def test_python_blocks_run_as_written(text: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr


@by_place("yaml")
def test_yaml_blocks_are_files_that_load(text: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    if re.search(r"^(hosts|policy|classify|routing|timeouts|residency|serve|records):", text, re.MULTILINE):
        load_configuration(environ={}, path=path)
    else:
        load_fleet([path])


def commands() -> list[str]:
    lines = [line.strip() for _, text in blocks("console") for line in text.splitlines()]
    for page in PAGES:
        lines += re.findall(r"`(llm-router [^`…|]+)`", page.read_text(encoding="utf-8"))
    return sorted({line.split("  #")[0].strip() for line in lines if line.startswith("llm-router ")})


@pytest.mark.parametrize("line", commands())
def test_commands_of_the_docs_exist_with_their_options(line: str) -> None:
    words = shlex.split(re.split(r"\s[|>]\s", line)[0])[1:]
    command: click.Command = cli
    context = click.Context(cli, info_name="llm-router")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"no command {words[0]!r}"
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    known |= {option for parameter in cli.params for option in parameter.opts} | {"--help"}
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    assert used <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_no_place_on_a_machine(page: Path) -> None:
    assert not FORBIDDEN.search(page.read_text(encoding="utf-8"))


def test_make_commands_of_the_docs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        used = re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert {name for pair in used for name in pair if name} <= targets


def test_every_setting_and_every_key_of_a_fleet_file_is_documented() -> None:
    from llm_router.cli.reference_files import pages

    for path, text in pages().items():
        written = (ROOT / path).read_text(encoding="utf-8")
        assert written == text, f"{path} is old: python -m llm_router.cli.reference_files"
