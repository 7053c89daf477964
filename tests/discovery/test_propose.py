"""A fleet file made of what is installed: it loads, and nothing in it is asked for what it cannot do."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_router.decision import Classification
from llm_router.discovery import Proposal, as_yaml, propose
from llm_router.discovery.observed import is_same_model, params_b
from llm_router.errors import LLMRouterError
from llm_router.fleet import Fleet, load_fleet
from llm_router.hosts.memory import MachineMemory, is_loopback, machine_memory, parse_meminfo
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.policy import World, decide
from llm_router.providers.ollama import OllamaProvider
from llm_router.request import ApiKind, Image, RouteRequest
from llm_router.testing.fake_models import FLEET_NAMES
from llm_router.testing.fake_ollama import FakeModel, FakeOllama, fleet_models

SHIPPED = load_fleet()
QWEN3 = InstalledModel(
    "qwen3:8b",
    size_bytes=5_200_000_000,
    capabilities=frozenset({"completion", "tools", "thinking"}),
    context_length=40960,
    architecture="qwen3",
    params="8.2B",
    quantization="Q4_K_M",
    digest="aa",
    kv_kib_per_token=144,
    licence="Apache License",
)
LLAVA = InstalledModel(
    "llava:7b",
    size_bytes=4_700_000_000,
    capabilities=frozenset({"completion", "vision"}),
    context_length=32768,
    architecture="llama",
    params="7.2B",
    digest="bb",
    kv_kib_per_token=128,
)
EMBEDDER = InstalledModel(
    "nomic-embed-text:latest",
    size_bytes=274_000_000,
    capabilities=frozenset({"embedding"}),
    context_length=2048,
    architecture="nomic-bert",
    params="137M",
    digest="cc",
)


def host(*models: InstalledModel, name: str = "ollama", **arguments: object) -> HostSnapshot:
    return HostSnapshot(
        name=name,
        kind="ollama",
        url="http://127.0.0.1:11434",
        reachable=True,
        version="0.33.0",
        installed={model.name: model for model in models},
        **arguments,  # type: ignore[arg-type]
    )


def loaded(proposal: Proposal, folder: Path) -> Fleet:
    path = folder / "fleet.yaml"
    path.write_text(as_yaml(proposal), encoding="utf-8")
    return load_fleet([path])


def leads(proposal: Proposal) -> dict[str, str]:
    return {name: category.models[0].model for name, category in proposal.categories.items()}


def test_three_unknown_models_serve_all_eighteen_categories(tmp_path: Path) -> None:
    proposal = propose([host(QWEN3, LLAVA, EMBEDDER)], SHIPPED, memory_gb=14)
    assert set(proposal.categories) == set(SHIPPED.categories)
    first = leads(proposal)
    assert {first[name] for name in ("max_vision", "fast_vision", "hybrid_reasoner")} == {"llava:7b"}
    assert first["embeddings"] == "nomic-embed-text"
    assert {
        m for n, m in first.items() if "vision" not in n and n not in ("hybrid_reasoner", "embeddings")
    } == {"qwen3:8b"}
    assert (proposal.baseline, proposal.default_category) == ("qwen3:8b", "default_general")
    assert loaded(proposal, tmp_path).default_category == "default_general"


def test_the_file_says_exactly_what_was_proposed(tmp_path: Path) -> None:
    proposal = propose([host(QWEN3, LLAVA, EMBEDDER)], SHIPPED, memory_gb=14, made_on="2026-01-05")
    fleet = loaded(proposal, tmp_path)
    assert dict(fleet.models) == dict(proposal.models)
    assert dict(fleet.categories) == dict(proposal.categories)
    assert (fleet.router, fleet.baseline, fleet.machine) == (
        proposal.router,
        proposal.baseline,
        proposal.machine,
    )
    assert fleet.stand_in == SHIPPED.stand_in
    assert "2026-01-05" in as_yaml(proposal)


def test_a_model_that_lives_on_the_internet_is_left_out_whatever_it_is_called() -> None:
    elsewhere = (
        dataclasses.replace(LLAVA, name="big:120b-cloud", digest="dd"),
        dataclasses.replace(LLAVA, name="mine", digest="ee", remote_host="https://example.com"),
    )
    proposal = propose([host(QWEN3, *elsewhere)], SHIPPED, memory_gb=14)
    assert set(proposal.models) == {"qwen3:8b"}
    assert "internet" in proposal.left_out["big:120b-cloud"] and "internet" in proposal.left_out["mine"]


def test_facts_of_an_unknown_model_are_the_servers_own() -> None:
    model = propose([host(QWEN3)], SHIPPED, memory_gb=14).models["qwen3:8b"]
    assert (model.size_gb, model.params_b, model.context_length) == (5.2, 8.2, 40960)
    assert model.capabilities == ("completion", "tools", "thinking")
    assert model.languages == ()
    assert model.licence is not None
    assert (model.licence.id, model.licence.commercial) == ("Apache-2.0", True)
    assert model.num_ctx == 16384, "2.4 GB of KV, below twice a quarter of 5.2 GB"


def test_a_known_model_keeps_the_shipped_facts_and_quality() -> None:
    gemma = InstalledModel("gemma2:9b", 5_400_000_000, frozenset({"completion"}), 8192, "gemma2", "9.2B")
    proposal = propose([host(gemma)], SHIPPED, memory_gb=14)
    assert proposal.models["gemma2:9b"].quirks == SHIPPED.models["gemma2:9b"].quirks
    assert proposal.models["gemma2:9b"].tokenizer == "large"
    shipped = next(c for c in SHIPPED.categories["simple_chat"].models if c.model == "gemma2:9b")
    assert proposal.categories["simple_chat"].models[0].quality == shipped.quality


def test_a_tiny_file_under_a_known_name_does_not_inherit_its_facts() -> None:
    fake = InstalledModel("qwen2.5:14b", 98_000_000, frozenset({"completion"}), 8192, "llama", "134.52M")
    proposal = propose([host(fake)], SHIPPED, memory_gb=14)
    assert proposal.known == frozenset()
    assert proposal.models["qwen2.5:14b"].params_b == pytest.approx(0.13452)
    assert proposal.categories["structured_data"].models[0].quality < 0.2


def test_a_model_that_calls_itself_vision_is_believed_only_by_its_capabilities() -> None:
    liar = InstalledModel(
        "super-vision-llava:7b", 4_000_000_000, frozenset({"completion"}), 8192, "llama", "7B"
    )
    seer = InstalledModel("plain:4b", 3_000_000_000, frozenset({"completion", "vision"}), 8192, "x", "4B")
    proposal = propose([host(liar, seer)], SHIPPED, memory_gb=14)
    assert [c.model for c in proposal.categories["max_vision"].models] == ["plain:4b"]


def test_without_a_vision_model_the_vision_categories_are_left_out_with_a_comment() -> None:
    proposal = propose([host(QWEN3)], SHIPPED, memory_gb=14)
    assert {"max_vision", "fast_vision", "hybrid_reasoner", "embeddings"} == set(proposal.unserved)
    text = as_yaml(proposal)
    assert "#   max_vision: no installed model can see pictures; for example: ollama pull llava:13b" in text
    assert "\n  max_vision:" not in text


def test_a_model_that_the_memory_cannot_hold_is_left_out_with_its_numbers() -> None:
    large = InstalledModel("big:70b", 42_000_000_000, frozenset({"completion"}), 131072, "llama", "70B")
    proposal = propose([host(QWEN3, large)], SHIPPED, memory_gb=14)
    assert "14 GB" in proposal.left_out["big:70b"]
    assert "big:70b" not in proposal.models
    assert "#   big:70b: needs" in as_yaml(proposal)


def test_a_long_plan_shrinks_until_it_fits_the_memory() -> None:
    model = InstalledModel(
        "llama3.1:70b", 43_000_000_000, frozenset({"completion", "tools"}), 131072, "llama", "70.6B"
    )
    roomy = propose([host(model)], SHIPPED, memory_gb=112).models["llama3.1:70b"]
    tight = propose([host(model)], SHIPPED, memory_gb=48).models["llama3.1:70b"]
    assert roomy.num_ctx == 65536
    assert tight.num_ctx == 8192
    assert tight.memory_gb <= 48


def test_an_architecture_this_server_no_longer_loads_is_left_out() -> None:
    sees = InstalledModel(
        "llama3.2-vision:11b", 7_900_000_000, frozenset({"completion", "vision"}), 131072, "mllama", "10.7B"
    )
    proposal = propose([host(QWEN3, sees)], SHIPPED, memory_gb=14)
    assert "0.30.0" in proposal.left_out["llama3.2-vision:11b"]


def test_two_names_of_one_file_are_one_model() -> None:
    alias = dataclasses.replace(QWEN3, name="my-favourite:latest")
    proposal = propose([host(QWEN3, alias)], SHIPPED, memory_gb=14)
    assert list(proposal.models) == ["qwen3:8b"]
    assert "same file" in proposal.left_out["my-favourite"]


def test_one_model_gets_a_longer_plan_where_no_other_could_read_long_documents() -> None:
    small = InstalledModel(
        "m:7b", 4_400_000_000, frozenset({"completion"}), 131072, "llama", "7B", kv_kib_per_token=128
    )
    proposal = propose([host(small)], SHIPPED, memory_gb=14)
    least = SHIPPED.categories["long_context"].requires.min_context_tokens
    assert (proposal.models["m:7b"].num_ctx or 0) > least
    assert [c.model for c in proposal.categories["long_context"].models] == ["m:7b"]


def test_mission_control_is_the_smallest_model_that_answers_without_thinking() -> None:
    def small(name: str, size_gb: float, params: str, *more: str) -> InstalledModel:
        return InstalledModel(
            name, round(size_gb * 1e9), frozenset({"completion", *more}), 32768, "x", params, digest=name
        )

    models = (
        small("thinks:1b", 0.8, "1B", "thinking"),
        small("right:3b", 2.0, "3B"),
        small("dwarf:135m", 0.1, "135M"),
        small("large:8b", 5.0, "8B"),
    )
    assert propose([host(*models)], SHIPPED, memory_gb=14).router == "right:3b"
    assert propose([host(models[0], models[2])], SHIPPED, memory_gb=14).router is None


def test_a_large_model_does_not_answer_greetings_where_a_smaller_one_is_good_enough() -> None:
    large = InstalledModel("big:70b", 42_000_000_000, frozenset({"completion"}), 32768, "llama", "70B")
    first = leads(propose([host(QWEN3, large)], SHIPPED, memory_gb=112))
    assert first["simple_chat"] == "qwen3:8b"
    assert first["max_quality_general"] == "big:70b"


async def test_a_model_rated_for_a_category_goes_before_smaller_ones_that_are_not() -> None:
    names = ["llama3.2:1b", "mistral:7b", "gemma2:9b", "nous-hermes2", "phi4", "qwen2.5:14b"]
    async with FakeOllama(fleet_models(names)) as server:
        provider = OllamaProvider("ollama", server.url)
        snapshot = await provider.snapshot()
        await provider.close()
    categories = propose([snapshot], SHIPPED, memory_gb=22).categories
    order = {name: [choice.model for choice in category.models] for name, category in categories.items()}
    assert order["max_reasoning"][:2] == ["phi4", "qwen2.5:14b"]
    assert order["max_rag"][:2] == ["qwen2.5:14b", "phi4"]
    assert order["efficient_reasoning"][0] == "phi4"


def test_non_commercial_licences_are_marked() -> None:
    licence = "Creative Commons Attribution-NonCommercial 4.0 International"
    model = propose([host(dataclasses.replace(QWEN3, licence=licence))], SHIPPED, memory_gb=14).models[
        "qwen3:8b"
    ]
    assert model.licence is not None
    assert not model.licence.commercial


def test_names_that_look_like_yaml_survive(tmp_path: Path) -> None:
    names = ("no", "1e3", "a: b", "#x", 'it\'s "odd"', "한국어:7b", "- list", "x\u2028y", "{a}", "null")
    models = [dataclasses.replace(QWEN3, name=name, digest=name) for name in names]
    proposal = propose([host(*models)], SHIPPED, memory_gb=14)
    survivors = {name for name in names if name.isprintable()}
    assert set(loaded(proposal, tmp_path).models) == survivors
    assert set(proposal.left_out) == set(names) - survivors


def test_the_served_name_of_a_host_becomes_the_fleets_name() -> None:
    served = dataclasses.replace(QWEN3, name="qwen-3-prod:latest")
    proposal = propose([host(served, served_names={"qwen3:8b": "qwen-3-prod"})], SHIPPED, memory_gb=14)
    assert list(proposal.models) == ["qwen3:8b"]


def test_only_an_embedder_is_no_fleet() -> None:
    with pytest.raises(LLMRouterError, match=r"no model to route to.*only embedding models") as raised:
        propose([host(EMBEDDER)], SHIPPED)
    assert raised.value.hint is not None
    assert "ollama pull" in raised.value.hint


def test_an_empty_host_is_no_fleet() -> None:
    with pytest.raises(LLMRouterError, match="nothing is installed on ollama"):
        propose([host()], SHIPPED)


@pytest.mark.parametrize(
    ("text", "billions"),
    [("7.2B", 7.2), ("134.52M", 0.13452), ("1.2T", 1200), ("unknown", None), ("", None), ("8x7B", None)],
)
def test_parameters_are_read_from_the_servers_words(text: str, billions: float | None) -> None:
    assert params_b(text) == billions


def test_a_server_that_spells_an_architecture_differently_has_the_same_model() -> None:
    oss = InstalledModel("gpt-oss:20b", 14_000_000_000, None, 131072, "gpt-oss", "20.9B")
    assert is_same_model(oss, SHIPPED.models["gpt-oss:20b"])


# ── memory of this machine


def test_meminfo_is_read_in_gb() -> None:
    memory = parse_meminfo("MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:   12000000 kB\n")
    assert memory == MachineMemory(16.384, 12.288)
    assert parse_meminfo("nothing here") is None


def test_models_may_fill_all_but_the_reserve_and_never_more_than_is_free() -> None:
    assert MachineMemory(128, 126).usable_gb() == 112
    assert MachineMemory(128, 60).usable_gb() == 60
    assert MachineMemory(128, 60).usable_gb(resident_gb=43) == 103
    assert MachineMemory(16).usable_gb() == 14
    assert "12.0 GB" in MachineMemory(16, 12).sentence()


def test_this_machine_tells_its_memory(tmp_path: Path) -> None:
    memory = machine_memory(tmp_path / "no-proc-here")
    assert memory is None or memory.total_gb > 0


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:11434", True),
        ("http://localhost:1", True),
        ("http://[::1]:11434", True),
        ("http://spark-1:11434", False),
        ("http://192.168.1.4", False),
    ],
)
def test_only_loopback_counts_as_this_machine(url: str, local: bool) -> None:
    assert is_loopback(url) is local


# ── whatever is installed

_CAPABILITIES = ("completion", "tools", "vision", "thinking", "embedding", "insert", "image", "audio")
_IMAGE = Image("image/png", "aGVsbG8=")


@st.composite
def installed_models(draw: st.DrawFn) -> InstalledModel:
    told = draw(st.none() | st.frozensets(st.sampled_from(_CAPABILITIES)))
    return InstalledModel(
        name=draw(
            st.sampled_from(FLEET_NAMES) | st.from_regex(r"[a-z]{1,8}(:[a-z0-9]{1,4})?", fullmatch=True)
        ),
        size_bytes=draw(st.integers(0, 500_000_000_000)),
        capabilities=told,
        context_length=draw(st.none() | st.integers(1, 1_000_000)),
        architecture=draw(
            st.sampled_from(("", "llama", "qwen3", "mllama", "nomic-bert", "gpt-oss", "gemma2"))
        ),
        params=draw(st.sampled_from(("", "unknown", "137M", "1.2B", "8.2B", "70.6B", "671B"))),
        quantization=draw(st.sampled_from(("", "Q4_K_M", "F16"))),
        digest=draw(st.sampled_from(("", "a", "b", "c"))),
        kv_kib_per_token=draw(st.none() | st.floats(0, 2000)),
        licence=draw(st.sampled_from(("", "MIT License", "CC-BY-NC-4.0"))),
        expert_share=draw(st.none() | st.floats(0.01, 0.99)),
        vocab_size=draw(st.none() | st.integers(1, 300_000)),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    models=st.lists(installed_models(), max_size=7, unique_by=lambda model: model.name),
    memory_gb=st.none() | st.floats(0.5, 600),
)
def test_any_set_of_models_gives_a_fleet_that_loads_and_fits(
    models: list[InstalledModel], memory_gb: float | None, tmp_path: Path
) -> None:
    snapshot = host(*models)
    try:
        proposal = propose([snapshot], SHIPPED, memory_gb=memory_gb)
    except LLMRouterError as error:
        assert error.hint, "and says what to do"
        return
    fleet = loaded(proposal, tmp_path)
    for category in fleet.categories.values():
        needed = category.requires.capability or "completion"
        for choice in category.models:
            facts = fleet.models[choice.model]
            assert needed in facts.capabilities
            assert needed == "embedding" or "embedding" not in facts.capabilities
            assert facts.memory_gb <= fleet.machine.usable_memory_gb
            assert facts.planned_num_ctx > category.requires.min_context_tokens
    _never_unfit(fleet, snapshot)


def _never_unfit(fleet: Fleet, snapshot: HostSnapshot) -> None:
    world = World(fleet, (snapshot,))
    for name, category in fleet.categories.items():
        needed = category.requires.capability
        request = RouteRequest.from_text("a short task", images=[_IMAGE] if needed == "vision" else [])
        if needed == "embedding":
            request = RouteRequest(kind=ApiKind.EMBEDDING, inputs=("text",))
        decision = decide(request, Classification(name, 1.0, "explicit", {name: 1.0}), world)
        for candidate in decision.chain:
            told = snapshot.find_installed(candidate.model)
            assert told is not None
            capabilities = told.capabilities or frozenset(fleet.models[candidate.model].capabilities)
            assert (needed or "completion") in capabilities
            assert needed == "embedding" or "completion" in capabilities


async def test_a_real_server_with_all_shipped_models_gives_their_fleet_back() -> None:
    async with FakeOllama(fleet_models(FLEET_NAMES), version="0.24.0") as server:
        provider = OllamaProvider("ollama", server.url)
        snapshot = await provider.snapshot()
        await provider.close()
    proposal = propose([snapshot], SHIPPED, memory_gb=112)
    assert set(proposal.left_out) == {"deepseek-v3"}
    assert proposal.known == proposal.models.keys()
    assert (proposal.router, proposal.baseline) == ("llama3.2:1b", "command-r-plus")
    assert set(proposal.categories) == set(SHIPPED.categories)
    assert leads(proposal)["korean_multilingual"] == "qwen2.5:14b"


async def test_what_show_tells_of_an_unknown_model_reaches_the_file() -> None:
    models = (
        FakeModel("mine", parameter_size="3.2B", capabilities=("completion", "tools"), license="MIT License"),
    )
    async with FakeOllama(models) as server:
        provider = OllamaProvider("ollama", server.url)
        proposal = propose([await provider.snapshot()], SHIPPED, memory_gb=14)
        await provider.close()
    mine = proposal.models["mine"]
    assert (mine.kv_kib_per_token, mine.context_length) == (128, 32768)
    assert mine.licence is not None
    assert mine.licence.id == "MIT"
    assert "agentic_tool_use" in proposal.categories
