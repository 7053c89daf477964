"""What Mission Control is asked: a template that users may replace, filled with a bounded part of a request.

Nothing that comes from a request can leave its place: each of its lines is quoted, and markers of chat
templates in it are broken up, because model servers read them as such wherever they stand.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from llm_router import strict_yaml
from llm_router.errors import ConfigError, nearest
from llm_router.fleet.fleet import Fleet
from llm_router.request import Json, JsonObject, Message, RouteRequest
from llm_router.strict_yaml import Document
from llm_router.tokens import TokenizerFamily

PACKAGED = "mission_control.yaml"

TOP_LOGPROBS = 20
"""As many alternatives per token as Ollama, vLLM and OpenAI's own API give at most."""

_FRAME_TOKENS = 32
"""For what stands around a name: small models put blanks and line breaks wherever JSON allows them."""

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "category": ("category",),
    "example": ("task", "answer"),
    "turn": ("text",),
    "messages": ("categories", "examples", "conversation", "task"),
}
_OPTIONAL: Mapping[str, tuple[str, ...]] = {"category": ("description",), "turn": ("role",)}

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
_MARKER = re.compile(
    r"<(?=\||/?s>|(?:start|end)_of_turn>|/?think>)|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_))"
)
_BLANKS = re.compile(r"[^\S\n]{3,}")
_BLANK_LINES = re.compile(r"\n\s*\n")

Text = Annotated[str, Meta(min_length=1)]


class PromptMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: Literal["system", "user", "assistant"]
    text: Text


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """The template. ``nothing`` stands where there is no example, no conversation or no word of a task."""

    version: Literal[1] = 1
    category: Text
    example: Text
    turn: Text
    nothing: Text = "(nothing)"
    messages: Annotated[tuple[PromptMessage, ...], Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Room:
    """How much of what is shown: examples per category, messages around the task, and their characters."""

    examples: int
    turns: int
    task_characters: int
    turn_characters: int


_ROOMS = (
    Room(8, 6, 1500, 300),
    Room(4, 6, 1500, 300),
    Room(2, 4, 1500, 240),
    Room(1, 4, 1000, 160),
    Room(1, 2, 600, 120),
    Room(0, 2, 400, 80),
    Room(0, 0, 200, 0),
    Room(0, 0, 60, 0),
)
"""Tried in this order until the question fits; the kind of a task is told by its beginning and its end."""

_CONTRASTED = 8
"""Examples per category that are compared with those of its rivals: all of a large file would take long."""


def load_prompt(path: Path | None = None) -> Prompt:
    """The packaged template, or the one at ``path``.

    Raises ConfigError with file and line for an unknown key, a word in braces that means nothing, one that is
    missing, or a last message that is not the user's.
    """
    if path is None:
        text = resources.files("llm_router.data").joinpath(PACKAGED).read_text(encoding="utf-8")
        return _checked(strict_yaml.parse(text, f"{PACKAGED} (shipped)"), text)
    document = strict_yaml.read(path)
    return _checked(document, path.read_text(encoding="utf-8-sig"))


def _checked(document: Document, source: str) -> Prompt:
    if not isinstance(document.values, dict):
        raise document.error("a prompt file is a mapping", hint="begin with: version: 1")
    prompt = strict_yaml.convert(document, document.values, Prompt)
    for key in ("category", "example", "turn"):
        _check_words(document, source, {(key,): getattr(prompt, key)}, key)
    texts: dict[tuple[str | int, ...], str] = {
        ("messages", index, "text"): message.text for index, message in enumerate(prompt.messages)
    }
    _check_words(document, source, texts, "messages")
    if prompt.messages[-1].role != "user":
        last = len(prompt.messages) - 1
        raise document.error(
            f"messages.{last}.role: the last message is not the user's", "messages", last, "role"
        )
    return prompt


def _check_words(
    document: Document, source: str, texts: Mapping[tuple[str | int, ...], str], key: str
) -> None:
    needed, known = _NEEDED[key], (*_NEEDED[key], *_OPTIONAL.get(key, ()))
    found = set()
    for path, text in texts.items():
        for match in _PLACEHOLDER.finditer(text):
            word = match[2]
            if word is not None and word not in known:
                raise ConfigError(
                    f"{'.'.join(map(str, path))}: nothing is known to fill in for {{{word}}}",
                    hint=nearest(word, known) or f"known here: {', '.join(known)}; {{{{{word}}}}} writes it",
                    path=document.path,
                    line=_line_of(match[0], document.line(*path), source),
                )
            found.add(word)
    for word in needed:
        if word not in found:
            raise document.error(
                f"{key}: the word {{{word}}} is missing",
                key,
                why="without it Mission Control would not be told what it must know",
                hint=f"write {{{word}}} where it belongs",
            )


def _line_of(placeholder: str, begin: int | None, source: str) -> int | None:
    """Where a word stands in the file, below the key that it belongs to."""
    if begin is None:
        return None
    for number, line in enumerate(source.splitlines()[begin - 1 :], begin):
        if placeholder in line:
            return number
    return begin


def question(
    prompt: Prompt,
    fleet: Fleet,
    request: RouteRequest,
    candidates: Sequence[str],
    *,
    examples: int,
    limit_tokens: int,
    tokenizer: TokenizerFamily = "large",
) -> RouteRequest:
    """The request to send: as much as fits into ``limit_tokens``, its answer bound to ``candidates``.

    At most ``examples`` of each category are shown. Categories stand in the fleet's order: their order must
    not tell what the encoder thinks, or its opinion would count twice.
    """
    names = [name for name in fleet.categories if name in set(candidates)]
    answer_tokens = _FRAME_TOKENS + max(len(name.encode()) for name in names)
    options: dict[str, Json] = {"temperature": 0, "seed": 0, "num_predict": answer_tokens}
    listing = "\n".join(
        _filled(prompt.category, {"category": name, "description": fleet.categories[name].description})
        for name in names
    )
    ranked = _ranked_examples(fleet, names, request.task, examples)
    for room in _ROOMS:
        shown = _in_rounds({name: texts[: room.examples] for name, texts in ranked.items()})
        messages = _messages(prompt, request, listing, shown, room)
        asked = RouteRequest(messages=messages, response_format=_schema(names), options=options)
        if asked.estimate(tokenizer).high + answer_tokens <= limit_tokens:
            break
    return asked


def _schema(names: Sequence[str]) -> JsonObject:
    options: list[Json] = list(names)
    return {
        "type": "object",
        "properties": {"category": {"type": "string", "enum": options}},
        "required": ["category"],
        "additionalProperties": False,
    }


def _messages(
    prompt: Prompt, request: RouteRequest, listing: str, examples: Sequence[tuple[str, str]], room: Room
) -> tuple[Message, ...]:
    task = _sample(request.task, room.task_characters)
    blocks = (
        _filled(prompt.example, {"task": quoted(text), "answer": _answer(name)}).rstrip("\n")
        for name, text in examples
    )
    turns = (
        _filled(prompt.turn, {"role": role, "text": quoted(text)}).rstrip("\n")
        for role, text in _turns(request, room)
    )
    values = {
        "categories": listing,
        "examples": "\n".join(blocks) or prompt.nothing,
        "conversation": "\n".join(turns) or prompt.nothing,
        "task": "\n".join(filter(None, (quoted(task) or prompt.nothing, *_attachments(request)))),
    }
    return tuple(Message(m.role, _filled(m.text, values).rstrip("\n")) for m in prompt.messages)


def _answer(name: str) -> str:
    return f'{{"category": {msgspec.json.encode(name).decode()}}}'


def _filled(template: str, values: Mapping[str, str]) -> str:
    """One pass, so that braces inside a value stay what they are."""
    return _PLACEHOLDER.sub(lambda m: f"{{{m[1]}}}" if m[1] is not None else values[m[2]], template)


def quoted(text: str) -> str:
    """The text with ``> `` before each of its lines, without anything that a chat template could mean."""
    clean = text.encode("utf-8", "replace").decode()
    clean = "".join(
        c if c.isprintable() or c in "\n\t" else "\n" if c in "\r\v\f\x85\u2028\u2029" else " " for c in clean
    )
    return "\n".join(f"> {line}" for line in _MARKER.sub(r"\g<0> ", clean).split("\n")) if clean else ""


def _sample(text: str, characters: int) -> str:
    """Beginning and end of a long text; long runs of blanks say nothing and take room."""
    text = text.strip()
    if len(text) > 4 * characters:  # never work on a whole book
        text = f"{text[: 2 * characters]}\n{text[-2 * characters :]}"
    text = _BLANK_LINES.sub("\n", _BLANKS.sub("  ", text))
    if len(text) <= characters:
        return text
    half = characters // 2
    return f"{text[:half]}\n[…]\n{text[-half:]}"


def _turns(request: RouteRequest, room: Room) -> Iterator[tuple[str, str]]:
    """The last messages around the task, oldest first, each marked with who said it."""
    users = [(n, m) for n, m in enumerate(request.messages) if m.role == "user"]
    asks = [n for n, m in users if request.task in (m.judged, m.text)]
    around = [m for n, m in enumerate(request.messages) if n not in asks[-1:]]
    for message in around[-room.turns :] if room.turns else ():
        parts = [_sample(message.text, room.turn_characters)]
        if message.images:
            parts.append(f"[{_counted(len(message.images), 'image')}]")
        parts += [f"[calls {call.name[:40]}]" for call in message.tool_calls[:3]]
        text = "\n".join(part for part in parts if part)
        if text:
            yield message.role, text


def _attachments(request: RouteRequest) -> Iterator[str]:
    if request.images:
        yield f"[with {_counted(len(request.images), 'image')}]"
    if request.tools:
        yield f"[with {_counted(len(request.tools), 'tool')} to call]"
    if request.wants_schema:
        yield "[the answer must follow a JSON schema]"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def chosen_examples(
    fleet: Fleet, names: Sequence[str], task: str, per_category: int
) -> list[tuple[str, str]]:
    """(category, example), one round of the categories after the other.

    Of each category those come first that are like the task and unlike the examples of the other categories:
    they show where the border runs that this task lies near.
    """
    return _in_rounds(_ranked_examples(fleet, names, task, per_category))


def _in_rounds(ranked: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    rounds = itertools.zip_longest(*([(name, text) for text in texts] for name, texts in ranked.items()))
    return [pair for group in rounds for pair in group if pair is not None]


def _ranked_examples(
    fleet: Fleet, names: Sequence[str], task: str, per_category: int
) -> dict[str, list[str]]:
    if not per_category:
        return {}
    wanted = _grams(_sample(task, 1500))  # not kept: texts of requests are remembered nowhere
    near = {
        name: sorted(
            fleet.categories[name].examples, key=lambda text: -_likeness(wanted, _example_grams(text))
        )[:_CONTRASTED]
        for name in names
    }

    def rank(name: str) -> list[str]:
        rivals = [text for other in names if other != name for text in near[other]]
        return sorted(near[name], key=lambda text: -_contrast(text, wanted, rivals))[:per_category]

    return {name: rank(name) for name in names}


def _contrast(text: str, wanted: frozenset[str], rivals: Sequence[str]) -> float:
    nearest_rival = max((_likeness_of_examples(text, rival) for rival in rivals), default=0.0)
    return _likeness(wanted, _example_grams(text)) - 0.5 * nearest_rival


@functools.lru_cache(maxsize=1 << 15)
def _likeness_of_examples(left: str, right: str) -> float:
    return _likeness(_example_grams(left), _example_grams(right))


@functools.lru_cache(maxsize=4096)
def _example_grams(text: str) -> frozenset[str]:
    return _grams(text)


def _grams(text: str) -> frozenset[str]:
    """Pieces of three characters; of two in scripts whose words are short."""
    text = f" {' '.join(text.lower().split())} "
    pairs = {text[i : i + 2] for i in range(len(text) - 1) if not text[i : i + 2].isascii()}
    return frozenset(pairs | {text[i : i + 3] for i in range(len(text) - 2)})


def _likeness(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / math.sqrt(len(left) * len(right)) if left and right else 0.0
