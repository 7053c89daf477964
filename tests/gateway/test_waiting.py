"""What a stream that has not begun says that it waits for."""

from __future__ import annotations

import pytest

from llm_router.decision import Candidate, Estimate
from llm_router.gateway.waiting import waits_for
from llm_router.hosts.load import QUIET, HostLoad, ModelLoad

NAME = "solar:latest"


def candidate(model: str = "solar") -> Candidate:
    return Candidate(
        model, "spark-1", model, 0.9, "prior", False, Estimate(20.0, 1.0, 9.0, 7.0, 100), 0.5, 4096
    )


@pytest.mark.parametrize(
    ("load", "told"),
    [
        (None, "solar on spark-1"),
        (QUIET, "solar on spark-1"),
        (
            HostLoad(loading=NAME, loading_left_s=17.6),
            "solar, which is being loaded on spark-1: about 18 s",
        ),
        (
            HostLoad(loading="qwen2.5:72b", loading_left_s=9.0, loads_waiting=("phi4:latest", NAME)),
            "solar, to be loaded on spark-1 after 2 others",
        ),
        (HostLoad(loads_waiting=("phi4:latest", NAME)), "solar, to be loaded on spark-1 after 1 other"),
        (HostLoad(models={NAME: ModelLoad(1, 4.0)}), "solar on spark-1"),
        (HostLoad(models={NAME: ModelLoad(1, 4.0, 2, 8.0)}), "solar on spark-1, 2 before or beside it"),
    ],
)
def test_the_model_what_goes_on_there_and_how_long_it_still_takes(load: HostLoad | None, told: str) -> None:
    assert waits_for(candidate(), load) == told


def test_it_is_one_line_whatever_a_host_calls_its_models() -> None:
    assert waits_for(candidate("so\nlar"), None) == "so lar on spark-1"
