"""A value that does not fit the struct it is read into: where it stands, what is wrong, what to write there.

msgspec says it in the words of Python; people read it in the words of their YAML file.
"""

from __future__ import annotations

import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

SURE = 0.7
"""How alike a word must be to one of a few known ones to be taken for it."""

MOST_KEYS = 8
"""Keys of a mapping that are all listed in a hint."""

Step = str | int


@dataclass(frozen=True, slots=True)
class Mismatch:
    """``steps`` lead from the struct to the value; ``why`` and ``hint`` are parts of an error about it."""

    steps: tuple[Step, ...]
    why: str
    hint: str


def mismatch(error: msgspec.ValidationError, kind: type, values: object) -> Mismatch:
    """What msgspec found wrong with ``values`` while it made a ``kind`` of them."""
    message, _, where = str(error).partition(" - at `$")
    steps = tuple(_steps(where.rstrip("`")))
    wanted = _at(kind, steps)
    missing = re.fullmatch(r"Object missing required field `(\w+)`", message)
    if missing:
        key = missing[1]
        return Mismatch(steps, f"the key {key!r} is missing", f"add {key}: {_noun(_at(wanted, [key]))}")
    return Mismatch(steps, _plain(message) + _got(message, values, steps), _hint(message, wanted))


def struct_inside(hint: object) -> tuple[type[msgspec.Struct] | None, bool]:
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


def _steps(where: str) -> Iterator[Step]:
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
    """msgspec's message in the words of a YAML file: ``expected number >= 0``."""
    message = message.replace("Invalid enum value", "unknown word")
    message = re.sub(
        r"`([^`]+)`", lambda match: " or ".join(_word(w) for w in match[1].split(" | ")), message
    )
    return re.sub(r"(\d)\.0\b", r"\1", message[0].lower() + message[1:])


def _word(name: str) -> str:
    return _WORDS.get(name, name)


def _got(message: str, values: object, steps: Iterable[Step]) -> str:
    """``, got -1``, where only the bound was told."""
    if not re.search(r"[<>]", message) or "length" in message:
        return ""
    for step in steps:
        if isinstance(values, dict):
            values = values.get(step)
        elif isinstance(values, list | tuple) and isinstance(step, int):
            values = values[step]
    return f", got {values}" if isinstance(values, int | float) else ""


def _hint(message: str, wanted: object) -> str:
    unknown = re.match(r"Invalid enum value (?:'(.*)'|.*)$", message, re.DOTALL)
    if unknown:
        known = _literals(wanted)
        meant = difflib.get_close_matches((unknown[1] or "").lower(), known, n=1, cutoff=SURE)
        return f"did you mean {meant[0]!r}?" if meant else f"known: {', '.join(known)}"
    if re.match(r"Expected `str.*got `(int|float|bool)`", message):
        return "put the value in quotes"
    return f"write {_noun(wanted)}"


@functools.cache
def _fields(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _at(hint: object, steps: Iterable[Step]) -> object:
    """The type that belongs at the end of ``steps``, with its description and bounds."""
    for step in steps:
        bare = _bare(hint)
        if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            hint = _fields(bare).get(str(step))
        else:
            arguments = typing.get_args(bare)
            hint = arguments[-1 if typing.get_origin(bare) is dict else 0] if arguments else None
    return hint


def _bare(hint: object) -> object:
    """Without annotations, and without None beside it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _bare(arguments[0])
    if origin is typing.Union or origin is types.UnionType:
        return _bare(next((a for a in arguments if a is not types.NoneType), None))
    return hint


def _metas(hint: object) -> Iterator[Meta]:
    for argument in typing.get_args(hint):
        if isinstance(argument, Meta):
            yield argument
        elif argument is not types.NoneType:
            yield from _metas(argument) if typing.get_origin(hint) is not tuple else ()


def _noun(hint: object) -> str:
    """What belongs there: ``a number > 0 and <= 5000 (size in GB as the owner states it)``."""
    description = next((meta.description for meta in _metas(hint) if meta.description), "")
    return _kind(hint) + (f" ({description})" if description else "")


def _kind(hint: object) -> str:
    bare = _bare(hint)
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return f"a mapping with {_keys(bare)}"
    if origin is Literal:
        return f"one of: {', '.join(map(str, arguments))}"
    if origin in (tuple, list):
        return _list(arguments[0])
    if origin is dict:
        return "one entry per line: name, colon, value"
    if bare is str:
        return "a text" + (" that is not empty" if any(meta.min_length for meta in _metas(hint)) else "")
    simple = {bool: "true or false", int: "a whole number", float: "a number"}
    named = simple.get(bare, "something else") if isinstance(bare, type) else "something else"
    return " ".join(part for part in (named, _bounds(hint)) if part)


def _keys(struct: type[msgspec.Struct]) -> str:
    """All keys, or of many those that must be there."""
    needed = [field.name for field in msgspec.structs.fields(struct) if field.required]
    every = list(_fields(struct))
    if len(every) > MOST_KEYS and needed:
        return f"at least the keys: {', '.join(needed)}"
    return f"its keys: {', '.join(every)}"


def _list(item: object) -> str:
    words, (struct, _) = _literals(item), struct_inside(_bare(item))
    if struct is not None:
        return f"a list, each entry with {_keys(struct)}"
    return f"a list of some of: {', '.join(words)}" if words else "a list, such as [one, two]"


def _bounds(hint: object) -> str:
    told = []
    for meta in _metas(hint):
        bounds = ((">=", meta.ge), (">", meta.gt), ("<=", meta.le), ("<", meta.lt))
        told += [f"{sign} {value:g}" for sign, value in bounds if value is not None]
    return " and ".join(told)


def _literals(hint: object) -> tuple[str, ...]:
    bare = _bare(hint)
    return tuple(map(str, typing.get_args(bare))) if typing.get_origin(bare) is Literal else ()
