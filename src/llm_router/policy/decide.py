"""Which model, who is next, why not the others. Values in, ``Decision`` out: no I/O, no clock, no chance.

candidates   the category's models (or the one asked for by name), on every host
gates        each may or may not, with a code and a sentence (``gates.py``)
wait         the queue of its host, who must leave the memory for it, whom it holds up (``waits.py``)
score        quality - what its time costs, for who asks and for those who wait - what its memory costs
order        by score; with ``prefer: owner`` the fleet's choice is what gets loaded: what is in memory
             already goes before it, and while others wait what holds them up less; with ``map`` nothing does,
             and the fleet's order is the order
deadline     whoever is expected to take longer than the request may comes after all others
stand-in     the embedded model, only where no candidate is left, or where it is asked for by its name
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from llm_router.decision import Candidate, Classification, Decision, Estimate, Ranking, Rejection, Savings
from llm_router.errors import UnknownModel
from llm_router.fleet.fleet import Fleet
from llm_router.fleet.schema import Category, Choice, Model
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.names import same_model
from llm_router.policy import estimates, gates, reasons, waits
from llm_router.policy.gates import Case, Standing
from llm_router.policy.needs import Demand
from llm_router.policy.settings import PolicySettings
from llm_router.policy.waits import STILL, Moment, Place, Scene
from llm_router.request import RouteRequest
from llm_router.tokens import TokenizerFamily


@dataclass(frozen=True)
class World:
    """Everything a decision depends on besides the request and its classification.

    It also keeps what follows from it for every request alike, so use one World as long as nothing changed.
    """

    fleet: Fleet
    hosts: tuple[HostSnapshot, ...]
    settings: PolicySettings = dataclasses.field(default_factory=PolicySettings)

    @cached_property
    def fleet_hosts(self) -> tuple[HostSnapshot, ...]:
        return tuple(host for host in self.hosts if host.kind != "embedded")

    @cached_property
    def embedded_hosts(self) -> tuple[HostSnapshot, ...]:
        return tuple(host for host in self.hosts if host.kind == "embedded")

    @cached_property
    def _standings(self) -> dict[tuple[str, str], Standing]:
        return {}

    @cached_property
    def _fields(self) -> dict[_Kind, _Field]:
        return {}

    @cached_property
    def _rankings(self) -> dict[_RankedBy, _Ranked]:
        return {}

    def standing(self, tag: str, host: HostSnapshot | None = None) -> Standing:
        """A model on a host, or on any; ``host`` may be one of this world in another state.

        Raises UnknownModel where neither the fleet nor a host knows the model.
        """
        key = tag, host.name if host else ""
        known = self._standings.get(key)
        if known is None or known.host is not host:
            model = model_facts(tag, self)
            known = Standing(tag, model, self.fleet.machine, self.settings, host)
            self._standings[key] = known
        return known


def decide(
    request: RouteRequest, classification: Classification, world: World, moment: Moment = STILL
) -> Decision:
    """The decision for one request. ``moment`` is what goes on at the hosts and in the conversation.

    An empty ``chain`` means that nothing here can answer; ``rejected`` then says why, model by model.
    Raises UnknownModel where the request names a model that neither the fleet nor a host knows.
    """
    demand = Demand(request, world.fleet.category(classification.category))
    field = _field(classification.category, demand, world)
    ranking, why, warnings = field.ranking(demand, world, moment)
    told = reasons.warnings(request, classification, ranking.chain, warnings)
    if demand.embeds and ranking.chain:
        told += _about_vectors(ranking.chain, demand, world)
    return Decision(
        classification,
        field.selected,
        ranking,
        (reasons.of_category(classification), *why),
        field.facts.params,
        field.facts.size_gb,
        demand.tokens("large"),
        told,
    )


def ranked(
    candidates: Iterable[Candidate],
    selected: str,
    settings: PolicySettings,
    *,
    listed: Iterable[str] = (),
    locked: bool = False,
    deadline_s: float | None = None,
    overdue: Set[str] = frozenset(),
) -> list[Candidate]:
    """Best first; ties go to higher quality, then less memory, then the name, so that order is stable.

    With ``prefer: owner`` the fleet's choice stands before all that score lower, and before those that score
    higher and would have to be loaded, unless it holds up others for more than its lead in quality is worth.
    With ``map`` models stand in the order of ``listed``, the fleet's, and the score only orders the hosts of
    one. With ``locked`` who answered the turn before goes on, whatever the score.

    Who is expected to take longer than ``deadline_s`` comes after all who are not, the quickest first: an
    answer that is late is none. Nobody is left out for it, for an estimate may be wrong.

    Of the hosts of one model those that are ``overdue`` come last: they may never answer. That puts no late
    answer before one in time.
    """
    candidates = list(candidates)
    if len(candidates) < 2:
        return candidates
    places: dict[str, int] = {}
    own: Candidate | None = None
    if settings.prefer == "map":
        places = {model: place for place, model in enumerate(dict.fromkeys(listed))}
    elif settings.prefer == "owner":
        own = max(
            (c for c in candidates if c.model == selected and not c.is_late(deadline_s)),
            key=lambda c: (c.score, -c.held_up_cost, c.quality),
            default=None,
        )

    def key(c: Candidate) -> tuple[bool, float, int, bool, float, float, float, str, str]:
        late_s = c.late_s(deadline_s)
        goes_on = locked and c.stays
        behind = own is not None and c.model != selected and not _goes_before(c, own)
        place = places.get(c.model, len(places))
        return not goes_on, late_s, place, behind, -c.score, -c.quality, c.estimate.memory_gb, c.model, c.host

    return _overdue_last(sorted(candidates, key=key), overdue, deadline_s)


def _overdue_last(chain: list[Candidate], overdue: Set[str], deadline_s: float | None) -> list[Candidate]:
    """Every model keeps its places in the chain; which of its hosts has which of them changes."""
    if not overdue:
        return chain
    hosts: dict[tuple[str, bool], list[Candidate]] = {}
    for candidate in sorted(chain, key=lambda c: c.host in overdue):
        hosts.setdefault((candidate.model, candidate.is_late(deadline_s)), []).append(candidate)
    return [hosts[candidate.model, candidate.is_late(deadline_s)].pop(0) for candidate in chain]


def _goes_before(other: Candidate, own: Candidate) -> bool:
    """Whether another model may stand before the fleet's choice, with ``prefer: owner``.

    The fleet's owner may well let those wait who get the model chosen for them. But everybody else at the
    host waits for that load and that answer too, and they have asked for neither: where that costs more than
    the choice is better, the score decides.
    """
    if other.score <= own.score:
        return False
    spared = own.held_up_cost - other.held_up_cost
    return other.resident or spared > max(0.0, own.quality - other.quality)


def model_facts(tag: str, world: World) -> Model:
    """The fleet's facts of a model, or what a host tells of one that the fleet does not list.

    Raises UnknownModel where neither knows it.
    """
    known = world.fleet.find(tag)
    if known is not None:
        return world.fleet.models[known]
    stand_in = world.fleet.stand_in
    if stand_in and same_model(stand_in.name, tag):
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
    return Case(world.standing(tag, host), Demand(request, category))


def _choices(request: RouteRequest, category: str, world: World) -> Sequence[Choice]:
    listed = world.fleet.category(category).models
    if request.model is None:
        return listed
    tag = world.fleet.find(request.model) or request.model
    stand_in = world.fleet.stand_in
    if stand_in is not None and same_model(tag, stand_in.name):
        tag = stand_in.name
    for choice in listed:
        if choice.model == tag:
            return (choice,)
    return (Choice(model=tag, quality=1.0, source="asked for by name"),)


@dataclass(frozen=True, slots=True)
class _Place:
    """A model on a host that may take the request; ``unread`` is what an answer costs without the prompt."""

    choice: Choice
    standing: Standing
    host: HostSnapshot
    unread: Estimate
    memory_cost: float
    stand_in: bool = False


_Ranked = tuple[Ranking, tuple[str, ...], tuple[str, ...]]
"""Who answers, why (all sentences but the one about the kind of task), and what to know of it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """What the gates say of every model that comes into question.

    ``selected`` is the one that was meant, ``facts`` are its own and ``why_selected`` is a sentence.

    It is the same for all requests of the same kind whose upper bound of tokens is at most ``room_tokens``;
    that is empty where it is for this one alone: it names a model, or some model was too small for it.
    """

    selected: str
    why_selected: str
    facts: Model
    considered: int
    places: tuple[_Place, ...]
    rejected: tuple[Rejection, ...]
    planned: tuple[str, ...]
    room_tokens: Mapping[TokenizerFamily, int]

    def holds_for(self, demand: Demand) -> bool:
        for family, room in self.room_tokens.items():  # noqa: SIM110 - as `all` it takes twice as long
            if demand.most_tokens(family) > room:
                return False
        return True

    def ranking(self, demand: Demand, world: World, moment: Moment) -> _Ranked:
        """Where nothing goes on, it depends on the request by its length, its deadline and who answered the
        turn before, so that requests which are about as long share it."""
        if not self.room_tokens or moment.loads or moment.overdue:
            return self._ranked(demand, world, moment)
        tokens = demand.paced_tokens("large"), demand.paced_tokens("small")
        by: _RankedBy = self, *tokens, moment.deadline_s, moment.before, moment.locked
        known = world._rankings.get(by)
        if known is None:
            known = self._ranked(demand, world, moment)
            if len(world._rankings) >= _RANKINGS_KEPT:
                world._rankings.clear()
            world._rankings[by] = known
        return known

    def _ranked(self, demand: Demand, world: World, moment: Moment) -> _Ranked:
        machine = world.fleet.machine
        scenes = {host.name: Scene(host, moment.load(host.name), machine) for host in world.fleet_hosts}
        impatience = _impatience(world.settings, demand)
        found = [_candidate(place, demand, moment, scenes, impatience) for place in self.places]
        listed = (place.standing.tag for place in self.places)
        chain = ranked(
            found,
            self.selected,
            world.settings,
            listed=listed,
            locked=moment.locked,
            deadline_s=moment.deadline_s,
            overdue=moment.overdue,
        )
        savings = _savings(self.selected, chain, demand, world)
        ranking = Ranking(tuple(chain), self.rejected, self.planned, savings, moment.deadline_s)
        why = reasons.of_ranking(ranking, self.selected, considered=self.considered)
        return ranking, (self.why_selected, *why), reasons.warnings_of_ranking(ranking)


