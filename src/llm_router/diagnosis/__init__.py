"""What is wrong here, and what to do about it. Pure: what was seen in, findings out.

Every trouble that users of several local models report has a check: wrong address, another program behind
it, missing, too large or unloadable models, contexts that reload a model, memory, licences, languages.
"""

from __future__ import annotations

from llm_router.diagnosis import hosts, models, routing, surroundings
from llm_router.diagnosis.finding import Finding, Severity
from llm_router.diagnosis.surroundings import Surroundings
from llm_router.policy import World


def diagnose(world: World, surroundings_: Surroundings) -> tuple[Finding, ...]:
    """Every finding, grouped: settings, hosts, memory, models, categories, licences, optional parts.

    Where no host answers, what depends on hosts is left out and the rest is still checked.
    """
    return (
        *surroundings.settings_findings(surroundings_),
        *hosts.host_findings(world, surroundings_),
        *models.model_findings(world),
        *routing.routing_findings(world, surroundings_),
        *routing.licence_findings(world),
        *surroundings.part_findings(world, surroundings_),
    )


__all__ = ["Finding", "Severity", "Surroundings", "diagnose"]
