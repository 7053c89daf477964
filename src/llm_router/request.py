"""What arrived: one value for every way a task can be asked.

A ``RouteRequest`` comes from plain text (``RouteRequest.from_text``) or from an OpenAI or Ollama body
(``llm_router.bodies``). It keeps the whole conversation, and it is all that classification, policy and
providers ever see of a caller.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct, field
from msgspec.structs import force_setattr

from llm_router.errors import InvalidRequest
from llm_router.names import Wish, wish_of
from llm_router.once import once
from llm_router.tokens import TokenEstimate, TokenizerFamily, estimates

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"
Role = Literal["system", "user", "assistant", "tool"]

MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""Larger images are refused: base64 makes 27 MB of them, and every vision model scales them down anyway."""

IMAGE_TOKENS = 1600
"""Planned tokens per image. LLaVA 1.5 spends 576, LLaVA 1.6 up to 2880, Llama 3.2 Vision about 1600."""

MESSAGE_OVERHEAD_TOKENS = 6
"""Role markers that chat templates put around each message; 3 to 8 in the templates of the shipped fleet."""

_IMAGE_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}


RELOADING_OPTIONS = frozenset(
    {
        "draft_num_predict",
        "f16_kv",
        "logits_all",
        "low_vram",
        "main_gpu",
        "num_batch",
        "num_gpu",
        "num_thread",
        "numa",
        "use_mlock",
        "use_mmap",
        "vocab_only",
    }
)
"""Options of a request that never reach a server, beside ``num_ctx``, which the fleet sets.

They belong to how a model is loaded. Ollama compares them with those of the loaded model and loads it anew
where one differs (``needsReload`` in its ``server/sched.go``): tens of seconds, for every other caller too.
Some of these names only older versions know.
"""

_OptionKind = Literal["a whole number", "a number", "true or false", "a text or a list of texts"]

_WHOLE_NUMBERS = (
    *("num_predict", "num_ctx", "num_keep", "top_k", "repeat_last_n", "seed", "top_logprobs", "mirostat"),
    *("num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict"),
)
_NUMBERS = (
    *("temperature", "top_p", "min_p", "typical_p", "tfs_z", "mirostat_tau", "mirostat_eta"),
    *("repeat_penalty", "presence_penalty", "frequency_penalty"),
)
_SWITCHES = ("logprobs", "use_mmap", "use_mlock", "numa", "low_vram", "penalize_newline")

_OPTION_KINDS: Mapping[str, _OptionKind] = {
    **dict.fromkeys(_WHOLE_NUMBERS, "a whole number"),
    **dict.fromkeys(_NUMBERS, "a number"),
    **dict.fromkeys(_SWITCHES, "true or false"),
    "stop": "a text or a list of texts",
}
"""What each option must be. Names that are not here pass as they are: new versions bring new ones."""

_LARGEST_WHOLE = 2**63 - 1


