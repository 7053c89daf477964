"""Labelled cases to measure a router with, and the requests they stand for.

A file holds one JSON object per line, in any of four forms, mixed as you like:

    {"task": …, "accept": [best, also fine], "images": 1, "tools": 2, "kind": "chat", "context_tokens": 9000}
    {"text": …, "category": …, "also": …, "lang": "ko"}
    {"messages": [{"role": "user", "text": …, "images": 1}, …], "category": …}
    {"en": …, "ko": …, "category": …}          the same request in two languages: two cases

Fields that a form does not know are passed over: sources, templates and notes may stay in the file.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from llm_router.bodies import request_from_body
from llm_router.errors import InvalidRequest
from llm_router.learn.case_bodies import Said, body_of
from llm_router.request import RouteRequest

ORIGINAL: Final = "orig"

LONG_TOKENS = 9000
"""From this size on a document is evidence of its own; such a case is not counted as text only."""

_Count = Annotated[int, Meta(ge=0, le=64)]
_Tokens = Annotated[int, Meta(ge=0, le=2_000_000)]
_Kind = Literal["chat", "embedding"]


class CaseError(InvalidRequest):
    """A line that is no case; the message begins with ``file:line``."""

    code = "invalid_case"


@dataclass(frozen=True, slots=True)
class Case:
    """One request and the categories that are right for it, the best first.

    ``conversation`` holds everything that is said; the last user turn is the task. ``variant_of`` is the id
    of the case whose answer this one should share, ``pair`` what the two languages of one request have in
    common; both are empty where there is no such thing.
    """

    id: str
    line: int
    conversation: tuple[Said, ...]
    accept: tuple[str, ...]
    tools: int = 0
    kind: _Kind = "chat"
    context_tokens: int = 0
    variant: str = ORIGINAL
    variant_of: str = ""
    pair: str = ""
    lang: str = "en"
    source: str = ""
    group: str = ""

    @property
    def primary(self) -> str:
        """The best of the acceptable categories."""
        return self.accept[0]

    @property
    def task(self) -> str:
        """The words of the last user turn."""
        return next((s.text for s in reversed(self.conversation) if s.role == "user"), "")

    @property
    def images(self) -> int:
        return sum(said.images for said in self.conversation)

    @property
    def is_original(self) -> bool:
        return self.variant == ORIGINAL

    @property
    def is_text_only(self) -> bool:
        """Nothing but words tells what is wanted: no image, tool, embedding call or long document."""
        plain = not self.images and not self.tools and self.kind == "chat"
        return plain and self.context_tokens < LONG_TOKENS

    def request(self) -> RouteRequest:
        """The request as an API would have received it: pictures attached, documents at their true size."""
        return request_from_body(
            body_of(self.conversation, tools=self.tools, kind=self.kind, context_tokens=self.context_tokens)
        )


class _Turn(msgspec.Struct, frozen=True):
    role: Literal["system", "user", "assistant", "tool"] = "user"
    text: str = ""
    images: _Count = 0


class _Line(msgspec.Struct, frozen=True):
    """Every field of the four forms; what a line has says which form it is."""

    id: str = ""
    task: str | None = None
    text: str | None = None
    messages: tuple[_Turn, ...] | None = None
    en: str | None = None
    ko: str | None = None
    category: str = ""
    also: str | tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    primary: str = ""
    images: _Count = 0
    picture: bool = False
    tools: _Count = 0
    kind: _Kind = "chat"
    context_tokens: _Tokens = 0
    variant: str = ORIGINAL
    variant_of: str = ""
    lang: str = "en"
    source: str = ""
    group: str = ""

    @property
    def pictures(self) -> int:
        return self.images or int(self.picture)

    def accepted(self) -> tuple[str, ...]:
        """Acceptable categories without repetition, the best first."""
        others = (self.also,) if isinstance(self.also, str) else self.also
        named = (self.primary, *self.accept) if self.accept else (self.category, *others)
        return tuple(dict.fromkeys(name for name in named if name))


_decoder = msgspec.json.Decoder(_Line)


def read_cases(name: str, *, korean: str | None = None) -> tuple[Case, ...]:
    """All cases of the file ``name`` (``-`` is stdin), in order.

    ``korean`` is the fleet's category for Korean, if it has one: in a pair of languages it is right for the
    Korean side as well. Raises CaseError with file and line for the first line that is no case, and
    InvalidRequest where the file cannot be read or holds none.
    """
    shown = "stdin" if name == "-" else name
    cases: list[Case] = []
    lines: dict[str, int] = {}
    for number, text in enumerate(_lines(name), start=1):
        if not text.strip():
            continue
        try:
            found = list(_cases(_decoder.decode(text), number, korean))
            for case in found:
                case.request()
        except msgspec.MsgspecError as error:
            raise _broken(shown, number, str(error).replace("`", "'")) from error
        except UnicodeDecodeError as error:
            raise _broken(shown, number, "it is not UTF-8") from error
        except InvalidRequest as error:
            raise _broken(shown, number, str(error)) from error
        cases += (_distinct(case, lines, shown) for case in found)
    if not cases:
        raise InvalidRequest(f"no cases in {shown}", why="it has no line", hint="one JSON object per line")
    return tuple(cases)


def _lines(name: str) -> Iterable[bytes]:
    if name == "-":
        return sys.stdin.buffer.read().split(b"\n")
    try:
        return Path(name).expanduser().read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise InvalidRequest(
            f"cannot read {name}", why=error.strerror or str(error), hint="check the path of the cases"
        ) from error


def _broken(shown: str, number: int, why: str) -> CaseError:
    return CaseError(
        f"{shown}:{number}: this line is no case",
        why=why,
        hint='a case is {"text": …, "category": …}; the other forms: llm-router eval --help',
    )


def _cases(line: _Line, number: int, korean: str | None) -> Iterator[Case]:
    accept = line.accepted()
    if not accept:
        raise InvalidRequest("no category is given", why="neither accept nor category names one")
    case = Case(
        id=line.id,
        line=number,
        conversation=(),
        accept=accept,
        tools=line.tools,
        kind=line.kind,
        context_tokens=line.context_tokens,
        variant=line.variant,
        variant_of=line.variant_of,
        lang=line.lang.split(":")[0] or "en",
        source=line.source,
        group=line.group,
    )
    if line.en is not None and line.ko is not None:
        yield from _pair(case, line, korean)
    elif line.messages is not None:
        said = tuple(Said(turn.role, turn.text, turn.images) for turn in line.messages)
        yield replace(case, conversation=said)
    else:
        text = line.task if line.task is not None else line.text
        if text is None:
            raise InvalidRequest("nothing is asked", why="none of task, text, messages, or en with ko")
        yield replace(case, conversation=(Said("user", text, line.pictures),))


def _pair(case: Case, line: _Line, korean: str | None) -> Iterator[Case]:
    """Both languages of one request; Korean words may also go to the category for Korean."""
    name = line.id or _name(case.primary, f"{line.en}\n{line.ko}")
    bound = line.pictures or line.tools or line.kind != "chat"
    both = case.accept if bound or korean is None else tuple(dict.fromkeys((korean, *case.accept)))
    for lang, text, accept in (("en", line.en, case.accept), ("ko", line.ko, both)):
        said = (Said("user", text or "", line.pictures),)
        yield replace(case, id=f"{name}:{lang}", conversation=said, accept=accept, pair=name, lang=lang)


def _distinct(case: Case, lines: dict[str, int], shown: str) -> Case:
    """Gives a case without an id one that stays the same when lines move; refuses an id that is taken."""
    if not case.id:
        whole = "\n".join(f"{s.role} {s.images} {s.text}" for s in case.conversation)
        name = _name(case.primary, f"{whole}\n{case.tools} {case.kind} {case.context_tokens}")
        case = replace(case, id=name)
        while case.id in lines:
            count = int(case.id.rpartition("~")[2]) if "~" in case.id else 1
            case = replace(case, id=f"{name}~{count + 1}")
    if case.id in lines:
        raise CaseError(
            f"{shown}:{case.line}: the id {case.id!r} is taken",
            why=f"line {lines[case.id]} has it",
            hint="give each case an id of its own, or none",
        )
    lines[case.id] = case.line
    return case


def _name(category: str, content: str) -> str:
    return f"{category}-{hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"
