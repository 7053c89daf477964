"""Importing CrewAI without what it does besides: telemetry, tracing, a check for newer versions, a log."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

from llm_router.errors import MissingExtra

TELEMETRY_VARIABLE = "LLM_ROUTER_CREWAI_TELEMETRY"
_QUIET = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
}


def switch_off_telemetry(environ: MutableMapping[str, str]) -> None:
    """Sets CrewAI's switches where the user did not; LLM_ROUTER_CREWAI_TELEMETRY=1 leaves all as they are."""
    if environ.get(TELEMETRY_VARIABLE, "").strip().lower() in ("1", "true", "yes", "on"):
        return
    for variable, value in _QUIET.items():
        environ.setdefault(variable, value)


@contextmanager
def crewai_imported() -> Iterator[None]:
    """Import CrewAI inside of it. Raises MissingExtra where it is not installed."""
    switch_off_telemetry(os.environ)  # CrewAI reads these while it is imported
    # Errors are raised; where no logging is set up, CrewAI's copy of each would go to stderr.
    logging.getLogger("crewai").addHandler(logging.NullHandler())
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("crewai", "pydantic"):
            raise
        raise MissingExtra.needed("crewai", "what is made for CrewAI", "crewai") from error
