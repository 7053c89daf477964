"""The fleet as plain Python values: models, categories, and where Ollama is.

    from model_configs import MODELS, ROUTING_CATEGORIES, OLLAMA_BASE_URL, get_all_active_models

    for name, config in get_all_active_models().items():
        print(f"{name}: {config['size_gb']} GB | {config['params']}")

Names are read from the user's settings and fleet files when they are first used. CrewAI is imported by the
first use of a model's ``llm`` and by nothing else here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, overload

from llm_router import assembly
from llm_router.config import DEFAULT_OLLAMA_URL, Settings
from llm_router.fleet import Fleet, Model

if TYPE_CHECKING:
    MODELS: dict[str, ModelConfig]
    ROUTING_CATEGORIES: dict[str, str]
    OLLAMA_BASE_URL: str

__all__ = [
    "MODELS",
    "OLLAMA_BASE_URL",
    "ROUTING_CATEGORIES",
    "ModelConfig",
    "get_all_active_models",
    "get_model_config",
    "get_model_for_category",
    "get_models_with",
]


class ModelConfig(dict[str, Any]):
    """What the fleet says about one model, as a dict that is ready for JSON.

    Its items are ``size_gb``, ``params``, ``specialization``, ``capabilities``, ``when_to_use``, ``speed``,
    ``quality`` and ``deprecated``. ``config["llm"]`` is a CrewAI LLM for the model. It is built when asked
    for and is not one of the items, so that ``dict(config)`` and ``json.dumps(config)`` stay plain.
    """

    def __init__(self, name: str, model: Model) -> None:
        super().__init__(
            size_gb=int(model.size_gb) if model.size_gb.is_integer() else model.size_gb,
            params=model.params,
            specialization=model.specialization,
            capabilities=list(model.capabilities),
            when_to_use=model.when_to_use,
            speed=model.speed,
            quality=model.quality,
            deprecated=model.deprecated,
        )
        self.name = name

    @functools.cached_property
    def llm(self) -> Any:
        """A ``crewai.LLM`` that asks Ollama for this model directly. Raises MissingExtra without CrewAI."""
        from llm_router.flow import crewai_llm

        return crewai_llm(self.name, _ollama_base_url())

    def __missing__(self, key: str) -> Any:
        if key == "llm":
            return self.llm
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key == "llm" or super().__contains__(key)

    @overload
    def get(self, key: str, default: None = None, /) -> Any | None: ...
    @overload
    def get(self, key: str, default: Any, /) -> Any: ...
    def get(self, key: str, default: Any = None, /) -> Any:
        """The value, the ``llm`` too, or the default."""
        return self.llm if key == "llm" else super().get(key, default)


def get_all_active_models() -> dict[str, ModelConfig]:
    """Every model that may be chosen: all of them but the deprecated ones, in the order of the fleet."""
    return {name: config for name, config in _models().items() if not config["deprecated"]}


def get_model_config(name: str) -> ModelConfig:
    """One model by name (``phi4`` and ``phi4:latest`` are the same). Raises UnknownModel."""
    fleet = _fleet()
    fleet.model(name)
    return _models()[fleet.find(name) or name]


def get_model_for_category(category: str) -> ModelConfig:
    """The fleet's choice for a category. Raises UnknownCategory."""
    return _models()[_fleet().choice_for(category)]


def get_models_with(capability: str) -> dict[str, ModelConfig]:
    """The active models with a capability: completion, tools, vision, thinking, embedding or insert."""
    return {name: c for name, c in get_all_active_models().items() if capability in c["capabilities"]}


@functools.cache
def _settings() -> Settings:
    return assembly.settings_of_the_user()


@functools.cache
def _fleet() -> Fleet:
    return assembly.fleet_of(_settings())


@functools.cache
def _models() -> dict[str, ModelConfig]:
    return {name: ModelConfig(name, model) for name, model in _fleet().models.items()}


@functools.cache
def _routing_categories() -> dict[str, str]:
    fleet = _fleet()
    return {name: fleet.choice_for(name) for name in fleet.categories}


def _ollama_base_url() -> str:
    """The first Ollama host of the settings: OLLAMA_HOST, else the settings file, else the usual address."""
    return next((host.url for host in _settings().hosts if host.kind == "ollama"), DEFAULT_OLLAMA_URL)


_VALUES: Mapping[str, Callable[[], object]] = {
    "MODELS": _models,
    "ROUTING_CATEGORIES": _routing_categories,
    "OLLAMA_BASE_URL": _ollama_base_url,
}


def __getattr__(name: str) -> object:
    if name in _VALUES:
        return _VALUES[name]()
    raise AttributeError(f"module 'model_configs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