_Kind = tuple[str, tuple[str, ...], int, int | None]
"""Everything but the length that tells requests apart at the gates."""

_RankedBy = tuple[_Field, int, int, float | None, Place | None, bool]
"""By the field itself: one that was put together anew, for longer texts, may hold others."""

_NO_ROOM = 1.0
"""What it costs, in quality, that models which nothing may evict leave no room: it comes after all others."""

_FIELDS_KEPT = 512
_RANKINGS_KEPT = 2048
"""Of all fields together, about 7 kB each: lengths of answers and times are the caller's to choose."""


def _field(category: str, demand: Demand, world: World) -> _Field:
    """Who may take the request, from what is known of its kind where that holds for it too."""
    if demand.request.model is not None:
        return _looked_over(category, demand, world)
    kind: _Kind = category, demand.capabilities, demand.images, demand.output_limit
    known = world._fields.get(kind)
    if known is not None and known.holds_for(demand):
        return known
    found = _looked_over(category, demand, world)
    if found.room_tokens:
        if len(world._fields) >= _FIELDS_KEPT:
            world._fields.clear()
            world._rankings.clear()
        world._fields[kind] = found
    return found


def _looked_over(category: str, demand: Demand, world: World) -> _Field:
    """A text to embed that may be cut is so only where nobody can read all of it."""
    field = _held_against(category, demand, world)
    if field.places or not (demand.embeds and demand.request.truncate):
        return field
    cut = _held_against(category, Demand(demand.request, demand.category, cuts=True), world)
    return dataclasses.replace(cut, room_tokens=field.room_tokens)


