"""A full fleet on a fake host, and CrewAI imported once for all tests of the Flow."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from llm_router.classify.settings import ClassifySettings, MissionControlSettings
from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import MissingExtra
from llm_router.sync import SyncRouter
from llm_router.testing.fake_ollama import FLEET_NAMES, FakeOllama, fleet_models

if TYPE_CHECKING:
    from llm_router.flow import DynamicModelFlow

NEEDS_CREWAI = [
    *("test_crew.py", "test_crew_guide.py", "test_flow.py", "test_flow_definition.py", "test_llm.py"),
    *("test_owners_lines.py", "test_plotting.py"),
]


def _import_crewai() -> bool:
    """CrewAI warns while it is imported (pydantic, its own lazy modules) and writes below HOME."""
    home = os.environ.get("HOME")
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["HOME"] = scratch
        try:
            import llm_router.flow  # noqa: F401
        except MissingExtra:
            return False
        finally:
            if home is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = home
    return True


collect_ignore = [] if _import_crewai() else NEEDS_CREWAI


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    """Every model of the fleet that fits the machine, on a version that still loads all of them."""
    models = fleet_models(name for name in FLEET_NAMES if name != "deepseek-v3")
    with FakeOllama(models, version="0.24.0").in_thread() as server:
        yield server


@pytest.fixture
def settings(ollama: FakeOllama) -> Settings:
    return settings_for(ollama.url)


@pytest.fixture
def router(settings: Settings) -> Iterator[SyncRouter]:
    with SyncRouter(settings=settings) as router:
        yield router


@pytest.fixture
def flow(router: SyncRouter) -> DynamicModelFlow:
    from llm_router.flow import DynamicModelFlow

    return DynamicModelFlow(router)


def settings_for(url: str, *fleet_files: str) -> Settings:
    """Mission Control is off, so that nothing but the request decides."""
    return Settings(
        hosts=(HostSettings(url=url, name="ollama"),),
        fleet=fleet_files,
        routing=RoutingSettings(stand_in="never"),
        classify=ClassifySettings(mission_control=MissionControlSettings(enabled=False)),
    )


NOBODY = "http://127.0.0.1:9"
"""A host where nothing listens."""

OWN_CATEGORY = """
categories:
  contract_review:
    description: Review contracts of medium length
    when_to_use: Contracts
    requires: {min_context_tokens: 400}
    models:
      - {model: "mistral:7b", quality: 0.5}
"""
MEDIUM_TEXT = "Please review this clause about the notice period. " * 80
"""Long enough for the category above, too short for long_context."""


@pytest.fixture
def own_category(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A user's fleet file that adds one category."""
    path = tmp_path_factory.mktemp("fleet") / "fleet.yaml"
    path.write_text(OWN_CATEGORY, encoding="utf-8")
    return str(path)
