"""The router in one function, and the CrewAI Flow behind it.

    from router_flow import run_router

    result = run_router("Analyze this sales chart and extract trends")
    print(result["category"], result["selected_model"], result["result"])

Needs the optional part [crewai]; without it every use raises MissingExtra with the line that installs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

if TYPE_CHECKING:
    from llm_router.flow import DynamicModelFlow
    from llm_router.task_inputs import MoreInputs

__all__ = ["DynamicModelFlow", "run_router"]


def run_router(task_description: str, **inputs: Unpack[MoreInputs]) -> dict[str, Any]:
    """Classifies the task, routes it and lets the model answer, through ``DynamicModelFlow``.

    ``inputs`` are what else belongs to the task: ``images``, ``tools``, ``messages``, ``model``,
    ``session_id``, ``options``. The dict has ``category``, ``selected_model``, ``answer_model``,
    ``model_params``, ``model_size_gb``, ``confidence``, ``routing_reasoning``, ``result`` and the rest of
    docs/reference/decision.md. Raises NoModelAvailable where nothing here can answer.
    """
    from llm_router.flow import DynamicModelFlow

    result: dict[str, Any] = DynamicModelFlow().kickoff({"task_description": task_description, **inputs})
    return result


def __getattr__(name: str) -> object:
    if name == "DynamicModelFlow":
        from llm_router.flow import DynamicModelFlow

        return DynamicModelFlow
    raise AttributeError(f"module 'router_flow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