def _held_against(category: str, demand: Demand, world: World) -> _Field:
    gate = _Gate(demand)
    choices, named = _choices(demand.request, category, world), demand.request.model is not None
    selected = choices[0].model if named else world.fleet.choice_for(category)
    places: list[_Place] = []
    rejected: list[Rejection] = []
    least_quality = demand.category.least_quality if demand.category is not None else 0.0
    for choice in choices:
        if choice.quality < least_quality and not named:
            why = f"its quality {choice.quality:.2f} is below the least of the category, {least_quality:.2f}"
            rejected.append(Rejection(choice.model, "quality", why))
            continue
        found, refused = _on_hosts(choice, gate, world)
        places += found
        rejected += [] if found else gates.one_per_model(refused)
    if not places:
        places, refused = _embedded(gate, world)
        if not named:
            rejected += refused
        elif places or refused:  # it was meant by its name: where else it is not says nothing
            rejected = refused
    return _Field(
        selected=selected,
        why_selected=reasons.of_selected(selected, category, named=named),
        facts=world.standing(selected).model,
        considered=len(choices),
        places=tuple(places),
        rejected=tuple(rejected),
        planned=tuple(c.model for c in choices if gate.rejection(world.standing(c.model)) is None),
        room_tokens={} if named else gate.room_tokens,
    )


