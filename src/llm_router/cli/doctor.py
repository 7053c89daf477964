"""``llm-router doctor``: what is wrong here, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options, run
from llm_router.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from llm_router.config import Configuration
    from llm_router.diagnosis import Finding, Surroundings
    from llm_router.fleet import Fleet
    from llm_router.policy import World

_MARKS = {
    "ok": ("✓", "green"),
    "info": ("·", "dim"),
    "warning": ("!", "yellow"),
    "problem": ("✗", "bold red"),
}
_PARTS = {"crewai": "crewai", "local": "xllamacpp"}
_VARIABLE = re.compile(r"LLM_ROUTER_\w+")
_SETTING = re.compile(r"setting ([\w.]+)")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@pass_options
def doctor(options: Options, *, as_json: bool) -> None:
    """Looks at settings, hosts, memory and models, and says what to do.

    ✓ is well, · good to know, ! answered worse than it could be, ✗ requests fail. Settings that cannot be
    used are told and left out, and the rest is still looked at. Exit code 1 where there is a problem.
    """
    from llm_router.diagnosis import diagnose

    world, surroundings = run(_seen(options))
    findings = diagnose(world, surroundings)
    problems = sum(finding.severity == "problem" for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    if as_json:
        told = [finding.as_json() for finding in findings]
        output.json_data({"ok": not problems, "problems": problems, "warnings": warnings, "findings": told})
    else:
        _show(findings, output.console())
        output.data(f"\n{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}")
    if problems:
        click.get_current_context().exit(1)


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


async def _seen(options: Options) -> tuple[World, Surroundings]:
    from llm_router.assembly import hosts_of
    from llm_router.diagnosis import Surroundings
    from llm_router.diagnosis.classifier import packaged_classifier
    from llm_router.hosts.memory import machine_memory
    from llm_router.policy import World

    configuration, errors = _usable_configuration(options)
    fleet, fleet_errors = _usable_fleet(configuration)
    hosts = await hosts_of(configuration.settings, fleet)
    surroundings = Surroundings(
        configuration=configuration,
        errors=(*errors, *fleet_errors, *_prompt_errors(configuration)),
        files=_files(options, configuration),
        parts={part: importlib.util.find_spec(module) is not None for part, module in _PARTS.items()},
        variables={name: value for name, value in os.environ.items() if name.startswith("OLLAMA_")},
        memory=machine_memory(),
        classifier=packaged_classifier(),
    )
    return World(fleet, hosts, configuration.settings.policy), surroundings


def _usable_configuration(options: Options) -> tuple[Configuration, list[ConfigError]]:
    """What can be used of the settings, and each error: a bad variable is left out, a bad file as a whole."""
    from llm_router.config import Configuration, Settings, load_configuration

    flags = {"fleet": [str(path) for path in options.fleets]} if options.fleets else {}
    environ = dict(os.environ)
    errors: list[ConfigError] = []
    while True:
        try:
            return load_configuration(environ=environ, flags=flags, path=options.config), errors
        except ConfigError as error:
            errors.append(error)
            guilty = _guilty_variable(error, environ)
            if guilty is None:
                return Configuration(Settings(), {}), errors
            del environ[guilty]


def _guilty_variable(error: ConfigError, environ: dict[str, str]) -> str | None:
    """The environment variable that an error is about, or None where it is about a file."""
    named = _VARIABLE.search(error.what)
    setting = _SETTING.search(error.what)
    if named:
        name = named[0]
    elif setting:
        name = "LLM_ROUTER_" + setting[1].upper().replace(".", "__")
    elif environ.get("OLLAMA_HOST", "") and repr(environ["OLLAMA_HOST"]) in error.what:
        name = "OLLAMA_HOST"
    else:
        return None
    return name if name in environ else None


def _usable_fleet(configuration: Configuration) -> tuple[Fleet, list[ConfigError]]:
    from llm_router.assembly import fleet_of
    from llm_router.fleet import load_fleet

    try:
        return fleet_of(configuration.settings), []
    except ConfigError as error:
        return load_fleet(), [error]


def _prompt_errors(configuration: Configuration) -> list[ConfigError]:
    from llm_router.assembly import prompt_of

    try:
        prompt_of(configuration.settings)
    except ConfigError as error:
        return [error]
    return []


def _files(options: Options, configuration: Configuration) -> dict[str, str]:
    from llm_router.config import user_directory

    files: dict[str, str] = {}
    named = options.config or (Path(told) if (told := os.environ.get("LLM_ROUTER_CONFIG")) else None)
    settings_file = named.expanduser() if named else user_directory() / "config.yaml"
    if settings_file.is_file():
        files[str(settings_file)] = "settings file"
    origin = configuration.origins.get("fleet", "")
    for path in configuration.settings.fleet:
        files[path] = f"fleet file ({origin})" if origin else "fleet file"
    prompt = configuration.settings.classify.mission_control.prompt
    if prompt and Path(prompt).expanduser().is_file():
        files[prompt] = "Mission Control's prompt"
    return files


def _show(findings: Sequence[Finding], console: Console) -> None:
    for index, (group, members) in enumerate(_grouped(findings)):
        if index:
            output.data("")
        console.print(group, style="bold")
        for finding in members:
            _line(finding, console)


def _grouped(findings: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    """Findings by group, groups in the order they first appear, the worst of a group first."""
    order = {"problem": 0, "warning": 1, "info": 2, "ok": 3}
    first: dict[str, int] = {}
    for finding in findings:
        first.setdefault(finding.group, len(first))
    ranked = sorted(findings, key=lambda f: (first[f.group], order[f.severity]))
    return [(group, list(members)) for group, members in groupby(ranked, key=lambda f: f.group)]


def _line(finding: Finding, console: Console) -> None:
    from rich.text import Text

    mark, style = _MARKS[finding.severity]
    width = max(console.width - 4, 20)
    for index, line in enumerate(Text(output.one_line(finding.text)).wrap(console, width, overflow="fold")):
        line.rstrip()
        before = Text(f"  {mark} ", style=style) if index == 0 else Text("    ")
        console.print(Text.assemble(before, line), no_wrap=True, crop=False)
    if finding.fix:
        for index, line in enumerate(
            Text(output.one_line(finding.fix)).wrap(console, width - 3, overflow="fold")
        ):
            line.rstrip()
            before = Text("    → ", style="cyan") if index == 0 else Text("      ")
            console.print(Text.assemble(before, line), no_wrap=True, crop=False)
