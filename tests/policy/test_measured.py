"""What was measured on a host decides instead of the fleet's figures: who is slower here loses rank."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.worlds import classified, host, world

from llm_router.decision import NO_SAMPLES, Decision, Samples
from llm_router.fleet import Fleet, load_fleet
from llm_router.hosts.load import HORIZON_S, HostLoad
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel, ResidentModel
from llm_router.hosts.speeds import Measured, ModelSpeeds
from llm_router.policy import PolicySettings, decide
from llm_router.policy.inventory import speeds
from llm_router.policy.waits import Moment
from llm_router.request import RouteRequest

CHOICE, OTHER = "qwen2.5:14b", "gpt-oss:20b"


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


def measured(times: int, **figures: float) -> ModelSpeeds:
    found = ModelSpeeds()
    for _ in range(times):
        found = found.with_samples(Measured(**figures))
    return found


def box() -> HostSnapshot:
    """Both are in memory, with the contexts that they are run with."""
    resident = [
        ResidentModel(CHOICE, 11 * 10**9, context_length=16384),
        ResidentModel(OTHER, 15 * 10**9, context_length=32768),
    ]
    return host(InstalledModel(CHOICE, 9 * 10**9), InstalledModel(OTHER, 14 * 10**9), resident=resident)


def decided(fleet: Fleet, where: HostSnapshot, prefer: str = "score") -> Decision:
    here = world(fleet, where, settings=PolicySettings(prefer=prefer))  # type: ignore[arg-type]
    return decide(RouteRequest.from_text("Generate JSON schema"), classified("structured_data"), here)


def test_a_model_that_writes_slower_here_than_the_fleet_says_loses_its_place(fleet: Fleet) -> None:
    before = decided(fleet, box())
    first = before.chain[0]
    assert first.estimate.samples == NO_SAMPLES
    slow = {f"{first.model}": measured(20, decode_tokens_per_s=0.4)}
    after = decided(fleet, replace(box(), speeds=slow))
    assert after.chain[0].model != first.model
    again = next(c for c in after.chain if c.model == first.model)
    assert again.estimate.decode_s > 10 * first.estimate.decode_s
    assert again.estimate.samples == Samples(decode=20)


def test_a_load_that_takes_longer_here_than_the_fleet_says_costs_it_its_place(fleet: Fleet) -> None:
    cold = replace(box(), resident={})
    before = decided(fleet, cold)
    first = before.chain[0]
    slow = replace(cold, speeds={first.model: measured(8, load_s=400.0)})
    after = decided(fleet, slow)
    assert after.chain[0].model != first.model
    again = next(c for c in after.chain if c.model == first.model)
    assert 100 < again.estimate.load_s < 400


def test_loads_that_wait_and_models_that_leave_cost_what_they_really_take(fleet: Fleet) -> None:
    cold = host(InstalledModel("qwen2.5:72b", 47 * 10**9), InstalledModel(CHOICE, 9 * 10**9))
    load = HostLoad(loads_waiting=("qwen2.5:72b",))
    seen = measured(30, load_s=200.0)
    for where, queue_s in ((cold, 25.5), (replace(cold, speeds={"qwen2.5:72b": seen}), seen.load_from(25.5))):
        here = world(fleet, where)
        moment = Moment({"spark-1": load})
        found = decide(RouteRequest.from_text("x"), classified("structured_data"), here, moment)
        own = next(c for c in found.chain if c.model == CHOICE)
        assert own.estimate.queue_s == pytest.approx(queue_s)

    full = host(
        InstalledModel("qwen2.5:72b", 47 * 10**9),
        InstalledModel(CHOICE, 9 * 10**9),
        resident=[ResidentModel("qwen2.5:72b", 50 * 10**9, context_length=8192)],
        memory_gb=55.0,
    )
    wanted = HostLoad(demand_per_s={"qwen2.5:72b": 1 / HORIZON_S})
    for where, regret_s in (
        (full, 27.0),
        (replace(full, speeds={"qwen2.5:72b": seen}), seen.load_from(27.0)),
    ):
        moment = Moment({"spark-1": wanted})
        found = decide(
            RouteRequest.from_text("x"), classified("structured_data"), world(fleet, where), moment
        )
        own = next(c for c in found.chain if c.model == CHOICE)
        assert own.leaving == ("qwen2.5:72b",) and own.regret_s == pytest.approx(regret_s)


def test_what_is_told_of_speeds_says_what_was_measured(fleet: Fleet) -> None:
    where = replace(
        host("phi4", "mistral:7b", "gemma2:9b", resident=[ResidentModel("phi4", 10**10)]),
        speeds={"mistral:7b": measured(3, decode_tokens_per_s=10.0, load_s=44.0)},
    )
    told = {speed.model: speed for speed in speeds(world(fleet, where))["spark-1"]}
    assert set(told) == {"phi4", "mistral:7b"}
    model = fleet.model("mistral:7b")
    mistral, phi4 = told["mistral:7b"], told["phi4"]
    assert (mistral.load_samples, mistral.prefill_samples, mistral.decode_samples) == (3, 0, 3)
    assert (phi4.load_samples, phi4.prefill_samples, phi4.decode_samples) == (0, 0, 0)
    assert phi4.decode_tokens_per_s == fleet.model("phi4").decode_tokens_per_s
    assert 10 < mistral.decode_tokens_per_s < (model.decode_tokens_per_s or 0)
    assert 0.1 < mistral.load_gb_per_s < 1.0