class _Gate:
    """Holds models against one request, and remembers how much longer it could be for the same outcome."""

    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self._room_tokens: dict[TokenizerFamily, int] = {}
        self._all_fit = True

    @property
    def room_tokens(self) -> Mapping[TokenizerFamily, int]:
        return self._room_tokens if self._all_fit else {}

    def rejection(self, standing: Standing) -> Rejection | None:
        rejection = gates.first_rejection(Case(standing, self.demand))
        if rejection is None or rejection is standing.no_here:
            family = standing.model.tokenizer
            room = gates.room_tokens(standing, self.demand)
            self._room_tokens[family] = min(room, self._room_tokens.get(family, room))
        elif rejection.code == "context":
            self._all_fit = False
        return rejection


def _on_hosts(choice: Choice, gate: _Gate, world: World) -> tuple[list[_Place], list[Rejection]]:
    found, refused = [], []
    for host in world.fleet_hosts:
        standing = world.standing(choice.model, host)
        rejection = gate.rejection(standing)
        if rejection is None:
            found.append(_place(choice, standing, host, gate.demand))
        else:
            refused.append(rejection)
    if not world.fleet_hosts:
        refused.append(Rejection(choice.model, "host_unreachable", "no host is configured"))
    return found, refused


def _embedded(gate: _Gate, world: World) -> tuple[list[_Place], list[Rejection]]:
    """The embedded model. It never takes over for another that was asked for by name."""
    stand_in, named = world.fleet.stand_in, gate.demand.request.model
    if stand_in is None or (named is not None and not same_model(named, stand_in.name)):
        return [], []
    refused = []
    for host in world.embedded_hosts:
        standing = world.standing(stand_in.name, host)
        rejection = gate.rejection(standing)
        if rejection is None:
            source = "stand-in" if named is None else "asked for by name"
            choice = Choice(model=stand_in.name, quality=0.0, source=source)
            return [_place(choice, standing, host, gate.demand, stand_in=named is None)], []
        refused.append(rejection)
    return [], refused


def _place(
    choice: Choice, standing: Standing, host: HostSnapshot, demand: Demand, *, stand_in: bool = False
) -> _Place:
    unread = estimates.estimate(
        standing.speed,
        prompt_tokens=0,
        answer_tokens=estimates.output_tokens(demand, standing.model),
        resident=standing.warm,
    )
    memory_cost = standing.settings.memory_weight * (unread.memory_gb / standing.usable_memory_gb)
    return _Place(choice, standing, host, unread, memory_cost, stand_in)


