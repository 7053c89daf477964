"""Which state each model is in, and who answers each category, as a function of the world."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from tests.support.worlds import embedded, host, host_down, whole_fleet, world

from llm_router.fleet import Fleet, load_fleet
from llm_router.hosts.snapshot import InstalledModel, ResidentModel
from llm_router.policy.inventory import answering, model_states, unlisted_models


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


def state(fleet: Fleet, tag: str, *hosts: object) -> tuple[str, str]:
    here = world(fleet, *hosts)  # type: ignore[arg-type]
    found = next(s for s in model_states(here) if s.tag == tag)
    return found.state, found.host


def test_the_best_state_of_all_hosts_counts(fleet: Fleet) -> None:
    cold = host("phi4", name="spark-1")
    warm = host("phi4", name="spark-2", resident=[ResidentModel("phi4")])
    assert state(fleet, "phi4", cold) == ("installed", "spark-1")
    assert state(fleet, "phi4", cold, warm) == ("resident", "spark-2")
    assert state(fleet, "phi4", host_down(), cold) == ("installed", "spark-1")
    assert state(fleet, "phi4", host_down("spark-2"), host(name="spark-1")) == ("not_installed", "spark-1")


def test_what_no_host_can_tell_is_unknown_except_what_can_never_run(fleet: Fleet) -> None:
    assert state(fleet, "phi4", host_down())[0] == "unknown"
    assert state(fleet, "phi4")[0] == "unknown"
    assert state(fleet, "deepseek-v3", host_down())[0] == "unusable"
    assert state(fleet, "deepseek-v3")[0] == "unusable"


def test_failures_deprecation_and_versions_have_states_of_their_own(fleet: Fleet) -> None:
    tired = host("phi4", unhealthy={"phi4:latest": "failed 3 times in a row"})
    assert state(fleet, "phi4", tired)[0] == "resting"
    broken = host("phi4", unusable={"phi4:latest": "unknown model architecture"})
    assert state(fleet, "phi4", broken)[0] == "unusable"
    assert state(fleet, "llama3.2-vision:90b", whole_fleet(fleet, version="0.33.0"))[0] == "unusable"
    assert state(fleet, "llama3.2-vision:90b", whole_fleet(fleet, version="0.24.0"))[0] == "installed"
    old = msgspec.structs.replace(fleet.models["phi4"], deprecated=True)
    changed = replace(fleet, models={**fleet.models, "phi4": old})
    assert state(changed, "phi4", host("phi4"))[0] == "deprecated"


def test_an_embedder_is_judged_by_embedding(fleet: Fleet) -> None:
    assert state(fleet, "nomic-embed-text", host("nomic-embed-text"))[0] == "installed"


def test_every_category_has_exactly_one_first_choice(fleet: Fleet) -> None:
    served = [name for s in model_states(world(fleet, host_down())) for name in s.serves]
    assert sorted(served) == sorted(fleet.categories)


def test_unlisted_models_are_those_of_no_fleet_entry(fleet: Fleet) -> None:
    here = host("phi4:latest", InstalledModel("own:3b", size_bytes=2 * 10**9), name="spark-1")
    assert [(m.name, m.host) for m in unlisted_models(world(fleet, here))] == [("own:3b", "spark-1")]


def test_who_answers_is_what_a_decision_says(fleet: Fleet) -> None:
    here = world(fleet, host("phi4"), embedded())
    answers = {name: candidate and candidate.model for name, candidate in answering(here).items()}
    assert answers["efficient_reasoning"] == "phi4"
    assert answers["korean_multilingual"] == "smollm2:135m"
    assert answers["embeddings"] is None
