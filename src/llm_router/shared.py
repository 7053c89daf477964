"""One Router per configuration for the life of the process, for callers that come and go.

``DynamicModelFlow()`` and ``run_router`` use it, so that an instance per request costs milliseconds and what
was learned about hosts is kept. A Router whose configuration was changed, or is not asked for any more, is
closed once nobody holds it and its calls are done; everything else is closed when the interpreter exits.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_router import assembly
from llm_router.config import Settings
from llm_router.fleet import Fleet
from llm_router.sync import SyncRouter


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes two callers share; the process is part of it because threads do not survive a fork."""

    process: int
    settings: Settings
    fleet: Fleet | None
    files: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class _Caller:
    """What a caller asked for, in its own words: where it leads to another key, something was changed."""

    settings: Settings | None
    fleet: Fleet | None


KEPT = 4
"""So many Routers, the last ones asked for, stay open although nobody holds them."""

_recent: list[tuple[_Caller, SyncRouter]] = []
_known: list[tuple[_Key, weakref.ref[SyncRouter]]] = []
_lock = threading.Lock()


def shared_router(*, settings: Settings | None = None, fleet: Fleet | None = None) -> SyncRouter:
    """The process's Router for these settings (None: the user's) and this fleet (None: that of the settings).

    Settings of the user or a fleet file that were changed give a new one. Raises ConfigError.
    """
    caller = _Caller(settings, fleet)
    settings = settings if settings is not None else assembly.settings_of_the_user()
    key = _Key(os.getpid(), settings, fleet, () if fleet is not None else _stamps(settings.fleet))
    with _lock:
        router = next((made for known, made in _alive() if known == key), None)
        if router is None:
            if not _known:
                atexit.register(close_shared)
            router = SyncRouter(fleet=fleet, settings=settings)
            _known[:] = [entry for entry in _known if entry[1]() is not None]
            _known.append((key, weakref.ref(router)))
        others = [(who, kept) for who, kept in _recent if who != caller and kept is not router]
        _recent[:] = [(caller, router), *others][:KEPT]
        return router


def close_shared() -> None:
    """Closes them all; the next caller gets a new one."""
    with _lock:
        mine = [router for key, router in _alive() if key.process == os.getpid()]
        _known.clear()
        _recent.clear()
        atexit.unregister(close_shared)
    for router in mine:
        router.close()


def _alive() -> list[tuple[_Key, SyncRouter]]:
    """A Router that fell out of ``_recent`` is still shared while somebody holds it."""
    found = ((key, made()) for key, made in _known)
    return [(key, router) for key, router in found if router is not None]


def _stamps(paths: Sequence[str]) -> tuple[tuple[str, int], ...]:
    stamps = []
    for name in paths:
        path = Path(name).expanduser()
        stamps.append((str(path), path.stat().st_mtime_ns if path.exists() else 0))
    return tuple(stamps)