def _impatience(settings: PolicySettings, demand: Demand) -> float:
    """How much time counts, against the weights as they stand."""
    impatience = (1 - settings.balance) / settings.balance
    return impatience / demand.category.patience if demand.category is not None else impatience


def _candidate(
    place: _Place, demand: Demand, moment: Moment, scenes: Mapping[str, Scene], impatience: float
) -> Candidate:
    standing, quality, unread = place.standing, place.choice.quality, place.unread
    settings, host = standing.settings, place.host
    wait = waits.NO_WAIT if host.kind == "embedded" else waits.wait_of(standing, scenes[host.name])
    before = moment.before
    stays = before is not None and before.host == host.name and before.model == standing.tag
    prefill_s = demand.paced_tokens(standing.model.tokenizer) / standing.speed.prefill_tokens_per_s
    load_s = unread.load_s if wait.load_s is None else wait.load_s
    resident = standing.warm and not load_s
    if stays and resident:
        prefill_s *= 1 - waits.KEPT_SHARE
    expected = Estimate(
        load_s,
        prefill_s,
        unread.decode_s * wait.slowed,
        unread.memory_gb,
        unread.output_tokens,
        wait.queue_s,
        unread.samples,
    )
    total_s = expected.total_s
    slowness = settings.time_weight * total_s / (total_s + settings.time_scale_s)
    price_per_s = impatience * settings.crowd_weight / 60.0
    held_up_s = math.sqrt(wait.others) * (prefill_s + unread.decode_s) + math.sqrt(wait.behind_load) * load_s
    held_up_cost = price_per_s * held_up_s
    score = quality - impatience * slowness - held_up_cost - price_per_s * wait.regret_s - place.memory_cost
    if stays:
        score += settings.stay_bonus
    if not wait.fits:
        score -= _NO_ROOM
    return Candidate(
        standing.tag,
        host.name,
        standing.served_as,
        quality,
        place.choice.source,
        resident,
        expected,
        score,
        standing.num_ctx if host.kind == "ollama" else None,
        standing.can_think,
        place.stand_in,
        standing.remote,
        wait.leaving,
        wait.regret_s,
        wait.others,
        stays,
        held_up_cost,
    )


def _resident_cost(standing: Standing, demand: Demand) -> tuple[float, float]:
    """GB and seconds of an answer by a model that is resident."""
    speed, model = standing.speed, standing.model
    prefill_s = demand.paced_tokens(model.tokenizer) / speed.prefill_tokens_per_s
    decode_s = estimates.output_tokens(demand, model) / speed.decode_tokens_per_s
    return speed.memory_gb, prefill_s + decode_s


def _about_vectors(chain: Sequence[Candidate], demand: Demand, world: World) -> tuple[str, ...]:
    """What a caller should know of the vectors that it gets."""
    best = chain[0]
    host = next(host for host in world.hosts if host.name == best.host)
    standing = world.standing(best.model, host)
    told = []
    if "embedding" not in standing.capabilities:
        told.append(f"{best.model} is not made for embedding; it was asked for by name")
    longest = demand.most_tokens(standing.model.tokenizer)
    if demand.request.truncate and longest > standing.num_ctx:
        told.append(
            f"a text of up to {longest:,} tokens is cut to the {standing.num_ctx:,} that {best.model} reads, "
            "unless truncate is false"
        )
    return tuple(told)


def _savings(selected: str, chain: Sequence[Candidate], demand: Demand, world: World) -> Savings | None:
    """Against always using the baseline model, both resident, on the fleet's machine.

    Where the stand-in or nothing answers, the figures are those of the fleet's own choice.
    """
    baseline = world.fleet.baseline
    answering = chain[0].model if chain and not chain[0].stand_in else selected
    if baseline is None or answering == baseline or demand.embeds:
        return None
    big, small = (_resident_cost(world.standing(tag), demand) for tag in (baseline, answering))
    return Savings(baseline, big[0] - small[0], big[1] - small[1])


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


__all__ = ["World", "case_for", "decide", "model_facts", "ranked"]
