"""Hard gates: may this model, on this host, take this request at all? Each no has a code and its numbers.

First come the gates that hold whatever host there is (cloud, deprecated, licence, memory), then those that
look at the request (capability, context), then those of one host (reachable, version, installed, healthy).
The first no counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from llm_router.decision import Rejection, RejectionCode
from llm_router.fleet.schema import Machine, Model
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.names import canonical, is_cloud
from llm_router.policy import estimates
from llm_router.policy.needs import Demand
from llm_router.policy.settings import PolicySettings


@dataclass(frozen=True)
class Standing:
    """One model, on one host or (``host`` None) on any: all that holds whatever the request is.

    Worked out once and kept with its ``World``, because most of what the gates look at never changes between
    two requests.
    """

    tag: str
    model: Model
    machine: Machine
    settings: PolicySettings
    host: HostSnapshot | None = None

    @cached_property
    def installed(self) -> InstalledModel | None:
        return self.host.find_installed(self.tag) if self.host else None

    @cached_property
    def served_as(self) -> str:
        return self.host.served_as(self.tag) if self.host else self.tag

    @cached_property
    def name_there(self) -> str:
        """The host's name for it in the canonical form, as in what the host's desk tells."""
        return canonical(self.served_as)

    @property
    def told(self) -> frozenset[str] | None:
        """What the host itself says that the model can; None where it says nothing of that."""
        return self.installed.capabilities if self.installed else None

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """What the host says where it says it (capabilities change with Ollama's version), else the fleet."""
        return frozenset(self.model.capabilities) if self.told is None else self.told

    @cached_property
    def num_ctx(self) -> int:
        """The one context size this model is run with, in tokens.

        Ollama is told the planned one. Another server has fixed its own, so what it tells counts.
        """
        told = self.installed.context_length if self.installed else None
        planned = self.model.planned_num_ctx
        if self.host is not None and self.host.kind == "openai":
            return told or planned
        return min(planned, told) if told else planned

    @cached_property
    def usable_memory_gb(self) -> float:
        if self.host and self.host.usable_memory_gb is not None:
            return self.host.usable_memory_gb
        return self.machine.usable_memory_gb

    @cached_property
    def memory_gb(self) -> float:
        """Weights and the KV caches of all requests that the host lets it answer at once."""
        return self.model.memory_gb_for(self.host.parallel if self.host else 1)

    @cached_property
    def remote(self) -> bool:
        """Whether the host would pass requests for it on to the internet; then it fills no memory here."""
        elsewhere = self.installed is not None and bool(self.installed.remote_host)
        return elsewhere or is_cloud(self.tag) or is_cloud(self.served_as)

    @cached_property
    def warm(self) -> bool:
        """Whether it is in the host's memory with the context it would be run with, or needs no memory."""
        if self.remote:
            return True
        resident = self.host.find_resident(self.tag) if self.host else None
        return resident is not None and resident.context_length in (None, 0, self.num_ctx)

    @cached_property
    def can_think(self) -> bool:
        return "thinking" in self.capabilities

    @cached_property
    def speed(self) -> estimates.Speed:
        """As measured on the host, and as long as that is little also as the fleet file says."""
        measured = self.host.find_speeds(self.tag) if self.host else None
        speed = estimates.speed_of(self.model, self.machine, measured)
        if self.remote:
            return replace(speed, memory_gb=0.0, load_s=0.0)
        return replace(speed, memory_gb=self.memory_gb)

    @cached_property
    def no_anywhere(self) -> Rejection | None:
        """The first no of the gates that come before those which look at the request."""
        return next(_refusals(self, ANYWHERE), None)

    @cached_property
    def no_here(self) -> Rejection | None:
        """The first no of the gates that come after them: those of the host."""
        return next(_refusals(self, ON_A_HOST), None)

    @cached_property
    def host_name(self) -> str:
        return self.host.name if self.host else ""


@dataclass(frozen=True, slots=True)
class Case:
    """One model held against one request, on one host or on any."""

    standing: Standing
    demand: Demand

    @property
    def installed(self) -> InstalledModel | None:
        return self.standing.installed

    @property
    def capabilities(self) -> frozenset[str]:
        return self.standing.capabilities

    @property
    def num_ctx(self) -> int:
        return self.standing.num_ctx


_No = tuple[RejectionCode, str]
Gate = Callable[[Standing], _No | None]
RequestGate = Callable[[Standing, Demand], _No | None]


def first_rejection(case: Case) -> Rejection | None:
    """The first gate that says no, or None where the model may take the request."""
    standing, demand = case.standing, case.demand
    if standing.no_anywhere is not None:
        return standing.no_anywhere
    no = _capability(standing, demand) or _context(standing, demand)
    return standing.no_here if no is None else _rejection(standing, no)


def all_rejections(case: Case) -> Iterator[Rejection]:
    """Every gate that says no, in order."""
    standing = case.standing
    yield from _refusals(standing, ANYWHERE)
    for gate in ABOUT_THE_REQUEST:
        no = gate(standing, case.demand)
        if no is not None:
            yield _rejection(standing, no)
    yield from _refusals(standing, ON_A_HOST)


def _refusals(standing: Standing, gates: Iterable[Gate]) -> Iterator[Rejection]:
    for gate in gates:
        no = gate(standing)
        if no is not None:
            yield _rejection(standing, no)


def _rejection(standing: Standing, no: _No) -> Rejection:
    return Rejection(standing.tag, no[0], no[1], standing.host_name)


def _cloud(case: Standing) -> _No | None:
    if case.remote and not case.settings.allow_cloud:
        return "cloud", "would be answered on the internet; policy.allow_cloud is off"
    return None


def _deprecated(case: Standing) -> _No | None:
    return ("deprecated", "marked deprecated in the fleet file") if case.model.deprecated else None


def _licence(case: Standing) -> _No | None:
    licence = case.model.licence
    if case.settings.commercial_only and licence and not licence.commercial:
        return "licence", f"licence {licence.id} does not allow commercial use"
    return None


def _memory(case: Standing) -> _No | None:
    if case.remote:
        return None
    if case.host is not None and case.host.kind == "openai" and case.host.usable_memory_gb is None:
        return None  # it serves what it lists, and nobody said how much memory it has
    needs, usable = case.memory_gb, case.usable_memory_gb
    if needs <= usable:
        return None
    where = case.host.name if case.host else case.machine.name
    return "memory", f"needs {needs:.0f} GB with its context, {where} can use {usable:.0f} GB"


_LACKS = {
    "completion": "is an embedding model and cannot answer",
    "embedding": "cannot embed",
    "vision": "cannot see images",
    "tools": "cannot call tools",
    "insert": "cannot fill in text before a suffix",
}


def _capability(case: Standing, demand: Demand) -> _No | None:
    for need in demand.capabilities:
        if need not in case.capabilities and not _left_to_the_host(case, need, demand):
            return (
                "capability",
                f"{_LACKS[need]}; it has: {', '.join(sorted(case.capabilities)) or 'nothing'}",
            )
    if demand.images:
        most = case.model.quirks.max_images
        if most is not None and demand.images > most:
            return "capability", f"takes {most} image per request, this one has {demand.images}"
    return None


def _left_to_the_host(case: Standing, need: str, demand: Demand) -> bool:
    """Whether a model is asked although nothing says that it can: its server knows, and says so if not.

    Ollama embeds with whatever model is named (its ``EmbedHandler`` asks for no capability), and servers with
    OpenAI's API tell nothing of what their models can.
    """
    host = case.host
    if need == "embedding":
        return demand.request.model is not None and (host is None or host.kind != "embedded")
    return need == "insert" and host is not None and host.kind == "openai" and case.told is None


def room_tokens(case: Standing, demand: Demand) -> int:
    """How long a prompt may be at most, by its upper bound, to fit the context with its answer."""
    return case.num_ctx - _reserve(case, demand)


def _reserve(case: Standing, demand: Demand) -> int:
    return estimates.output_reserve(demand, case.model, case.settings.max_output_reserve_tokens)


def _context(case: Standing, demand: Demand) -> _No | None:
    prompt, reserve = demand.most_tokens(case.model.tokenizer), _reserve(case, demand)
    if prompt + reserve <= case.num_ctx or (demand.cuts and _can_cut(case)):
        return None
    return "context", (
        f"needs up to {prompt + reserve:,} tokens ({prompt:,} to read, {reserve:,} to answer), "
        f"its context is {case.num_ctx:,}"
    )


def _can_cut(case: Standing) -> bool:
    return case.host is None or case.host.kind == "ollama"


def _reachable(case: Standing) -> _No | None:
    host = case.host
    if host is None or host.reachable:
        return None
    if host.kind == "embedded":
        return "host_unreachable", f"the embedded engine cannot answer: {host.problem}"
    return "host_unreachable", f"no answer from {host.name} at {host.url}: {host.problem}"


def _version(case: Standing) -> _No | None:
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


def _installed(case: Standing) -> _No | None:
    host = case.host
    if host is None or not host.reachable or case.installed is not None:
        return None
    return "not_installed", f"not installed on {host.name}"


def _loadable(case: Standing) -> _No | None:
    if case.host is None:
        return None
    why = case.host.unusable.get(case.name_there)
    return ("unusable", f"{case.host.name} cannot load it: {why}") if why else None


def _healthy(case: Standing) -> _No | None:
    if case.host is None:
        return None
    why = case.host.unhealthy.get(case.name_there)
    return ("unhealthy", f"resting on {case.host.name}: {why}") if why else None


ANYWHERE: tuple[Gate, ...] = (_cloud, _deprecated, _licence, _memory)
ABOUT_THE_REQUEST: tuple[RequestGate, ...] = (_capability, _context)
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
