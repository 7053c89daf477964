"""YAML files read strictly: every complaint has a file, a line and, for a misspelt key, the nearest key.

PyYAML composes the nodes (so that line numbers survive), msgspec checks types and bounds against the
typed structs; this module only joins the two.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from llm_router.errors import ConfigError, nearest

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML built without libyaml: the same results, ten times as slow
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

T = TypeVar("T", bound=msgspec.Struct)

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 50
MAX_VALUES = 200_000


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
            raise ConfigError("the file is too large", why=f"more than {MAX_FILE_BYTES:,} bytes", path=path)
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
        raise ConfigError("not valid YAML", why="a control character", path=path, line=line) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError("not valid YAML", why=str(error).split("\n")[0], path=path) from error


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
                    "nested too deeply", why=f"more than {MAX_DEPTH} levels", path=path, line=line
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _syntax_error(error: yaml.MarkedYAMLError, text: str, path: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    why = error.problem or str(error).split("\n")[0]
    hint = "check indentation, brackets and quotes near this line"
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
        raise ConfigError("too many values", why="aliases repeat them or contain themselves", path=file)
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
        message, _, where = str(error).partition(" - at `$")
        steps = tuple(_steps(where.rstrip("`")))
        at = (*path, *steps)
        name = ".".join(str(step) for step in at)
        what = f"{name}: {_plain(message)}" if name else _plain(message)
        raise document.error(what, *at, hint=_hint(message, _literals(kind, steps))) from error


def _steps(where: str) -> Iterator[str | int]:
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", where):
        yield int(index) if index else name


_WORDS = {
    "object": "mapping",
    "array": "list",
    "str": "text",
    "int": "whole number",
    "float": "number",
    "null": "nothing",
    "bool": "true or false",
}


def _plain(message: str) -> str:
    """msgspec's message in the words of a YAML file: ``expected number >= 0.0``, ``the key … is missing``."""
    missing = re.fullmatch(r"Object missing required field `(\w+)`", message)
    if missing:
        return f"the key {missing[1]!r} is missing"
    message = message.replace("Invalid enum value", "unknown word")
    message = re.sub(
        r"`([^`]+)`", lambda match: " or ".join(_word(w) for w in match[1].split(" | ")), message
    )
    return message[0].lower() + message[1:]


def _word(name: str) -> str:
    return _WORDS.get(name, name)


def _hint(message: str, allowed: tuple[str, ...]) -> str | None:
    if allowed:
        wrong = re.search(r"'([^']*)'", message)
        return (nearest(wrong[1], allowed) if wrong else None) or f"known: {', '.join(allowed)}"
    if message.startswith("Expected `bool`"):
        return "write true or false"
    if re.match(r"Expected `str.*got `(int|float|bool)`", message):
        return "put the value in quotes"
    return None


@functools.cache
def _field_types(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _literals(kind: type, steps: Iterable[str | int]) -> tuple[str, ...]:
    """The words that a field made of fixed words accepts, or nothing."""
    hint: object = kind
    for step in steps:
        if isinstance(step, str):
            struct, _ = struct_inside(hint)
            hint = _field_types(struct).get(step) if struct else None
    found = [hint]
    while found:
        hint = found.pop()
        if typing.get_origin(hint) is typing.Literal:
            return tuple(str(word) for word in typing.get_args(hint))
        found += typing.get_args(hint)
    return ()


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


def struct_inside(hint: object) -> tuple[type | None, bool]:
    """The struct that a field holds, and whether it holds many of them (a list or a mapping of names)."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint, False
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union or origin is types.UnionType:
        found = [struct_inside(argument) for argument in arguments]
        return next((item for item in found if item[0] is not None), (None, False))
    if origin in (tuple, list, dict):
        for argument in arguments:
            inner, _ = struct_inside(argument)
            if inner is not None:
                return inner, True
    return None, False
