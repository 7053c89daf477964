"""What must hold for every request and every world, tried on many of them."""

from __future__ import annotations

import base64
from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.worlds import classified, embedded, host, host_down

from llm_router.decision import Decision
from llm_router.fleet import load_fleet
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel, ResidentModel
from llm_router.policy import PolicySettings, World, decide, gates
from llm_router.policy.decide import case_for
from llm_router.request import ApiKind, Image, RouteRequest, Tool

FLEET = load_fleet()
PNG = Image("image/png", base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 16).decode())
NAMES = sorted(FLEET.models)

texts = st.text(min_size=1, max_size=60).filter(str.strip)


@st.composite
def requests(draw: st.DrawFn) -> RouteRequest:
    if draw(st.integers(0, 5)) == 0:
        return RouteRequest(kind=ApiKind.EMBEDDING, inputs=(draw(texts),))
    text = draw(texts) * draw(st.sampled_from([1, 1, 1, 40, 2000]))
    base = RouteRequest.from_text(text, images=[PNG] * draw(st.integers(0, 2)))
    tools = tuple(Tool(f"t{i}") for i in range(draw(st.integers(0, 2))))
    limit = draw(st.sampled_from([None, 10, 5000]))
    return msgspec.structs.replace(base, tools=tools, options={"num_predict": limit} if limit else {})


@st.composite
def hosts(draw: st.DrawFn, name: str = "h") -> HostSnapshot:
    if draw(st.integers(0, 6)) == 0:
        return host_down(name)
    installed = []
    for model in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        told = draw(st.sampled_from([None, "all", "completion"]))
        capabilities = {
            None: None,
            "all": frozenset({"completion", "vision", "tools"}),
            "completion": frozenset({"completion"}),
        }[told]
        installed.append(InstalledModel(model, capabilities=capabilities))
    warm = [m for m in installed if draw(st.booleans())][:3]
    return host(
        *installed,
        name=name,
        resident=[
            ResidentModel(m.name, context_length=draw(st.sampled_from([None, 4096, 8192]))) for m in warm
        ],
        version=draw(st.sampled_from(["0.24.0", "0.33.0-rc2"])),
        memory_gb=draw(st.sampled_from([None, 8.0, 24.0, 110.0])),
        unhealthy={m.name: "failed" for m in installed if draw(st.integers(0, 9)) == 0},
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    settings = PolicySettings(
        prefer=draw(st.sampled_from(["owner", "score"])),
        commercial_only=draw(st.booleans()),
        time_weight=draw(st.floats(0, 2)),
    )
    snapshots = [draw(hosts("a")), draw(hosts("b"))][: draw(st.integers(1, 2))]
    stand_in = (embedded(),) if draw(st.booleans()) else ()
    return World(FLEET, (*snapshots, *stand_in), settings)


categories = st.sampled_from(sorted(FLEET.categories))


def decided(request: RouteRequest, category: str, world: World) -> Decision:
    category = "embeddings" if request.kind is ApiKind.EMBEDDING else category
    return decide(request, classified(category), world)


@given(requests(), categories, worlds())
def test_every_model_of_the_chain_passes_every_gate_on_its_host(
    request: RouteRequest, category: str, world: World
) -> None:
    decision = decided(request, category, world)
    for candidate in decision.chain:
        snapshot = next(h for h in world.hosts if h.name == candidate.host)
        case = case_for(candidate.model, request, FLEET.category(decision.category), world, snapshot)
        assert gates.first_rejection(case) is None


@given(requests(), categories, worlds())
def test_the_chain_has_no_duplicates_and_a_model_is_not_both_chosen_and_rejected(
    request: RouteRequest, category: str, world: World
) -> None:
    decision = decided(request, category, world)
    places = [(c.model, c.host) for c in decision.chain]
    assert len(places) == len(set(places))
    assert not {c.model for c in decision.chain} & {r.model for r in decision.rejected}


@given(requests(), categories, worlds())
def test_every_model_of_the_category_is_either_in_the_chain_or_rejected_with_a_sentence(
    request: RouteRequest, category: str, world: World
) -> None:
    decision = decided(request, category, world)
    named = {c.model for c in decision.chain} | {r.model for r in decision.rejected}
    assert {choice.model for choice in FLEET.category(decision.category).models} <= named
    assert all(r.why and r.code for r in decision.rejected)


@given(requests(), categories, worlds())
def test_the_same_values_give_the_same_decision(request: RouteRequest, category: str, world: World) -> None:
    assert decided(request, category, world) == decided(request, category, world)


@given(requests(), categories, worlds(), st.floats(1.0, 50.0))
def test_more_memory_never_makes_a_model_ineligible(
    request: RouteRequest, category: str, world: World, factor: float
) -> None:
    def grown(snapshot: HostSnapshot) -> HostSnapshot:
        memory = snapshot.usable_memory_gb
        return replace(snapshot, usable_memory_gb=memory * factor if memory else None)

    larger = replace(world, hosts=tuple(grown(h) for h in world.hosts))
    before = {(c.model, c.host) for c in decided(request, category, world).chain if not c.stand_in}
    after = {(c.model, c.host) for c in decided(request, category, larger).chain}
    assert before <= after


@given(requests(), categories, worlds())
def test_the_stand_in_is_alone_or_absent(request: RouteRequest, category: str, world: World) -> None:
    decision = decided(request, category, world)
    if any(c.stand_in for c in decision.chain):
        assert len(decision.chain) == 1
        assert not request.images and not request.tools and request.kind is not ApiKind.EMBEDDING


@given(requests(), categories, worlds())
def test_the_selected_model_does_not_depend_on_the_hosts(
    request: RouteRequest, category: str, world: World
) -> None:
    nowhere = replace(world, hosts=(host_down(),))
    here, there = decided(request, category, world), decided(request, category, nowhere)
    assert here.selected_model == there.selected_model
    assert here.model_params == there.model_params


@given(st.lists(st.tuples(requests(), categories), min_size=2, max_size=6), worlds())
def test_what_a_world_remembers_changes_no_decision(
    asked: list[tuple[RouteRequest, str]], world: World
) -> None:
    for request, category in [*asked, *asked]:
        untouched = replace(world)
        assert decided(request, category, world) == decided(request, category, untouched)


@given(requests(), categories, worlds())
def test_the_first_rejection_is_the_first_of_all(request: RouteRequest, category: str, world: World) -> None:
    for tag in NAMES:
        for snapshot in (*world.fleet_hosts, None):
            case = case_for(tag, request, FLEET.category(category), world, snapshot)
            assert gates.first_rejection(case) == next(gates.all_rejections(case), None)


def test_a_longer_request_of_the_same_kind_is_judged_by_its_own_length() -> None:
    world = World(FLEET, (host(*NAMES, memory_gb=110.0),))
    short, long = RouteRequest.from_text("hello"), RouteRequest.from_text("hello there " * 20_000)
    for request in (short, long, short):
        decision = decided(request, "simple_chat", world)
        assert bool(decision.chain) == (request is short)
        assert any(r.code == "context" for r in decision.rejected) == (request is long)
