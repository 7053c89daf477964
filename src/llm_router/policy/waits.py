"""What else an answer waits for than its own work, and what it costs others. Pure arithmetic over values.

A host loads one model at a time, and its memory and its bandwidth are shared, so a candidate's time has four
parts: the queue before it, the loading of its model, its own reading and writing, slowed by those who write
at the same time. And every second that it holds up the host is a second for everybody who waits there.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from llm_router.fleet.schema import Machine
from llm_router.hosts import load as loads
from llm_router.hosts.load import QUIET, HostLoad
from llm_router.hosts.snapshot import HostSnapshot
from llm_router.policy.gates import Standing

KEPT_SHARE = 0.8
"""How much of its prompt a model need not read again when it answered the turn before."""


class Place(Struct, frozen=True):
    """Where a conversation was answered last."""

    model: str
    host: str


class Moment(Struct, frozen=True):
    """What a decision depends on that may be different for the next request.

    ``loads`` by the names of hosts. ``before`` is where the turn before was answered, and ``locked`` says
    that it must stay there, as in a loop of tool calls. ``deadline_s`` is how long the whole request may
    take, None where that has no limit. ``overdue`` are hosts that are not known to be down and have not
    told for a while what is true of them.
    """

    loads: Mapping[str, HostLoad] = field(default_factory=dict)
    before: Place | None = None
    locked: bool = False
    deadline_s: float | None = None
    overdue: frozenset[str] = frozenset()

    def load(self, host: str) -> HostLoad:
        return self.loads.get(host, QUIET)


STILL = Moment()
"""Nothing is known to go on anywhere."""


class Wait(Struct, frozen=True):
    """What a candidate's answer waits for, in seconds, and whom it holds up.

    ``slowed`` is by how much its own work takes longer; ``others`` are requests under way or waiting there,
    all of which its reading and writing slows, ``behind_load`` those that wait for other models to be loaded;
    ``regret_s`` is what the models that must leave would take to load again, as far as they are likely to be
    wanted; ``leaving`` are their names. ``fits`` is False where not even that gives enough room. ``load_s``
    is what its own loading still takes, None where that follows from what is in memory alone.
    """

    queue_s: float = 0.0
    slowed: float = 1.0
    others: int = 0
    behind_load: int = 0
    regret_s: float = 0.0
    leaving: tuple[str, ...] = ()
    fits: bool = True
    load_s: float | None = None


NO_WAIT = Wait()


class Scene:
    """What is the same for every candidate on a host: worked out once per decision, as far as it is asked."""

    __slots__ = ("_ahead", "_victims", "behind_load", "host", "load", "machine", "others", "writing")

    def __init__(self, host: HostSnapshot, load: HostLoad, machine: Machine) -> None:
        self.host = host
        self.load = load
        self.machine = machine
        self.others = sum([work.running + work.waiting for work in load.models.values()])
        self.writing = frozenset([name for name, work in load.models.items() if work.running])
        self.behind_load = sum([load.of(model).waiting for model in load.loads_waiting])
        self._ahead: dict[str, float] | None = None
        self._victims: tuple[tuple[loads.Victim, ...], float] | None = None

    def ahead_s(self, name: str) -> float:
        """Seconds of the loads that come before that of a model, without the one under way."""
        if self._ahead is None:
            self._ahead, sum_s = {}, 0.0
            for model in self.load.loads_waiting:
                self._ahead[model] = sum_s
                sum_s += self._load_s(model)
            self._ahead[""] = sum_s
        known = self._ahead.get(name)
        return self._ahead[""] if known is None else known

    def _load_s(self, model: str) -> float:
        """Of any model of the host, as measured, or by its size on disk."""
        installed = self.host.find_installed(model)
        size_gb = installed.size_bytes / 1e9 if installed is not None else 0.0
        prior_s = self.machine.load_overhead_s + size_gb / self.machine.load_gb_per_s
        return self.host.load_s(model, prior_s)

    def victims(self) -> tuple[tuple[loads.Victim, ...], float]:
        """Who may leave the memory, by what is lost, and the GB that all resident models fill."""
        if self._victims is None:
            machine, host = self.machine, self.host
            victims = loads.victims_of(host, self.load, 1.0 / machine.load_gb_per_s, machine.load_overhead_s)
            self._victims = loads.by_loss(victims), sum(host.resident_gb.values())
        return self._victims


def wait_of(standing: Standing, scene: Scene) -> Wait:
    """For a model on a host that loads and evicts; of other servers nothing is known."""
    host, load = scene.host, scene.load
    if host.kind != "ollama" or standing.remote or (load is QUIET and not host.resident):
        return NO_WAIT
    name = standing.name_there
    own = load.of(name)
    queue_s = 0.0
    if own.running + own.waiting >= load.parallel:
        queue_s = (own.running_s + own.waiting_s) / load.parallel
    slowed = 1.0 + len(scene.writing) - (name in scene.writing)
    if load.loading == name:
        return Wait(queue_s, slowed, scene.others, load_s=load.loading_left_s)
    if standing.warm and name not in load.leaving:
        return Wait(queue_s, slowed, scene.others)
    queue_s += load.loading_left_s + scene.ahead_s(name)
    room, fits = _room(standing, scene, name)
    busy_s = regret_s = 0.0
    for victim in room:
        regret_s += victim.reload_s
        busy_s = max(busy_s, victim.busy_s)
    joins = name in load.loads_waiting  # it will be loaded for others anyway
    return Wait(
        queue_s + busy_s,
        slowed,
        scene.others,
        0 if joins else scene.behind_load,
        0.0 if joins else regret_s,
        tuple([victim.name for victim in room]),
        fits,
        standing.speed.load_s,
    )


def _room(standing: Standing, scene: Scene, name: str) -> tuple[tuple[loads.Victim, ...], bool]:
    """Who must leave so that the model fits, and whether it then does. Its own copy with another context
    leaves first."""
    victims, resident_gb = scene.victims()
    memory_gb, usable_gb = standing.speed.memory_gb, standing.usable_memory_gb
    if name not in scene.load.kept:
        usable_gb -= scene.load.owed_gb
    own_gb, others = scene.host.resident_gb.get(name), len(scene.host.resident_gb)
    if own_gb is not None:
        others -= 1
        resident_gb -= own_gb
        victims = tuple([victim for victim in victims if victim.name != name])
    need_gb = loads.missing_gb(memory_gb, resident_gb, usable_gb)
    chosen = loads.first_victims(victims, need_gb, loads.missing_places(scene.load.max_models, others))
    if chosen is not None:
        return chosen, True
    kept_gb = resident_gb - sum(victim.size_gb for victim in victims)
    return victims, loads.missing_gb(memory_gb, kept_gb, usable_gb) <= 0
