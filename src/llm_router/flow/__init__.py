"""The CrewAI front: a Flow for single tasks, and an LLM for agents and crews.

Nothing but this package imports CrewAI. Importing it switches CrewAI's telemetry, tracing and version check
off for the process, unless LLM_ROUTER_CREWAI_TELEMETRY=1 is set or the user set CrewAI's own variables.
"""

from llm_router.flow.flow import (
    CLASSIFY,
    ROUTE,
    DynamicModelFlow,
    RouteState,
    crewai_llm,
    handler_names,
    labels_and_handlers,
)
from llm_router.flow.llm import RoutedLLM
from llm_router.flow.quiet import TELEMETRY_VARIABLE, switch_off_telemetry

__all__ = [
    "CLASSIFY",
    "ROUTE",
    "TELEMETRY_VARIABLE",
    "DynamicModelFlow",
    "RouteState",
    "RoutedLLM",
    "crewai_llm",
    "handler_names",
    "labels_and_handlers",
    "switch_off_telemetry",
]
