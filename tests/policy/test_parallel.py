"""Where a host answers several requests of one model at once, each has a KV cache of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.worlds import classified, host, whole_fleet, world

from llm_router.fleet import Fleet, load_fleet
from llm_router.hosts.snapshot import ResidentModel
from llm_router.policy import decide
from llm_router.request import RouteRequest

LARGE = "qwen2.5:72b"


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


@pytest.mark.parametrize("parallel", [1, 2, 4])
def test_memory_is_the_file_and_as_many_caches(fleet: Fleet, parallel: int) -> None:
    facts = fleet.model(LARGE)
    cache_gb = (facts.kv_kib_per_token or 0) * 1024 * facts.planned_num_ctx / 1e9
    assert cache_gb > 1
    here = replace(whole_fleet(fleet), parallel=parallel)
    standing = world(fleet, here).standing(LARGE, here)
    assert standing.speed.memory_gb == pytest.approx(facts.file_gb + parallel * cache_gb)


@pytest.mark.parametrize("model", ["nomic-embed-text", "llama3.2-vision:90b"])
def test_embedders_and_some_architectures_have_one_place(fleet: Fleet, model: str) -> None:
    facts = fleet.model(model)
    assert facts.places(4) == 1 and facts.memory_gb_for(4) == facts.memory_gb


def test_what_fits_with_one_cache_and_not_with_several_is_refused_with_its_figures(fleet: Fleet) -> None:
    facts = fleet.model(LARGE)
    usable_gb = facts.memory_gb_for(2) + 0.5
    request = RouteRequest.from_text("hello", model=LARGE)
    for parallel, chain in ((1, [LARGE]), (2, [LARGE]), (4, [])):
        here = replace(host(LARGE, memory_gb=usable_gb), parallel=parallel)
        found = decide(request, classified("default_general"), world(fleet, here))
        assert [candidate.model for candidate in found.chain] == chain
    (refused,) = found.rejected
    assert refused.code == "memory"
    assert f"needs {facts.memory_gb_for(4):.0f} GB" in refused.why


def test_who_must_leave_counts_every_cache(fleet: Fleet) -> None:
    resident = [ResidentModel("mistral:7b", 6 * 10**9, context_length=16384)]
    one = host(LARGE, "mistral:7b", resident=resident, memory_gb=80.0)
    request = RouteRequest.from_text("hello", model=LARGE)
    leaving = [
        decide(request, classified("default_general"), world(fleet, replace(one, parallel=parallel)))
        .chain[0]
        .leaving
        for parallel in (1, 4)
    ]
    assert leaving == [(), ("mistral:7b",)]
