"""YAML files read strictly: every complaint has a file, a line and, for a misspelt key, the nearest key.

PyYAML composes the nodes (so that line numbers survive), msgspec checks types and bounds against the
typed structs; this module only joins the two.
"""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from llm_router.errors import ConfigError, nearest
from llm_router.mismatch import mismatch, struct_inside

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML built without libyaml: the same results, ten times as slow
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

T = TypeVar("T", bound=msgspec.Struct)

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 50
MAX_VALUES = 200_000
_SYNTAX_HINT = "check indentation, brackets and quotes near this line"


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: plain values, and the line of every key and list item by its path.

    ``below`` is a file that this one was laid over: an error about a key that only stands there names it.
    """

    path: str
    values: Any
    lines: Mapping[tuple[str | int, ...], int]
    below: Document | None = None

    def line(self, *path: str | int) -> int | None:
        """The line of ``path``, or of its nearest known parent."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None

    def error(
        self, what: str, *path: str | int, why: str | None = None, hint: str | None = None
    ) -> ConfigError:
        """The error to raise about the value at ``path``, with the file and line where it stands."""
        document: Document | None = self
        while document is not None and path not in document.lines:
            document = document.below
        source = document or self
        return ConfigError(what, why=why, hint=hint, path=source.path, line=source.line(*path))


class _Loader(_SafeLoader):
    """Safe loading with the types of YAML 1.2: ``no``, ``1:30`` and dates are texts, ``1e3`` is 1000."""


_Loader.yaml_implicit_resolvers = {}
_PLAIN_TYPES = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?([0-9][0-9_]*\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
)
for _kind, _pattern, _first in _PLAIN_TYPES:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}",
        re.compile(f"^(?:{_pattern})$"),
        [c.replace("\0", "") for c in _first],
    )


def read(path: Path) -> Document:
    """Reads one file. Raises ConfigError where it is missing, not UTF-8, too large or not YAML."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(
                "the file is too large",
                why=f"more than {MAX_FILE_BYTES:,} bytes",
                hint="check the path: settings and fleet files are a few kilobytes",
                path=path,
            )
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "cannot read the file", why=error.strerror or str(error), hint="check the path", path=path
        ) from error
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ConfigError(
            "the file is not UTF-8 text",
            why=f"byte 0x{data[error.start]:02x} is not part of any UTF-8 character",
            hint="save it again with the encoding UTF-8",
            path=path,
            line=data[: error.start].count(b"\n") + 1,
        ) from error
    return parse(text, str(path))


def parse(text: str, path: str = "<text>") -> Document:
    """Parses text that is already in memory; ``path`` is only for messages. Raises ConfigError."""
    try:
        _refuse_deep_nesting(text, path)
        return _composed(_Loader(text), path)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, path) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            "not valid YAML",
            why="a control character",
            hint="remove it; is this a text file?",
            path=path,
            line=line,
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        why = str(error).split("\n")[0]
        raise ConfigError("not valid YAML", why=why, hint=_SYNTAX_HINT, path=path) from error


def _composed(loader: _Loader, path: str) -> Document:
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(path, {}, {})
        lines: dict[tuple[str | int, ...], int] = {}
        _note_lines(node, (), lines, path)
        return Document(path, loader.construct_document(node), lines)
    finally:
        loader.dispose()


def _refuse_deep_nesting(text: str, path: str) -> None:
    """The composers recurse, and the one written in C ends the process instead of raising."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else None
                raise ConfigError(
                    "nested too deeply",
                    why=f"more than {MAX_DEPTH} levels",
                    hint="a fleet file needs six at most; check brackets and indentation",
                    path=path,
                    line=line,
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _syntax_error(error: yaml.MarkedYAMLError, text: str, path: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    why = error.problem or str(error).split("\n")[0]
    hint = _SYNTAX_HINT
    if mark is None:
        return ConfigError("not valid YAML", why=why, hint=hint, path=path)
    if error.context and error.context_mark and error.context_mark.line != mark.line:
        why += f" ({error.context} from line {error.context_mark.line + 1})"
    lines = text.splitlines()
    if mark.line < len(lines) and "\t" in lines[mark.line]:
        hint = "the line has a tab; indent with spaces"
    return ConfigError("not valid YAML", why=why, hint=hint, path=path, line=mark.line + 1)


def _note_lines(
    node: yaml.Node, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], file: str
) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if len(lines) > MAX_VALUES or len(path) > MAX_DEPTH:
        raise ConfigError(
            "too many values",
            why="aliases repeat them or contain themselves",
            hint="write the values out instead of naming them with & and *",
            path=file,
        )
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            if here in lines:
                raise ConfigError(
                    f"{key.value!r} is given twice",
                    why=f"first on line {lines[here]}",
                    hint="keep one of them",
                    path=file,
                    line=key.start_mark.line + 1,
                )
            lines[here] = key.start_mark.line + 1
            _note_lines(value, here, lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, (*path, index), lines, file)


def convert(document: Document, values: object, kind: type[T], *path: str | int) -> T:
    """Turns ``values`` (found at ``path`` of the document) into a struct, or raises one clear ConfigError."""
    _refuse_unknown_keys(document, values, kind, path)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        found = mismatch(error, kind, values)
        at = (*path, *found.steps)
        name = ".".join(str(step) for step in at)
        if not name:
            raise document.error(found.why, hint=found.hint) from error
        raise document.error(name, *at, why=found.why, hint=found.hint) from error


@functools.cache
def _field_types(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _refuse_unknown_keys(document: Document, values: object, kind: type, path: tuple[str | int, ...]) -> None:
    """msgspec names an unknown key too, but neither its line inside a mapping nor the key that was meant."""
    if not isinstance(values, dict):
        return
    hints = _field_types(kind)
    for key, value in values.items():
        if key not in hints:
            where = ".".join(str(step) for step in path)
            raise document.error(
                f"unknown key {str(key)!r}" + (f" in {where}" if where else ""),
                *path,
                str(key),
                hint=nearest(str(key), hints) or f"known keys: {', '.join(hints)}",
            )
        inner, many = struct_inside(hints[key])
        if inner is None:
            continue
        if many and isinstance(value, list):
            for index, item in enumerate(value):
                _refuse_unknown_keys(document, item, inner, (*path, str(key), index))
        elif many and isinstance(value, dict):
            for name, item in value.items():
                _refuse_unknown_keys(document, item, inner, (*path, str(key), str(name)))
        else:
            _refuse_unknown_keys(document, value, inner, (*path, str(key)))
