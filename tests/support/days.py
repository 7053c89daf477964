"""A day of requests over hosts that misbehave, and what must hold of it whatever happened.

The fakes run in threads of their own, so that the test's event loop holds nothing but what the router left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llm_router.answer import Answer
from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import LLMRouterError
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.policy.settings import PolicySettings
from llm_router.request import RouteRequest
from llm_router.router import Router
from llm_router.testing.fake_models import GIB, fleet_models
from llm_router.testing.fake_ollama import FakeOllama

LARGE, OTHER = "qwen2.5:72b", "llama3.1:70b"
SMALL, LIGHT, MIDDLE = "mistral:7b", "gemma2:9b", "qwen2.5:14b"
EMBEDDER = "nomic-embed-text"
HERE = (LARGE, OTHER, SMALL, LIGHT, MIDDLE, EMBEDDER)
CHAT_MODELS = HERE[:-1]

MEMORY_GB = 100.0
HANGS_AFTER_S = 60.0
"""A guard against a test that never ends; nothing is concluded from how long anything takes."""


class Clock:
    """The router's steady clock, which a test can move ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.perf_counter() + self.ahead_s


def box(models: Iterable[str] = HERE, *, max_loaded_models: int = 9, **more: Any) -> FakeOllama:
    """A host with 100 GiB on which nothing but the memory limits what is loaded, unless told otherwise."""
    return FakeOllama(
        fleet_models(models), memory_bytes=100 * GIB, max_loaded_models=max_loaded_models, **more
    )


def settings_for(
    *boxes: FakeOllama, prefer: str = "map", failures_until_rest: int = 3, **residency: Any
) -> Settings:
    """The boxes are called ``box0``, ``box1``, … in their order."""
    return Settings(
        hosts=tuple(
            HostSettings(url=box.url, name=f"box{n}", memory_gb=MEMORY_GB) for n, box in enumerate(boxes)
        ),
        routing=RoutingSettings(stand_in="never", failures_until_rest=failures_until_rest),
        policy=PolicySettings(prefer=prefer),  # type: ignore[arg-type]
        residency=ResidencySettings(**residency),
    )


def task(model: str | None, words: str = "hello there") -> RouteRequest:
    return RouteRequest.from_text(words, model=model)


async def no_pause(seconds: float) -> None:
    """In place of the router's pause before it tries once more."""
    del seconds
    await asyncio.sleep(0)


async def ends_of(asking: Sequence[asyncio.Task[Answer]]) -> list[Answer | BaseException]:
    """How each ended: with a whole answer, with one error made for the caller, or by its own leaving."""
    async with asyncio.timeout(HANGS_AFTER_S):
        found = await asyncio.gather(*asking, return_exceptions=True)
    for end in found:
        assert isinstance(end, Answer | LLMRouterError | asyncio.CancelledError), repr(end)
        if isinstance(end, Answer):
            assert end.text.strip()
    return found


async def ask_all(router: Router, requests: Iterable[RouteRequest]) -> list[Answer | BaseException]:
    return await ends_of([asyncio.ensure_future(router.run(request)) for request in requests])


def answers_in(ends: Iterable[Answer | BaseException]) -> list[Answer]:
    return [end for end in ends if isinstance(end, Answer)]


# ── what the box's own books say ─────────────────────────────────────────────────────────────────────────


def loads_of(box: FakeOllama) -> list[str]:
    """Models that came into memory, in order."""
    return [event.model for event in box.loads if event.reason == "load" or event.reason.startswith("reload")]


def check_books(box: FakeOllama, usable_gb: float = MEMORY_GB, others: Container[int] = ()) -> None:
    """One place for each model, the places together within the memory, and Ollama never evicted by itself.

    ``others`` are the numbers of events that other programs caused, of which only what is there follows."""
    sizes = {model.name: model for model in fleet_models(HERE)}
    there: dict[str, float] = {}
    for number, event in enumerate(box.loads):
        model = sizes[event.model]
        size_gb = (model.size_bytes + model.kv_bytes(event.num_ctx)) / 1e9
        if number in others:
            there.pop(event.model, None)
            if event.reason == "load" or event.reason.startswith("reload"):
                there[event.model] = size_gb
            continue
        assert event.reason in ("load", "unload", "expire", "abort", "oom", "died"), event
        if event.reason == "load":
            assert event.model not in there, f"{event.model} was loaded twice: {box.loads}"
            there[event.model] = size_gb
            assert sum(there.values()) <= usable_gb, box.loads
        elif event.reason != "abort":
            there.pop(event.model, None)
    assert set(there) == set(box.resident)


def told_to_load(box: FakeOllama) -> list[str]:
    """Models that the router told it to load, in order: each is one decision of the desk."""
    return [
        request.body["model"]
        for request in box.requests
        if request.path == "/api/generate"
        and request.body.get("keep_alive") != 0
        and not request.body.get("prompt")
    ]


def changes(models: Iterable[str | None]) -> int:
    """How often another model is asked for than just before: the loads of a box that holds a single one."""
    before, found = None, 0
    for model in models:
        found += model != before
        before = model
    return found


async def check_quiet(router: Router, *boxes: FakeOllama) -> None:
    """Nobody waits, nothing is under way, and the plan of the memory is what the boxes say: what is there
    answers without a load, and what is not with one."""
    for name, load in router.loads().items():
        assert load.idle, f"{name}: {load}"
    for number, one in enumerate(boxes):
        await one.until(lambda server: server.in_flight == 0)
        router.look_again(f"box{number}")
    for one in boxes:
        before, there = len(one.loads), one.resident
        for model in there:
            if model != EMBEDDER:
                (end,) = await ask_all(router, [task(model)])
                assert isinstance(end, Answer), end
        assert [event for event in one.loads[before:] if event.model in there] == []


@contextmanager
def nothing_left() -> Iterator[None]:
    """No task of the router is left behind on the loop. A door of aiohttp's has tasks of its own there."""
    before = asyncio.all_tasks()
    yield
    left = [task for task in asyncio.all_tasks() - before if "aiohttp" not in repr(task)]
    assert not left, left
