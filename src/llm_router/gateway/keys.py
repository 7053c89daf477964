"""API keys: who calls, what that caller may use, and how much at once.

A file of keys holds hashes only. Keys are 256 random bits, so one round of SHA-256 is enough to keep them:
there is nothing to guess. Without a file everyone who reaches the gateway may do everything, as with Ollama.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from llm_router import strict_yaml
from llm_router.decision import Decision
from llm_router.errors import ConfigError
from llm_router.gateway.refusals import NoKey, NotAllowed, TooMany
from llm_router.names import canonical
from llm_router.request import RouteRequest

PREFIX = "lr-"


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One key. Empty lists and None set no limit."""

    name: Annotated[str, Meta(min_length=1, description="who it belongs to, as records and metrics show it")]
    hash: Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$", description="written by: llm-router keys add")]
    models: Annotated[tuple[str, ...], Meta(description="models it may be answered by")] = ()
    categories: Annotated[tuple[str, ...], Meta(description="kinds of task it may ask for")] = ()
    requests_per_minute: Annotated[int, Meta(ge=1, description="requests in any minute")] | None = None
    concurrent: Annotated[int, Meta(ge=1, description="requests at once")] | None = None
    admin: Annotated[
        bool, Meta(description="may also pull and delete models, and read metrics and records")
    ] = False


class KeysFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds."""

    keys: Annotated[tuple[KeyEntry, ...], Meta(description="every key that is accepted")] = ()


def load_keys(path: Path) -> KeysFile:
    """Raises ConfigError with file and line."""
    document = strict_yaml.read(path)
    file = strict_yaml.convert(document, document.values or {}, KeysFile)
    names = [entry.name for entry in file.keys]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"two keys are called {twice}",
            why="records could not tell them apart",
            path=path,
            hint="rename one",
        )
    return file


def new_key() -> tuple[str, str]:
    """(the key, its hash for the file). The key is shown once and kept nowhere."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, hash_of(key)


def hash_of(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


class Caller:
    """Who calls. Without an entry: anyone, who may do everything."""

    __slots__ = ("_clock_s", "_models", "_recent_s", "entry", "running")

    def __init__(self, entry: KeyEntry | None = None, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.entry = entry
        self.running = 0
        self._clock_s = clock_s
        self._recent_s: list[float] = []
        self._models = frozenset(map(canonical, entry.models)) if entry is not None else frozenset()

    @property
    def name(self) -> str:
        return self.entry.name if self.entry is not None else ""

    @property
    def admin(self) -> bool:
        return self.entry is None or self.entry.admin

    def one_more(self) -> Caller:
        """Counts one request, as a context. Raises TooMany."""
        entry = self.entry
        if entry is None:
            return self
        if entry.concurrent is not None and self.running >= entry.concurrent:
            raise TooMany(
                f"{entry.name} has {self.running} requests under way",
                why=f"this key may have {entry.concurrent} at once",
                hint="wait for one to end",
                retry_after_s=1,
            )
        if entry.requests_per_minute is not None:
            self._count(entry.requests_per_minute)
        return self

    def _count(self, limit: int) -> None:
        now_s = self._clock_s()
        self._recent_s = [at_s for at_s in self._recent_s if now_s - at_s < 60]
        if len(self._recent_s) >= limit:
            wait_s = 60 - (now_s - self._recent_s[0])
            raise TooMany(
                f"{self.name} has asked {limit} times in the last minute",
                why=f"this key may ask {limit} times a minute",
                hint=f"come back in {wait_s:.0f} s",
                retry_after_s=max(1, round(wait_s)),
            )
        self._recent_s.append(now_s)

    def __enter__(self) -> None:
        self.running += 1

    def __exit__(self, *_: object) -> None:
        self.running -= 1

    def may_ask(self, request: RouteRequest) -> None:
        """Raises NotAllowed for a model that this key may not name."""
        if request.model is not None:
            self.may_use(request.model)

    def may_use(self, model: str) -> None:
        """The same for a name."""
        if not self.has_model(model):
            raise NotAllowed(
                f"{self.name} may not use {model[:80]}",
                why="it is not among the models of this key",
                hint=f"use one of {', '.join(sorted(self.entry.models if self.entry else ()))}, or auto",
            )

    @property
    def limited(self) -> bool:
        """Whether its key has models or categories of its own."""
        return bool(self._models or (self.entry is not None and self.entry.categories))

    def has_model(self, model: str) -> bool:
        """Whether the models of its key, if it has such, contain this one."""
        return not self._models or canonical(model) in self._models

    def has_category(self, category: str) -> bool:
        """The same for kinds of task."""
        return self.entry is None or not self.entry.categories or category in self.entry.categories

    def allowed(self, decision: Decision) -> Decision:
        """The decision without the models that this key may not use. Raises NotAllowed where none is left."""
        entry = self.entry
        if entry is None or not self.limited:
            return decision
        if not self.has_category(decision.category):
            raise NotAllowed(
                f"{entry.name} may not ask for {decision.category} tasks",
                why=f"this key may ask for {', '.join(entry.categories)}",
                hint="ask for something else, or use another key",
            )
        if not self._models:
            return decision
        chain = tuple(c for c in decision.chain if self.has_model(c.model))
        if decision.chain and not chain:
            raise NotAllowed(
                f"no model that {entry.name} may use can take this {decision.category} task",
                why=f"it would be answered by {', '.join(c.model for c in decision.chain[:3])}",
                hint="ask for something else, or use another key",
            )
        return decision.with_chain(chain)


ANYONE = Caller()


class Keys:
    """All keys. ``required`` says whether a caller must have one."""

    def __init__(self, entries: Sequence[KeyEntry] = (), *, required: bool | None = None) -> None:
        self.required = bool(entries) if required is None else required
        self._callers = [(entry.hash.encode(), Caller(entry)) for entry in entries]

    def __len__(self) -> int:
        return len(self._callers)

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Whose request it is, by ``Authorization: Bearer`` or ``x-api-key``. Raises NoKey."""
        if not self.required:
            return ANYONE
        given = _given(headers)
        if not given:
            raise NoKey("no API key", why="this gateway asks for one", hint="send Authorization: Bearer KEY")
        digest = hash_of(given).encode()
        found: Caller | None = None
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        if found is None:
            raise NoKey("unknown API key", why="it is not in the file of keys", hint="ask for a new one")
        return found

    def admin(self, headers: Mapping[str, str]) -> Caller:
        """The same for what only an admin may do. Raises NotAllowed."""
        caller = self.caller(headers)
        if not caller.admin:
            raise NotAllowed(
                f"{caller.name} may not do this",
                why="its key is for answers only",
                hint="use a key with admin: true",
            )
        return caller


def _given(headers: Mapping[str, str]) -> str:
    authorization = headers.get("authorization", "")
    kind, _, token = authorization.partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip()
