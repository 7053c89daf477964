"""``llm-router keys``: who may call the gateway. The file holds hashes; a key itself is shown once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_router.cli import output
from llm_router.cli.context import Options, pass_options

if TYPE_CHECKING:
    from llm_router.gateway.keys import KeyEntry


@click.group()
def keys() -> None:
    """API keys of those who may call the gateway.

    \b
      llm-router keys add alice --category structured_data --per-minute 60
      llm-router keys list
      llm-router keys remove alice
    """


@keys.command("add")
@click.argument("name")
@click.option("--model", "models", multiple=True, metavar="NAME", help="May be answered by this; repeatable.")
@click.option("--category", "categories", multiple=True, metavar="NAME", help="May ask for this; repeatable.")
@click.option("--per-minute", type=click.IntRange(1), metavar="N", help="Requests in any minute.")
@click.option("--concurrent", type=click.IntRange(1), metavar="N", help="Requests at once.")
@click.option("--admin", is_flag=True, help="May also manage models, and read metrics and records.")
@pass_options
def add(options: Options, /, name: str, **limits: Any) -> None:
    """Makes a key for NAME and prints it. It cannot be shown again."""
    from llm_router.errors import InvalidRequest
    from llm_router.gateway.keys import KeyEntry, new_key

    path, entries = _entries(options)
    if any(entry.name == name for entry in entries):
        raise InvalidRequest(
            f"{name} has a key", why=f"it is in {path}", hint=f"first: llm-router keys remove {name}"
        )
    key, digest = new_key()
    entry = KeyEntry(
        name=name,
        hash=digest,
        models=tuple(limits["models"]),
        categories=tuple(limits["categories"]),
        requests_per_minute=limits["per_minute"],
        concurrent=limits["concurrent"],
        admin=limits["admin"],
    )
    _write(path, [*entries, entry])
    output.data(key)
    output.say(f"kept as a hash in {path}; a running gateway takes it within seconds", dim=True)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON, without the hashes.")
@pass_options
def list_(options: Options, /, as_json: bool) -> None:
    """Shows who has a key, and what each may do."""
    from llm_router.cli.tables import Cell, print_table

    path, entries = _entries(options)
    if as_json:
        import msgspec

        told = [{k: v for k, v in msgspec.to_builtins(e).items() if k != "hash"} for e in entries]
        output.json_data({"keys": told})
        return
    if not entries:
        output.say(f"no keys in {path}: whoever reaches the gateway may use it")
        return
    rows = [
        (
            Cell(entry.name),
            Cell("admin" if entry.admin else "answers"),
            Cell(", ".join(entry.models) or "all"),
            Cell(", ".join(entry.categories) or "all"),
            Cell(str(entry.requests_per_minute or "")),
            Cell(str(entry.concurrent or "")),
        )
        for entry in entries
    ]
    print_table(("name", "may", "~models", "~categories", ">a minute", ">at once"), rows, output.console())


@keys.command("remove")
@click.argument("name")
@pass_options
def remove(options: Options, /, name: str) -> None:
    """Takes NAME's key away."""
    from llm_router.errors import InvalidRequest, nearest

    path, entries = _entries(options)
    left = [entry for entry in entries if entry.name != name]
    if len(left) == len(entries):
        raise InvalidRequest(
            f"{name} has no key",
            why=f"{path} does not have it",
            hint=nearest(name, [entry.name for entry in entries]) or "see: llm-router keys list",
        )
    _write(path, left)
    output.say(f"{name} is removed from {path}")


def _entries(options: Options) -> tuple[Path, list[KeyEntry]]:
    from llm_router.config import user_directory
    from llm_router.gateway.keys import load_keys

    named = options.configuration().settings.serve.keys
    path = Path(named).expanduser() if named is not None else user_directory() / "keys.yaml"
    return path, list(load_keys(path).keys) if path.is_file() else []


def _write(path: Path, entries: list[KeyEntry]) -> None:
    """Replaces the file in one step, readable by its owner alone."""
    import msgspec
    import yaml

    plain = [{k: v for k, v in msgspec.to_builtins(entry).items() if v} for entry in entries]
    text = "# API keys of the gateway, as hashes. Written by: llm-router keys\n"
    text += yaml.safe_dump({"keys": plain}, sort_keys=False, allow_unicode=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
