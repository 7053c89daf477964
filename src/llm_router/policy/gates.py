"""Hard gates: may this model, on this host, take this request at all? Each no has a code and its numbers.

First come the gates that hold whatever host there is (deprecated, licence, memory, capability, context),
then those of one host (reachable, version, installed, healthy). The first no counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from llm_router.decision import Rejection, RejectionCode
from llm_router.fleet.schema import Category, Machine, Model
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.names import canonical, is_cloud
from llm_router.policy.estimates import output_reserve
from llm_router.policy.needs import is_embedding_task, needed_capabilities
from llm_router.policy.settings import PolicySettings
from llm_router.request import RouteRequest
from llm_router.tokens import estimate_tokens


@dataclass(frozen=True, slots=True)
class Case:
    """One model held against one request, on one host or (``host`` None) on any."""

    tag: str
    model: Model
    request: RouteRequest
    category: Category | None
    machine: Machine
    settings: PolicySettings
    host: HostSnapshot | None = None

    @property
    def installed(self) -> InstalledModel | None:
        return self.host.find_installed(self.tag) if self.host else None

    @property
    def capabilities(self) -> frozenset[str]:
        """What the host says where it says it (capabilities change with Ollama's version), else the fleet."""
        told = self.installed.capabilities if self.installed else None
        return frozenset(self.model.capabilities) if told is None else told

    @property
    def num_ctx(self) -> int:
        """The one context size this model is run with, in tokens.

        Ollama is told the planned one. Another server has fixed its own, so what it tells counts.
        """
        told = self.installed.context_length if self.installed else None
        planned = self.model.planned_num_ctx
        if self.host is not None and self.host.kind == "openai":
            return told or planned
        return min(planned, told) if told else planned

    @property
    def prompt_tokens(self) -> int:
        """Upper bound of what must fit the context at once: of several texts to embed, the longest."""
        family = self.model.tokenizer
        if is_embedding_task(self.request, self.category):
            texts = self.request.inputs or (self.request.task,)
            return max(estimate_tokens(text, family).high for text in texts)
        return self.request.estimate(family).high

    @property
    def usable_memory_gb(self) -> float:
        if self.host and self.host.usable_memory_gb is not None:
            return self.host.usable_memory_gb
        return self.machine.usable_memory_gb


Gate = Callable[[Case], tuple[RejectionCode, str] | None]


def first_rejection(case: Case) -> Rejection | None:
    """The first gate that says no, or None where the model may take the request."""
    return next(all_rejections(case), None)


def all_rejections(case: Case) -> Iterator[Rejection]:
    """Every gate that says no, in order."""
    gates = (*ANYWHERE, *ON_A_HOST) if case.host else ANYWHERE
    for gate in gates:
        no = gate(case)
        if no is not None:
            yield Rejection(case.tag, no[0], no[1], case.host.name if case.host else "")


def _cloud(case: Case) -> tuple[RejectionCode, str] | None:
    names = {case.tag, case.host.served_as(case.tag) if case.host else case.tag}
    if any(is_cloud(name) for name in names) and not case.settings.allow_cloud:
        return "cloud", "would be answered on the internet; policy.allow_cloud is off"
    return None


def _deprecated(case: Case) -> tuple[RejectionCode, str] | None:
    return ("deprecated", "marked deprecated in the fleet file") if case.model.deprecated else None


def _licence(case: Case) -> tuple[RejectionCode, str] | None:
    licence = case.model.licence
    if case.settings.commercial_only and licence and not licence.commercial:
        return "licence", f"licence {licence.id} does not allow commercial use"
    return None


def _memory(case: Case) -> tuple[RejectionCode, str] | None:
    if case.host is not None and case.host.kind == "openai" and case.host.usable_memory_gb is None:
        return None  # it serves what it lists, and nobody said how much memory it has
    needs, usable = case.model.memory_gb, case.usable_memory_gb
    if needs <= usable:
        return None
    where = case.host.name if case.host else case.machine.name
    return "memory", f"needs {needs:.0f} GB with its context, {where} can use {usable:.0f} GB"


_LACKS = {
    "completion": "is an embedding model and cannot answer",
    "embedding": "cannot embed",
    "vision": "cannot see images",
    "tools": "cannot call tools",
}


def _capability(case: Case) -> tuple[RejectionCode, str] | None:
    for need in needed_capabilities(case.request, case.category):
        if need not in case.capabilities:
            return (
                "capability",
                f"{_LACKS[need]}; it has: {', '.join(sorted(case.capabilities)) or 'nothing'}",
            )
    most = case.model.quirks.max_images
    if most is not None and len(case.request.images) > most:
        return "capability", f"takes {most} image per request, this one has {len(case.request.images)}"
    return None


def _context(case: Case) -> tuple[RejectionCode, str] | None:
    prompt = case.prompt_tokens
    most = case.settings.max_output_reserve_tokens
    reserve = output_reserve(case.request, case.category, case.model, most)
    if prompt + reserve <= case.num_ctx:
        return None
    return "context", (
        f"needs up to {prompt + reserve:,} tokens ({prompt:,} to read, {reserve:,} to answer), "
        f"its context is {case.num_ctx:,}"
    )


def _reachable(case: Case) -> tuple[RejectionCode, str] | None:
    host = case.host
    if host is None or host.reachable:
        return None
    return "host_unreachable", f"no answer from {host.name} at {host.url}: {host.problem}"


def _version(case: Case) -> tuple[RejectionCode, str] | None:
    host, wanted = case.host, case.model.ollama
    if host is None or wanted is None or host.kind != "ollama" or not host.version:
        return None
    here = version_key(host.version)
    if wanted.below and here >= version_key(wanted.below):
        return "ollama_version", f"loads only below Ollama {wanted.below}, {host.name} has {host.version}" + (
            f": {wanted.why}" if wanted.why else ""
        )
    if wanted.minimum and here < version_key(wanted.minimum):
        return "ollama_version", f"needs Ollama {wanted.minimum}, {host.name} has {host.version}"
    return None


def _installed(case: Case) -> tuple[RejectionCode, str] | None:
    if case.host is None or case.installed is not None:
        return None
    return "not_installed", f"not installed on {case.host.name}"


def _loadable(case: Case) -> tuple[RejectionCode, str] | None:
    if case.host is None:
        return None
    why = case.host.unusable.get(canonical(case.host.served_as(case.tag)))
    return ("unusable", f"{case.host.name} cannot load it: {why}") if why else None


def _healthy(case: Case) -> tuple[RejectionCode, str] | None:
    if case.host is None:
        return None
    why = case.host.unhealthy.get(canonical(case.host.served_as(case.tag)))
    return ("unhealthy", f"resting on {case.host.name}: {why}") if why else None


ANYWHERE: tuple[Gate, ...] = (_cloud, _deprecated, _licence, _memory, _capability, _context)
ON_A_HOST: tuple[Gate, ...] = (_reachable, _version, _installed, _loadable, _healthy)


def version_key(text: str) -> tuple[int, int, int]:
    """``0.33.0-rc2`` → (0, 33, 0). Pre-releases count as their release: they carry its engine."""
    numbers = [int(n) for n in re.findall(r"\d+", text)[:3]]
    numbers += [0] * (3 - len(numbers))
    return numbers[0], numbers[1], numbers[2]


def one_per_model(rejections: Iterable[Rejection]) -> tuple[Rejection, ...]:
    """Keeps the first rejection of each model, in order."""
    kept: dict[str, Rejection] = {}
    for rejection in rejections:
        kept.setdefault(rejection.model, rejection)
    return tuple(kept.values())
