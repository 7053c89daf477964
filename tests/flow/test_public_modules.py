"""``model_configs`` and ``router_flow`` as their users write them; what needs no CrewAI loads none."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llm_router.errors import ConfigError, UnknownCategory, UnknownModel
from llm_router.fleet import load_fleet
from llm_router.testing.fake_ollama import FakeOllama

KEYS = {
    *("size_gb", "params", "specialization", "capabilities"),
    *("when_to_use", "speed", "quality", "deprecated"),
}


@pytest.fixture
def model_configs() -> ModuleType:
    """The module as a new process would see it: it keeps what it read."""
    found = importlib.util.find_spec("model_configs")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_models_are_the_fleets_in_its_order(model_configs: ModuleType) -> None:
    fleet = load_fleet()
    assert list(model_configs.MODELS) == list(fleet.models)
    assert len(model_configs.MODELS) == 19
    for name, config in model_configs.MODELS.items():
        assert set(config) == KEYS
        assert config["size_gb"] == fleet.models[name].size_gb
        assert config["params"] == fleet.models[name].params


def test_the_categories_name_the_fleets_choices(model_configs: ModuleType) -> None:
    categories = model_configs.ROUTING_CATEGORIES
    assert len(categories) == 18
    assert categories["max_vision"] == "llama3.2-vision:90b"
    assert set(categories.values()) <= set(model_configs.MODELS)


def test_a_config_is_a_plain_dict_wherever_one_is_needed(model_configs: ModuleType) -> None:
    config = model_configs.get_model_config("phi4")
    assert json.loads(json.dumps(config)) == dict(config) == {**config}
    assert "llm" in config
    assert "llm" not in dict(config)
    assert config.get("no_such_key", 3) == 3
    with pytest.raises(KeyError):
        config["no_such_key"]


@pytest.mark.crewai
def test_the_llm_is_built_once_and_talks_to_ollama(
    model_configs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("crewai")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:12345")
    for name in ("llama3.2:1b", "nomic-embed-text", "apriel-1.5-15b-thinker"):
        config = model_configs.MODELS[name]
        llm: Any = config["llm"]
        assert llm.model == name
        assert llm.base_url == "http://127.0.0.1:12345/v1"
        assert config.get("llm") is llm


@pytest.mark.crewai
def test_the_llm_of_a_config_gets_an_answer(
    model_configs: ModuleType, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("crewai")
    monkeypatch.setenv("OLLAMA_HOST", ollama.url)
    assert "phi4" in model_configs.MODELS["phi4"]["llm"].call("Say hello")


def test_the_address_follows_the_environment_and_the_users_file(
    model_configs: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("hosts: [{url: 'http://spark-1:11434'}]", encoding="utf-8")
    monkeypatch.setenv("LLM_ROUTER_CONFIG", str(config))
    assert model_configs.OLLAMA_BASE_URL == "http://spark-1:11434"
    monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0:11434")
    fresh = subprocess.run(
        [sys.executable, "-c", "from model_configs import OLLAMA_BASE_URL; print(OLLAMA_BASE_URL)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert fresh.stdout.strip() == "http://127.0.0.1:11434"


def test_a_users_fleet_file_is_honoured(
    model_configs: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(
        "models: {phi4: {deprecated: true}, mine: {size_gb: 1, params: 1B}}\n"
        "categories: {own: {description: d, models: [{model: mine, quality: 1}]}}",
        encoding="utf-8",
    )
    monkeypatch.setenv("LLM_ROUTER_FLEET", str(fleet))
    assert "phi4" in model_configs.MODELS
    assert "phi4" not in model_configs.get_all_active_models()
    assert model_configs.ROUTING_CATEGORIES["own"] == "mine"
    assert model_configs.get_model_for_category("own")["params"] == "1B"


def test_a_broken_settings_file_is_one_error_at_the_first_use(
    model_configs: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLM_ROUTER_CONFIG", str(tmp_path / "missing.yaml"))
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        _ = model_configs.MODELS


def test_lookups_know_other_spellings_and_refuse_unknown_names(model_configs: ModuleType) -> None:
    assert model_configs.get_model_config("Phi4:latest") is model_configs.MODELS["phi4"]
    assert list(model_configs.get_models_with("embedding")) == ["nomic-embed-text"]
    with pytest.raises(UnknownModel, match="phi5"):
        model_configs.get_model_config("phi5")
    with pytest.raises(UnknownCategory):
        model_configs.get_model_for_category("no_such_category")
    with pytest.raises(AttributeError):
        _ = model_configs.MODEL


WITHOUT_CREWAI = """
import sys
sys.modules["crewai"] = None
from model_configs import get_all_active_models
print(len(get_all_active_models()))
from router_flow import run_router
try:
    run_router("hello")
except Exception as error:
    print(type(error).__name__, error.hint)
try:
    from router_flow import DynamicModelFlow
except Exception as error:
    print(type(error).__name__)
from model_configs import MODELS
try:
    MODELS["phi4"]["llm"]
except Exception as error:
    print(type(error).__name__)
try:
    from llm_router import RoutedLLM
except Exception as error:
    print(type(error).__name__, error.hint)
from llm_router import *
print(Router.__name__)
"""


def test_without_crewai_every_use_names_the_line_that_installs_it() -> None:
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT_CREWAI], capture_output=True, text=True, timeout=60, check=True
    )
    lines = told.stdout.splitlines()
    assert lines == [
        "19",
        "MissingExtra pip install 'crewai-llm-router[crewai]'",
        "MissingExtra",
        "MissingExtra",
        "MissingExtra pip install 'crewai-llm-router[crewai]'",
        "Router",
    ]
    assert told.stderr == ""
