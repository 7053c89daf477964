"""llm-router: routes each request to the local model that should answer it, and says why.

    from llm_router import SyncRouter

    with SyncRouter() as router:
        decision = router.decide("Generate JSON schema for user profile with name, email, age")
        print(decision.category, decision.selected_model, decision.routing_reasoning)

Names are loaded when they are first used, so that importing the package costs nothing.
``RoutedLLM``, for CrewAI's agents, needs the optional part [crewai]; ``import *`` leaves it out.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from llm_router.version import __version__

if TYPE_CHECKING:
    from llm_router.answer import Answer, EmbeddingAnswer
    from llm_router.config import Settings
    from llm_router.decision import Decision
    from llm_router.errors import LLMRouterError
    from llm_router.fleet import Fleet, load_fleet
    from llm_router.flow import RoutedLLM as RoutedLLM
    from llm_router.request import RouteRequest
    from llm_router.router import Router
    from llm_router.sync import SyncRouter

_HOMES = {
    "Answer": "llm_router.answer",
    "Decision": "llm_router.decision",
    "EmbeddingAnswer": "llm_router.answer",
    "Fleet": "llm_router.fleet",
    "LLMRouterError": "llm_router.errors",
    "RouteRequest": "llm_router.request",
    "RoutedLLM": "llm_router.flow",
    "Router": "llm_router.router",
    "Settings": "llm_router.config",
    "SyncRouter": "llm_router.sync",
    "load_fleet": "llm_router.fleet",
}

__all__ = [
    "Answer",
    "Decision",
    "EmbeddingAnswer",
    "Fleet",
    "LLMRouterError",
    "RouteRequest",
    "Router",
    "Settings",
    "SyncRouter",
    "__version__",
    "load_fleet",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'llm_router' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_HOMES})
