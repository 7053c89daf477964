"""A fleet with round numbers, so that every time can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llm_router.fleet.fleet import Fleet
from llm_router.fleet.schema import Category, Choice, Machine, Model
from llm_router.simulate.engine import Engine
from llm_router.simulate.ollama_box import BoxSettings, Event, OllamaBox, Work

SIZES_GB = {"a": 10.0, "b": 20.0, "c": 30.0, "d": 40.0, "e": 41.0, "f": 50.0, "huge": 95.0}
"""Each loads in as many seconds as it has GB, reads 100 tokens a second and writes 10."""


def model(size_gb: float, **more: object) -> Model:
    facts: dict[str, object] = {
        "size_gb": size_gb,
        "params": "7B",
        "num_ctx": 4096,
        "kv_kib_per_token": 0,
        "decode_tokens_per_s": 10,
        "prefill_tokens_per_s": 100,
    }
    return Model(**{**facts, **more})  # type: ignore[arg-type]


def fleet(models: dict[str, Model], **categories: tuple[Choice, ...]) -> Fleet:
    first = next(iter(models))
    listed = categories or {"any": (Choice(model=first, quality=0.8),)}
    return Fleet(
        name="round",
        models=models,
        categories={name: Category(description=name, models=them) for name, them in listed.items()},
        default_category=next(iter(listed)),
        machine=Machine(usable_memory_gb=100, load_gb_per_s=1, load_overhead_s=0),
        baseline=first,
    )


@pytest.fixture
def round_fleet() -> Fleet:
    return fleet({name: model(size_gb) for name, size_gb in SIZES_GB.items()})


class Bench:
    """A box, an engine, and a note of when each request got its first token and its last."""

    def __init__(self, fleet: Fleet, settings: BoxSettings) -> None:
        self.engine = Engine()
        self.box = OllamaBox(self.engine, fleet, settings)
        self.first_s: dict[str, float] = {}
        self.done_s: dict[str, float] = {}

    def ask(
        self,
        name: str,
        model: str,
        at_s: float = 0.0,
        *,
        read: int = 100,
        write: int = 10,
        think: int = 0,
        conversation: str = "",
        keep_alive_s: float | None = None,
    ) -> None:
        """With the defaults: one second to read, one to write."""

        def first() -> None:
            self.first_s[name] = round(self.engine.now_s, 6)

        def done() -> None:
            assert name not in self.done_s, f"{name} was answered twice"
            self.done_s[name] = round(self.engine.now_s, 6)

        work = Work(model, read, write, think, conversation, keep_alive_s, first, done)
        self.engine.at(at_s, lambda: self.box.submit(work))

    def call(self, at_s: float, action: Callable[[], None]) -> None:
        self.engine.at(at_s, action)

    def run(self, until_s: float | None = None) -> dict[str, float]:
        self.engine.run(until_s)
        return self.done_s

    def events(self, *wanted: str) -> list[tuple[float, str, str]]:
        return [(round(e.at_s, 6), e.what, e.model) for e in self.box.events if e.what in wanted]


MakeBench = Callable[..., Bench]


@pytest.fixture
def bench(round_fleet: Fleet) -> MakeBench:
    """A box of 100 GB with Ollama's defaults, but for what is given."""

    def make(fleet: Fleet | None = None, **settings: float) -> Bench:
        return Bench(fleet or round_fleet, BoxSettings(**{"memory_gb": 100.0, **settings}))  # type: ignore[arg-type]

    return make


__all__ = ["Bench", "Event", "MakeBench", "fleet", "model"]