class ApiKind(StrEnum):
    """Which kind of call it is; an embedding call can only be answered by an embedder."""

    CHAT = "chat"
    GENERATE = "generate"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Image:
    """One picture: its media type and its bytes as base64 text, the form both APIs carry."""

    media_type: str
    base64: str

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str = "the image") -> Image:
        """Checks size and signature. Raises InvalidRequest for an empty, too large or foreign file."""
        if not data:
            raise InvalidRequest(
                f"cannot use {name}", why="it is empty", hint="check that the picture was written whole"
            )
        if len(data) > MAX_IMAGE_BYTES:
            raise InvalidRequest(
                f"cannot use {name}",
                why=f"it has {len(data) / 1e6:.0f} MB, the limit is {MAX_IMAGE_BYTES / 1e6:.0f} MB",
                hint="scale it down; vision models work on about 1 megapixel",
            )
        return cls(_media_type(data, name), base64.b64encode(data).decode("ascii"))

    @classmethod
    def from_file(cls, path: Path) -> Image:
        """Raises InvalidRequest where the file cannot be read or is no image; reads at most the limit."""
        try:
            size = path.stat().st_size
            if size > MAX_IMAGE_BYTES:
                with path.open("rb") as file:
                    head = file.read(16)
                _media_type(head, str(path))
                raise InvalidRequest(
                    f"cannot use {path}",
                    why=f"it has {size / 1e6:.0f} MB, the limit is {MAX_IMAGE_BYTES / 1e6:.0f} MB",
                    hint="scale it down; vision models work on about 1 megapixel",
                )
            return cls.from_bytes(path.read_bytes(), name=str(path))
        except OSError as error:
            raise InvalidRequest(
                f"cannot read {path}", why=error.strerror or str(error), hint="check the image's path"
            ) from error

    @classmethod
    def from_base64(cls, text: str) -> Image:
        """Reads bare base64 (Ollama) or a ``data:`` URL (OpenAI); an http URL is refused, never fetched."""
        if text.startswith(("http://", "https://")):
            raise InvalidRequest(
                "cannot use an image by its web address",
                why="the router never fetches addresses that a request names",
                hint="send the image itself as a data: URL with base64",
            )
        payload = text.partition(",")[2] if text.startswith("data:") else text
        try:
            head = base64.b64decode(payload[:64], validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest(
                "cannot use an image of the request",
                why="it is not base64",
                hint="send bare base64, or a data: URL with base64",
            ) from error
        if len(payload) * 3 // 4 > MAX_IMAGE_BYTES:
            raise InvalidRequest(
                "cannot use an image of the request",
                why=f"it has {len(payload) * 3 / 4e6:.0f} MB, the limit is {MAX_IMAGE_BYTES / 1e6:.0f} MB",
                hint="scale it down; vision models work on about 1 megapixel",
            )
        return cls(_media_type(head, "an image of the request"), payload)


class ToolCall(Struct, frozen=True):
    """A call that a model asked for: the function's name and its arguments."""

    name: str
    arguments: JsonObject
    id: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A text that a task is about. The model is told its name; what kind of task it is, is judged without.

    Raises InvalidRequest where there is nothing but white space: its name alone would pass for a task.
    """

    name: str
    text: str

    def __post_init__(self) -> None:
        if _blank(self.text):
            raise InvalidRequest(
                f"cannot use {self.name}",
                why="it is empty",
                hint="check that the file was written whole, or leave it out",
            )


class Message(Struct, frozen=True):
    """One turn. ``judged`` is what classification reads instead of ``text``; empty: the text itself.

    ``role`` is a ``Role``, or on Ollama's own wire another that a model's template knows, such as Granite's
    ``control``; servers get it under that name.
    ``thinking`` is what the assistant thought in an earlier turn; models that think go on from it.
    """

    role: str
    text: str
    images: tuple[Image, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""
    judged: str = ""
    thinking: str = ""


class Tool(Struct, frozen=True):
    """A function offered to the model; ``parameters`` is its JSON schema."""

    name: str
    description: str = ""
    parameters: JsonObject = field(default_factory=dict)


_fields_decoder = msgspec.json.Decoder(dict[str, Any])

_SERVERS_FIELDS = frozenset(
    {
        *("model", "name", "from", "source", "destination", "messages", "prompt", "input", "suffix"),
        *("system", "template", "context", "images", "tools", "format", "options", "raw", "stream"),
        *("keep_alive", "think", "truncate", "shift", "logprobs", "top_logprobs", "dimensions", "insecure"),
        *("files", "adapters", "parameters", "quantize", "stream_options", "_debug_render_only"),
    }
)


def refuse_lookalikes(fields: Iterable[str]) -> None:
    """Raises InvalidRequest for a field such as ``Model``.

    Here it would be a field without a meaning, while Ollama, which is written in Go, reads it as ``model``,
    and the last of the two counts: past every check that was made of the other.
    """
    for name in fields:
        if name not in _SERVERS_FIELDS and name.casefold() in _SERVERS_FIELDS:
            raise InvalidRequest(
                f"cannot use the field {name[:40]!r}",
                why="some servers would read it as another",
                hint=f"write it {name.casefold()}",
            )


class SentBody:
    """A body as the caller sent it, for servers: nothing in it is lost.

    ``endpoint`` is the path it came to (``/api/chat``, ``/v1/messages``, …), ``stream`` whether the caller
    wants the answer piece by piece and ``known`` the names of the fields that the rest of a ``RouteRequest``
    speaks for. Once the messages were changed ``as_is`` is false: a server of the same wire gets them anew.
    """

    __slots__ = ("_data", "_fields", "as_is", "endpoint", "known", "stream")

    def __init__(
        self, endpoint: str, data: bytes, *, stream: bool, known: Set[str] = frozenset(), as_is: bool = True
    ) -> None:
        self.endpoint = endpoint
        self.stream = stream
        self.known = known
        self.as_is = as_is
        self._data = data
        self._fields: JsonObject | None = None

    @property
    def fields(self) -> JsonObject:
        """Everything that was sent. Not to be changed.

        Raises InvalidRequest where a field that nobody looked at so far cannot be read, or as
        ``refuse_lookalikes`` does.
        """
        if self._fields is None:
            try:
                self._fields = _fields_decoder.decode(self._data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise InvalidRequest(
                    "a field of the body cannot be read", why=str(error), hint="correct it, or leave it out"
                ) from None
            refuse_lookalikes(self._fields)
        return self._fields

    @property
    def unknown(self) -> JsonObject:
        """The fields that this library has no name for."""
        return {name: value for name, value in self.fields.items() if name not in self.known}

    def reworded(self) -> SentBody:
        """The same, after the messages were changed."""
        return SentBody(self.endpoint, self._data, stream=self.stream, known=self.known, as_is=False)


class RouteRequest(Struct, frozen=True, dict=True):
    """One task, however it arrived.

    ``model`` is None when the router shall choose; a virtual name such as ``auto-fast`` becomes None and a
    ``wish``. ``options`` use Ollama's names and units
    (``temperature``, ``num_predict``, ``stop``…), whatever API the request came through; one of the wrong
    kind raises InvalidRequest, and one that is None counts as not given. ``response_format`` is None,
    ``"json"`` or a JSON schema. ``truncate`` allows a server to cut a text to embed that is longer than the
    model's context. ``think`` is None where the caller did not say. ``must_call`` says that one
    of the tools is to be called whatever the task; not every server can be held to that. ``timeout_s`` is how
    many seconds all of it may take, from its arrival to the last word, where that is less than
    ``timeouts.total_s``; who is expected to need longer is asked last. One that is no finite number above 0
    raises InvalidRequest. ``body`` is the whole body where it came over HTTP.
    """

    messages: tuple[Message, ...] = ()
    kind: ApiKind = ApiKind.CHAT
    inputs: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    response_format: Literal["json"] | JsonObject | None = None
    model: str | None = None
    options: Mapping[str, Json] = field(default_factory=dict)
    think: bool | str | None = None
    suffix: str | None = None
    raw: bool = False
    truncate: bool = False
    must_call: bool = False
    dimensions: int | None = None
    session_id: str | None = None
    wish: Wish | None = None
    timeout_s: float | None = None
    body: SentBody | None = None

    def __post_init__(self) -> None:
        if self.kind is ApiKind.EMBEDDING:
            if not self.inputs or not any(text.strip() for text in self.inputs):
                raise InvalidRequest(
                    "nothing to embed", why="the input is empty", hint="send at least one text"
                )
        elif not any(message.images or not _blank(message.text) for message in self.messages):
            raise InvalidRequest("nothing to do", why="the task is empty", hint="say what you want done")
        if self.timeout_s is not None and not (_number(self.timeout_s, whole=False) or 0) > 0:
            raise InvalidRequest(
                "cannot use timeout_s",
                why="it must be a number of seconds above 0",
                hint="leave it out for all the time that timeouts.total_s gives",
            )
        wish = wish_of(self.model) if self.model is not None else None
        if wish is not None:
            force_setattr(self, "model", None)
            if wish.category or wish.prefer:
                force_setattr(self, "wish", wish)
        given: JsonObject = {}  # one of its own, also where the caller's is empty: that may be filled later
        if self.options:
            given = {name: _option(name, value) for name, value in self.options.items() if value is not None}
        force_setattr(self, "options", given)

    @classmethod
    def from_text(
        cls,
        text: str,
        *,
        images: Iterable[Image] = (),
        documents: Iterable[Document] = (),
        model: str | None = None,
        options: Mapping[str, Json] | None = None,
        system: str | None = None,
        session_id: str | None = None,
    ) -> RouteRequest:
        """A single task in words, and the documents it is about after them.

        Raises InvalidRequest where there is nothing but white space.
        """
        before = (Message("system", system),) if system else ()
        attached = tuple(documents)
        whole = _paragraphs(text, (f"File {document.name}:\n{document.text}" for document in attached))
        judged = _paragraphs(text, map(_unnamed, attached)) if attached else ""
        return cls(
            messages=(*before, Message("user", whole, tuple(images), judged=judged)),
            model=model,
            options=dict(options or {}),
            session_id=session_id,
        )

    @once
    def asking(self) -> Message:
        """The message that says what is wanted now: the last one of the user. Not for texts to embed."""
        for message in reversed(self.messages):
            if message.role == "user" and (message.images or not _blank(message.text)):
                return message
        return self.messages[-1]

    @once
    def task(self) -> str:
        """The words by which the task is judged: the last user message, or the texts to embed.

        What a model reads are the messages; they may hold more, such as the names of attached files.
        """
        if self.kind is ApiKind.EMBEDDING:
            return "\n".join(self.inputs)
        return self.asking.judged or self.asking.text

    @property
    def prompt(self) -> str:
        """The task as a model reads it where it is given one text and no conversation."""
        return self.task if self.kind is ApiKind.EMBEDDING else self.asking.text

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text of the request, in order: messages of all roles, or the inputs of an embedding."""
        if self.kind is ApiKind.EMBEDDING:
            return self.inputs
        return tuple([message.text for message in self.messages if message.text])

    @once
    def images(self) -> tuple[Image, ...]:
        found: tuple[Image, ...] = ()
        for message in self.messages:
            if message.images:
                found += message.images
        return found

    @property
    def unknown(self) -> JsonObject:
        """Fields of the body that this library has no name for; servers get them as they are."""
        return self.body.unknown if self.body is not None else {}

    @property
    def wants_schema(self) -> bool:
        return isinstance(self.response_format, dict)

    @property
    def output_limit_tokens(self) -> int | None:
        """The caller's own limit on the answer's length, or None."""
        value = self.options.get("num_predict")
        return value if isinstance(value, int) and value > 0 else None

    def estimate(self, family: TokenizerFamily = "large") -> TokenEstimate:
        """Tokens of everything the model must read, tools, images and template markers included."""
        return self._estimates[family]

    @once
    def _estimates(self) -> dict[TokenizerFamily, TokenEstimate]:
        """Of one text for everything: the bounds of many short texts, added up, would be far too wide."""
        read = [*self.texts]
        for message in self.messages:
            if message.tool_calls:
                read += [f"{call.name} {call.arguments}" for call in message.tool_calls]
        read += map(_tool_text, self.tools)
        read.append(self.suffix or "")
        markers = MESSAGE_OVERHEAD_TOKENS * len(self.messages)
        fixed = markers + IMAGE_TOKENS * len(self.images)
        # What an image costs differs most by model, so the lower bound counts none.
        return {
            family: TokenEstimate(fixed + found.tokens, markers + found.low, fixed + found.high)
            for family, found in estimates("\n".join(read)).items()
        }


def _paragraphs(text: str, more: Iterable[str]) -> str:
    return "\n\n".join(part for part in (text, *more) if part)


def _unnamed(document: Document) -> str:
    return f"Document:\n{document.text}"


def _blank(text: str) -> bool:
    """As ``not text.strip()``, without a copy of a long text."""
    return not text or text.isspace()


def _tool_text(tool: Tool) -> str:
    return f"{tool.name} {tool.description} {tool.parameters}"


def _option(name: str, value: Json) -> Json:
    """The option as its kind is written: whole numbers as int, texts as a list."""
    kind = _OPTION_KINDS.get(name)
    match kind:
        case None:
            return value
        case "true or false" if isinstance(value, bool):
            return value
        case "a text or a list of texts" if isinstance(value, str):
            return [value]
        case "a text or a list of texts" if isinstance(value, list):
            if all(isinstance(text, str) for text in value):
                return value
        case "a whole number" | "a number":
            number = _number(value, whole=kind == "a whole number")
            if number is not None:
                return number
    raise InvalidRequest(
        f"cannot use the option {name}",
        why=f"it must be {kind}, not {_shown(value)}",
        hint="change it, or leave it out",
    )


def _shown(value: Json) -> str:
    """Short enough for an error: a large integer or a long text is only named by its type."""
    return str(value) if isinstance(value, bool | float) else f"this {type(value).__name__}"


def _number(value: Json, *, whole: bool) -> int | float | None:
    """None where it is no number that any server takes: true, text, not finite, beyond 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not (abs(value) <= _LARGEST_WHOLE):
        return None
    if not whole:
        return value
    return int(value) if float(value).is_integer() else None


def _media_type(head: bytes, name: str) -> str:
    for magic, media_type in _IMAGE_MAGIC.items():
        if head.startswith(magic):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    raise InvalidRequest(
        f"cannot use {name}",
        why="it is not a PNG, JPEG, WebP, GIF or BMP image",
        hint="for text files use --file",
    )
