"""Writes docs/reference/config.md and fleet-file.md: ``python -m llm_router.cli.reference_files``.

They are made from the structs that read the files. With ``--check`` nothing is written, and the exit code
is 1 where a page is not what the structs say.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from llm_router.config import Settings
from llm_router.fleet.schema import FleetFile
from llm_router.mismatch import struct_inside

_CONFIG_HEAD = """\
# The settings file
`config.yaml` in your configuration directory (`llm-router config path` says where), or the file that
`--config` or `LLM_ROUTER_CONFIG` names. Every section and key is optional. A value is taken from the first
of: flag, environment, file, default; `llm-router config show` tells which.

Every single value can be set in the environment as `LLM_ROUTER_<SECTION>__<KEY>`, such as
`LLM_ROUTER_CLASSIFY__ASK_BELOW=0.3`. Besides:

| variable | meaning |
|---|---|
| `OLLAMA_HOST` | address of Ollama, in any form that Ollama itself reads; replaces `hosts` |
| `LLM_ROUTER_FLEET` | fleet files, separated like `PATH` |
| `LLM_ROUTER_CONFIG` | the settings file |
| `LLM_ROUTER_API_KEY` | the key of an admin for a gateway that asks for one; `llm-router ps` sends it |
| `LLM_ROUTER_CACHE_DIR` | where the embedded model's file is kept |
| `LLM_ROUTER_COMPILE` | while installing: `auto`, `never` or `always` compile what is written in C |
| `LLM_ROUTER_DEBUG=1` | adds the traceback to an internal error |
| `LLM_ROUTER_CREWAI_TELEMETRY=1` | leaves CrewAI's telemetry as CrewAI has it; otherwise it is switched off |
"""

_FLEET_HEAD = """\
# The fleet file
What exists: models and categories. Yours lies over the shipped one: `fleet.yaml` beside `config.yaml`, or
named by `--fleet` or `LLM_ROUTER_FLEET`. An entry is laid over the one of the same name key by key; a list
(such as `models` of a category) is replaced as a whole. How to: [add a model](../guides/add-a-model.md).
"""

_TAIL = "This page is written by `python -m llm_router.cli.reference_files`.\n"


def pages() -> Mapping[Path, str]:
    """Path in the repository → whole text of the page."""
    config = [_CONFIG_HEAD, *_sections(Settings, "settings"), _TAIL]
    fleet = [_FLEET_HEAD, *_sections(FleetFile, "file"), _TAIL]
    return {
        Path("docs/reference/config.md"): "\n".join(config),
        Path("docs/reference/fleet-file.md"): "\n".join(fleet),
    }


def _sections(kind: type[msgspec.Struct], title: str) -> Iterator[str]:
    """A table per struct, the outer one first, each inner one once."""
    waiting, seen = [(title, kind)], {kind}
    while waiting:
        name, struct = waiting.pop(0)
        rows = list(_rows(struct))
        about = (struct.__doc__ or "").strip().replace("``", "`")
        named = f"## `{name}`\n"
        yield f"{named}\n{about}\n" if about and not about.startswith(struct.__name__) else named
        yield "\n".join(["| key | kind | default | meaning |", "|---|---|---|---|", *rows]) + "\n"
        for field, hint in typing.get_type_hints(struct, include_extras=True).items():
            inner, many = struct_inside(typing.get_type_hints(struct)[field])
            if inner is not None and inner not in seen:
                seen.add(inner)
                waiting.append((f"{field}.<name>" if many and _is_mapping(hint) else field, inner))


def _rows(struct: type[msgspec.Struct]) -> Iterator[str]:
    hints = typing.get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        yield f"| `{field.name}` | {_kind(hint)} | {_default(field)} | {_meaning(hint)} |"


def _metas(hint: object) -> Iterator[Meta]:
    if typing.get_origin(hint) is Annotated:
        first, *rest = typing.get_args(hint)
        yield from (item for item in rest if isinstance(item, Meta))
        yield from _metas(first)
    elif typing.get_origin(hint) in (typing.Union, UnionType):
        for part in typing.get_args(hint):
            yield from _metas(part)


def _meaning(hint: object) -> str:
    return next((meta.description for meta in _metas(hint) if meta.description), "").replace("|", "\\|")


def _bounds(hint: object) -> str:
    told = []
    for meta in _metas(hint):
        bounds = (("≥", meta.ge), ("\\>", meta.gt), ("≤", meta.le), ("<", meta.lt))
        told += [f"{sign} {value:g}" for sign, value in bounds if value is not None]
    return ", ".join(told)


def _kind(hint: object) -> str:
    bounds = _bounds(hint)
    return _plain_kind(hint) + (f", {bounds}" if bounds else "")


def _plain_kind(hint: object) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _plain_kind(arguments[0])
    if origin in (typing.Union, UnionType):
        return " or ".join(_plain_kind(a) for a in arguments if a is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin is tuple:
        return f"list of {_plain_kind(arguments[0])}"
    if origin is dict:
        return f"names to {_plain_kind(arguments[1])}"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return "section"
    names: dict[object, str] = {str: "text", float: "number", int: "whole number", bool: "true or false"}
    return names.get(hint, str(hint))


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "**needed**"
    value: Any = field.default
    if value is msgspec.NODEFAULT or isinstance(value, msgspec.Struct):
        return ""
    if isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
        return "one at `http://127.0.0.1:11434`"
    if value in (None, "", ()):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _is_mapping(hint: object) -> bool:
    if typing.get_origin(hint) is Annotated:
        return _is_mapping(typing.get_args(hint)[0])
    return typing.get_origin(hint) is dict


def main() -> None:
    for path, text in pages().items():
        if "--check" not in sys.argv[1:]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is not what the structs say; run: python -m llm_router.cli.reference_files")


if __name__ == "__main__":
    main()
