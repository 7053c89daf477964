"""Which model, who is next, why not the others. Values in, ``Decision`` out: no I/O, no clock, no chance.

candidates   the category's models (or the one asked for by name), on every host
gates        each may or may not, with a code and a sentence (``gates.py``)
score        quality - time_weight * t / (t + time_scale_s) - memory_weight * memory / usable
order        the fleet's choice first while it may (``prefer: owner``), then by score
stand-in     the embedded model, only where no candidate is left
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from llm_router.decision import Candidate, Classification, Decision, Rejection, Savings
from llm_router.errors import UnknownModel
from llm_router.fleet.fleet import Fleet
from llm_router.fleet.schema import Category, Choice, Model
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.policy import estimates, gates, reasons
from llm_router.policy.gates import Case
from llm_router.policy.needs import is_embedding_task
from llm_router.policy.settings import PolicySettings
from llm_router.request import RouteRequest


@dataclass(frozen=True, slots=True)
class World:
    """Everything a decision depends on besides the request and its classification."""

    fleet: Fleet
    hosts: tuple[HostSnapshot, ...]
    settings: PolicySettings = field(default_factory=PolicySettings)

    @property
    def fleet_hosts(self) -> tuple[HostSnapshot, ...]:
        return tuple(host for host in self.hosts if host.kind != "embedded")

    @property
    def embedded_hosts(self) -> tuple[HostSnapshot, ...]:
        return tuple(host for host in self.hosts if host.kind == "embedded")


def decide(request: RouteRequest, classification: Classification, world: World) -> Decision:
    """The decision for one request.

    An empty ``chain`` means that nothing here can answer; ``rejected`` then says why, model by model.
    Raises UnknownModel where the request names a model that neither the fleet nor a host knows.
    """
    fleet = world.fleet
    category = fleet.category(classification.category)
    choices = _choices(request, category, world)
    selected = choices[0].model if request.model else fleet.choice_for(classification.category)
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    for choice in choices:
        found, refused = _on_hosts(choice, request, category, world)
        candidates += found
        rejected += [] if found else gates.one_per_model(refused)
    chain = ranked(candidates, selected, world.settings)
    if not chain:
        chain, refused_stand_in = _stand_in(request, category, world)
        rejected += refused_stand_in
    facts = model_facts(selected, world)
    return Decision(
        classification=classification,
        selected_model=selected,
        chain=tuple(chain),
        rejected=tuple(rejected),
        reasons=reasons.reasons(request, classification, selected, chain, rejected, considered=len(choices)),
        model_params=facts.params,
        model_size_gb=facts.size_gb,
        request_tokens=request.estimate().tokens,
        planned=tuple(_planned(choices, request, category, world)),
        savings=_savings(selected, chain, request, category, world),
        warnings=reasons.warnings(request, chain),
    )


def ranked(candidates: Iterable[Candidate], selected: str, settings: PolicySettings) -> list[Candidate]:
    """Best first; ties go to higher quality, then less memory, then the name, so that order is stable."""

    def key(c: Candidate) -> tuple[bool, float, float, float, str, str]:
        behind_owner = settings.prefer == "owner" and c.model != selected
        return behind_owner, -c.score, -c.quality, c.estimate.memory_gb, c.model, c.host

    return sorted(candidates, key=key)


def model_facts(tag: str, world: World) -> Model:
    """The fleet's facts of a model, or what a host tells of one that the fleet does not list.

    Raises UnknownModel where neither knows it.
    """
    known = world.fleet.find(tag)
    if known is not None:
        return world.fleet.models[known]
    stand_in = world.fleet.stand_in
    if stand_in and stand_in.name == tag:
        return stand_in.model
    for host in world.fleet_hosts:
        installed = host.find_installed(tag)
        if installed:
            return _model_from(installed)
    names = [*world.fleet.models, *(name for host in world.fleet_hosts for name in host.installed)]
    raise UnknownModel.named(tag, names)


def case_for(
    tag: str, request: RouteRequest, category: Category | None, world: World, host: HostSnapshot | None
) -> Case:
    return Case(
        tag=tag,
        model=model_facts(tag, world),
        request=request,
        category=category,
        machine=world.fleet.machine,
        settings=world.settings,
        host=host,
    )


def _choices(request: RouteRequest, category: Category, world: World) -> Sequence[Choice]:
    if request.model is None:
        return category.models
    tag = world.fleet.find(request.model) or request.model
    for choice in category.models:
        if choice.model == tag:
            return (choice,)
    return (Choice(model=tag, quality=1.0, source="asked for by name"),)


def _on_hosts(
    choice: Choice, request: RouteRequest, category: Category, world: World
) -> tuple[list[Candidate], list[Rejection]]:
    found, refused = [], []
    for host in world.fleet_hosts:
        case = case_for(choice.model, request, category, world, host)
        rejection = gates.first_rejection(case)
        if rejection is None:
            found.append(_candidate(choice, case, host))
        else:
            refused.append(rejection)
    if not world.fleet_hosts:
        refused.append(Rejection(choice.model, "host_unreachable", "no host is configured"))
    return found, refused


def _candidate(choice: Choice, case: Case, host: HostSnapshot, *, stand_in: bool = False) -> Candidate:
    resident = host.find_resident(case.tag)
    warm = resident is not None and resident.context_length in (None, 0, case.num_ctx)
    expected = estimates.estimate(
        case.model,
        case.machine,
        prompt_tokens=case.request.estimate(case.model.tokenizer).tokens,
        answer_tokens=estimates.output_tokens(case.request, case.category, case.model),
        resident=warm,
    )
    settings = case.settings
    slowness = expected.total_s / (expected.total_s + settings.time_scale_s)
    fullness = expected.memory_gb / case.usable_memory_gb
    return Candidate(
        model=case.tag,
        host=host.name,
        served_as=host.served_as(case.tag),
        quality=choice.quality,
        quality_source=choice.source,
        resident=warm,
        estimate=expected,
        score=choice.quality - settings.time_weight * slowness - settings.memory_weight * fullness,
        num_ctx=case.num_ctx if host.kind == "ollama" else None,
        can_think="thinking" in case.capabilities,
        stand_in=stand_in,
    )


def _stand_in(
    request: RouteRequest, category: Category, world: World
) -> tuple[list[Candidate], list[Rejection]]:
    """The embedded model. It never takes over for a model that was asked for by name."""
    stand_in = world.fleet.stand_in
    if stand_in is None or request.model is not None:
        return [], []
    refused = []
    for host in world.embedded_hosts:
        case = case_for(stand_in.name, request, category, world, host)
        rejection = gates.first_rejection(case)
        if rejection is None:
            choice = Choice(model=stand_in.name, quality=0.0, source="stand-in")
            return [_candidate(choice, case, host, stand_in=True)], []
        refused.append(rejection)
    return [], refused


def _savings(
    selected: str,
    chain: Sequence[Candidate],
    request: RouteRequest,
    category: Category,
    world: World,
) -> Savings | None:
    """Against always using the baseline model, both resident, on the fleet's machine.

    Where the stand-in or nothing answers, the figures are those of the fleet's own choice.
    """
    baseline = world.fleet.baseline
    answering = chain[0].model if chain and not chain[0].stand_in else selected
    if baseline is None or answering == baseline or is_embedding_task(request, category):
        return None
    big, small = (_resident_cost(tag, request, category, world) for tag in (baseline, answering))
    return Savings(baseline, big[0] - small[0], big[1] - small[1])


def _resident_cost(tag: str, request: RouteRequest, category: Category, world: World) -> tuple[float, float]:
    model, machine = model_facts(tag, world), world.fleet.machine
    cost = estimates.estimate(
        model,
        machine,
        prompt_tokens=request.estimate(model.tokenizer).tokens,
        answer_tokens=estimates.output_tokens(request, category, model),
        resident=True,
    )
    return cost.memory_gb, cost.answering_s


def _model_from(installed: InstalledModel) -> Model:
    """A model that only a host knows, as far as the host tells."""
    size_gb = max(installed.size_bytes / 1e9, 0.001)
    known = {"completion", "tools", "vision", "thinking", "embedding", "insert"}
    told = installed.capabilities
    return Model(
        size_gb=size_gb,
        params=installed.params or "unknown",
        context_length=max(installed.context_length or 8192, 128),
        kv_kib_per_token=installed.kv_kib_per_token,
        capabilities=tuple(sorted(told & known)) if told is not None else ("completion",),  # type: ignore[arg-type]
        architecture=installed.architecture,
        quantization=installed.quantization,
    )


def _planned(
    choices: Sequence[Choice], request: RouteRequest, category: Category, world: World
) -> Iterator[str]:
    """Models that could take the request if a host had them, in the fleet's order."""
    for choice in choices:
        if gates.first_rejection(case_for(choice.model, request, category, world, None)) is None:
            yield choice.model


__all__ = ["World", "case_for", "decide", "model_facts", "ranked"]
