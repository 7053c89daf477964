"""One Router per configuration for the life of the process, for callers that come and go.

``DynamicModelFlow()`` and ``run_router`` use it, so that an instance per request costs milliseconds and what
was learned about hosts is kept. Everything is closed when the interpreter exits.
"""

from __future__ import annotations

import atexit
import os
import threading
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


_kept: list[tuple[_Key, SyncRouter]] = []
_lock = threading.Lock()


def shared_router(*, settings: Settings | None = None, fleet: Fleet | None = None) -> SyncRouter:
    """The process's Router for these settings (None: the user's) and this fleet (None: that of the settings).

    A fleet file that was changed gives a new one. Raises ConfigError.
    """
    settings = settings if settings is not None else assembly.settings_of_the_user()
    key = _Key(os.getpid(), settings, fleet, () if fleet is not None else _stamps(settings.fleet))
    with _lock:
        for known, router in _kept:
            if known == key:
                return router
        if not _kept:
            atexit.register(close_shared)
        router = SyncRouter(fleet=fleet, settings=settings)
        _kept.append((key, router))
        return router


def close_shared() -> None:
    """Closes them all; the next caller gets a new one."""
    with _lock:
        mine = [router for key, router in _kept if key.process == os.getpid()]
        _kept.clear()
        atexit.unregister(close_shared)
    for router in mine:
        router.close()


def _stamps(paths: Sequence[str]) -> tuple[tuple[str, int], ...]:
    stamps = []
    for name in paths:
        path = Path(name).expanduser()
        stamps.append((str(path), path.stat().st_mtime_ns if path.exists() else 0))
    return tuple(stamps)
