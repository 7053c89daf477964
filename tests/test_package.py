"""Importing costs little and loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "crewai",
    "numpy",
    "aiohttp",
    "xllamacpp",
    "rich",
    "pydantic",
    "uvicorn",
    "starlette",
}


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import llm_router",
        "from llm_router import load_fleet; load_fleet()",
        "from llm_router import Router, SyncRouter, RouteRequest, Settings",
        "import model_configs, router_flow",
    ],
)
def test_importing_loads_neither_crewai_nor_numpy_nor_a_server(code: str) -> None:
    assert not HEAVY & loaded_by(code)


def test_every_public_name_exists() -> None:
    import llm_router

    assert all(getattr(llm_router, name) is not None for name in llm_router.__all__)
    with pytest.raises(AttributeError):
        _ = llm_router.nothing_of_that_name
