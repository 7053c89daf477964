"""What a desk decides, step by step of the event loop: a host that does only what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from llm_router.decision import Candidate, Estimate
from llm_router.fleet.schema import Machine
from llm_router.hosts.residency import Residency, Seat
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.hosts.snapshot import ResidentModel
from llm_router.request import Json


class Host:
    """Loads a model once the test lets it."""

    name = "box"

    def __init__(self) -> None:
        self.may_load = {name: asyncio.Event() for name in ("one:1b", "two:1b", "three:1b")}
        self.told: list[str] = []
        self._there: list[ResidentModel] = []

    async def preload(self, model: str, *, num_ctx: int | None, keep_alive: Json) -> float | None:
        self.told.append(model)
        await self.may_load[model].wait()
        self._there.append(ResidentModel(model, 1_000_000_000, context_length=num_ctx))
        return 1.0

    async def resident(self) -> Sequence[ResidentModel]:
        return self._there


def candidate(model: str) -> Candidate:
    return Candidate(
        model,
        Host.name,
        model,
        quality=0.5,
        quality_source="test",
        resident=False,
        estimate=Estimate(1.0, 1.0, 1.0, 1.0, 100),
        score=0.5,
        num_ctx=4096,
    )


def residency_of(host: Host) -> Residency:
    return Residency(
        [host],
        ResidencySettings(),
        machine=Machine(name="test", usable_memory_gb=100.0, memory_gb_per_s=100.0, load_gb_per_s=2.0),
        kept_gb={},
        clock_s=asyncio.get_running_loop().time,
        changed=lambda _: None,
        measured=lambda *_: None,
    )


async def one_loading_one_waiting(residency: Residency) -> list[asyncio.Future[Seat]]:
    """The callers of two models, of which the first is being loaded."""
    callers: list[asyncio.Future[Seat]] = [
        asyncio.ensure_future(residency.seat(candidate(model))) for model in ("one:1b", "two:1b")
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return callers


async def test_a_load_that_nobody_wants_any_more_before_it_began_holds_no_other_up() -> None:
    """Its only caller leaves in the very step in which the load before it ends and its own is begun."""
    host = Host()
    residency = residency_of(host)
    first, second = await one_loading_one_waiting(residency)
    assert host.told == ["one:1b"]
    host.may_load["one:1b"].set()
    second.cancel()
    await asyncio.wait([second])
    (await first).leave()
    host.may_load["three:1b"].set()
    async with asyncio.timeout(10):
        (await residency.seat(candidate("three:1b"))).leave()
    assert residency.loads()["box"].idle
    await residency.close()


async def test_who_comes_while_a_load_is_given_up_has_it_go_on() -> None:
    host = Host()
    residency = residency_of(host)
    first, second = await one_loading_one_waiting(residency)
    host.may_load["one:1b"].set()
    host.may_load["two:1b"].set()
    second.cancel()
    third = asyncio.ensure_future(residency.seat(candidate("two:1b")))
    async with asyncio.timeout(10):
        (await third).leave()
        (await first).leave()
    assert host.told == ["one:1b", "two:1b"]
    await residency.close()
