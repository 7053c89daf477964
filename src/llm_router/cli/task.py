"""From words, files and stdin to a RouteRequest; every command that takes a task reads it here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llm_router.errors import InvalidRequest, UsageError

if TYPE_CHECKING:
    from llm_router.request import Json, RouteRequest

F = TypeVar("F", bound=Callable[..., Any])

MAX_TEXT_BYTES = 8 * 1024 * 1024
"""Of one text file or of stdin: ten times what the longest context of the shipped fleet can hold."""

STDIN = "-"


@dataclass(frozen=True, slots=True)
class TaskInput:
    """What the command line says about a task."""

    words: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    model: str | None = None
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    timeout_s: float | None = None
    think: bool | None = None

    def request(self) -> RouteRequest:
        """Reads the files and, where it is asked for, stdin. Raises InvalidRequest or UsageError."""
        from msgspec.structs import replace

        from llm_router.request import Document, Image, RouteRequest

        images = [Image.from_file(path) for path in self.images]
        words = self._text(has_images=bool(images))
        options: dict[str, Json] = {}
        if self.max_tokens is not None:
            options["num_predict"] = self.max_tokens
        if self.temperature is not None:
            options["temperature"] = self.temperature
        request = RouteRequest.from_text(
            words,
            images=images,
            documents=[Document(path.name, _file_text(path)) for path in self.files],
            model=_clean(self.model, "--model"),
            options=options,
            system=_clean(self.system, "--system"),
        )
        return replace(request, think=self.think, timeout_s=self.timeout_s)

    def _text(self, *, has_images: bool) -> str:
        if self.words:
            told = " ".join(_clean(word, "the text") or "" for word in self.words if word != STDIN)
            piped = [_stdin_text()] if STDIN in self.words else []
            return "\n\n".join(part for part in (told, *piped) if part)
        if self.files or has_images:
            return ""
        if sys.stdin is not None and not sys.stdin.isatty():
            return _stdin_text()
        raise UsageError(
            "no task given", hint="write it after the command, in quotes, or pipe it in: … | llm-router ask"
        )


def task_options(command: F) -> F:
    """The arguments that say what the task is, for every command that takes one."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: Sequence[Callable[[Any], Any]] = (
    click.argument("words", metavar="TEXT…", nargs=-1),
    click.option(
        "--image",
        "images",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="PATH",
        help="Picture that belongs to the task (PNG, JPEG, WebP, GIF, BMP); may be given several times.",
    ),
    click.option(
        "--file",
        "files",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="PATH",
        help="Text file that belongs to the task; may be given several times.",
    ),
    click.option("--model", metavar="NAME", help="Ask for this model instead of letting the router choose."),
    click.option("--system", metavar="TEXT", help="System message: how the model should behave."),
    click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Longest answer, in tokens."),
    click.option(
        "--temperature", type=click.FloatRange(min=0), metavar="X", help="0 is the most predictable."
    ),
    click.option(
        "--timeout-s",
        type=click.FloatRange(min=0, min_open=True),
        metavar="S",
        help="Seconds that all of it may take; models that are expected to need longer come last.",
    ),
)


def _stdin_text() -> str:
    return _decoded(sys.stdin.buffer.read(MAX_TEXT_BYTES + 1), "stdin")


def _file_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(
            f"cannot read {path}", why=error.strerror or str(error), hint="check the path after --file"
        ) from error
    return _decoded(data, str(path))


def _decoded(data: bytes, name: str) -> str:
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidRequest(
            f"cannot use {name}",
            why=f"it has more than {MAX_TEXT_BYTES / 1e6:.0f} MB of text",
            hint="no model of the fleet reads that much at once; send the part that matters",
        )
    if b"\0" in data:
        raise InvalidRequest(
            f"cannot use {name}", why="it is not a text file", hint="for pictures use --image"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidRequest(
            f"cannot use {name}",
            why=f"line {line} is not UTF-8 (byte 0x{data[error.start]:02x})",
            hint="save it as UTF-8 first; for pictures use --image",
        ) from error


def _clean(text: str | None, name: str) -> str | None:
    """Python carries bytes of an argument that are not UTF-8 as lone surrogates; no server takes them."""
    if text is not None and not text.isprintable():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"cannot use {name}", why="it is not UTF-8", hint="check the terminal's encoding"
            ) from error
    return text
