"""The policy as a function: a request, a classification and a world in; a decision out."""

from __future__ import annotations

import base64
import gc
from dataclasses import replace

import msgspec
import pytest
from tests.support.worlds import classified, embedded, host, host_down, whole_fleet, world

from llm_router.decision import Ranking
from llm_router.errors import UnknownModel
from llm_router.fleet import Fleet, load_fleet
from llm_router.hosts.snapshot import InstalledModel, ResidentModel
from llm_router.policy import PolicySettings, decide
from llm_router.policy.waits import Moment, Place
from llm_router.request import ApiKind, Image, RouteRequest, Tool

PNG = Image("image/png", base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 32).decode())


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


def ask(text: str = "Say something", **arguments: object) -> RouteRequest:
    return RouteRequest.from_text(text, **arguments)  # type: ignore[arg-type]


def test_the_fleets_choice_answers_where_everything_is_installed(fleet: Fleet) -> None:
    here = world(fleet, whole_fleet(fleet))
    for name in fleet.categories:
        if name in ("max_reasoning_moe", "embeddings"):
            continue
        decision = decide(ask(), classified(name), here)
        assert decision.selected_model == fleet.choice_for(name)
        assert decision.answer_model == decision.selected_model, name


def test_deepseek_v3_is_explained_away_by_memory_and_another_model_answers(fleet: Fleet) -> None:
    decision = decide(ask(), classified("max_reasoning_moe"), world(fleet, whole_fleet(fleet)))
    assert decision.selected_model == "deepseek-v3"
    substitutes = [choice.model for choice in fleet.categories["max_reasoning_moe"].models[1:]]
    assert decision.answer_model in substitutes
    rejection = next(r for r in decision.rejected if r.model == "deepseek-v3")
    assert rejection.code == "memory"
    assert "40" in rejection.why and "GB" in rejection.why
    assert any(f"{decision.answer_model} answers instead" in reason for reason in decision.reasons)


def test_deepseek_v3_is_explained_by_memory_even_without_any_host(fleet: Fleet) -> None:
    decision = decide(ask(), classified("max_reasoning_moe"), world(fleet, host_down()))
    codes = {r.model: r.code for r in decision.rejected}
    assert codes["deepseek-v3"] == "memory"
    assert codes["deepseek-r1:70b"] == "host_unreachable"


def test_llama_vision_is_refused_on_an_ollama_that_cannot_load_it(fleet: Fleet) -> None:
    here = world(fleet, whole_fleet(fleet, version="0.33.0"))
    decision = decide(ask(images=(PNG,)), classified("max_vision"), here)
    rejection = next(r for r in decision.rejected if r.model == "llama3.2-vision:90b")
    assert rejection.code == "ollama_version"
    assert "0.33.0" in rejection.why and "0.30.0" in rejection.why
    assert decision.selected_model == "llama3.2-vision:90b"
    assert decision.answer_model in {"apriel-1.5-15b-thinker", "llava:13b"}


def test_the_chain_holds_models_of_the_category_only_and_no_embedder(fleet: Fleet) -> None:
    here = world(fleet, whole_fleet(fleet))
    for name, category in fleet.categories.items():
        decision = decide(ask(), classified(name), here)
        listed = {choice.model for choice in category.models}
        chain = [candidate.model for candidate in decision.chain]
        assert set(chain) <= listed
        assert len(chain) == len(set(chain))
        if name != "embeddings":
            assert "nomic-embed-text" not in chain


def test_an_image_never_goes_to_a_model_without_eyes(fleet: Fleet) -> None:
    blind = world(fleet, host("qwen2.5:14b", "mixtral:8x7b", "gpt-oss:20b"), embedded())
    decision = decide(ask(images=(PNG,)), classified("max_vision"), blind)
    assert decision.chain == ()
    assert {r.code for r in decision.rejected} <= {"not_installed", "capability", "ollama_version"}
    assert any(r.model == "smollm2:135m" and "cannot see images" in r.why for r in decision.rejected)


def test_what_the_host_says_of_capabilities_beats_the_fleet_file(fleet: Fleet) -> None:
    told = InstalledModel("gpt-oss:20b", capabilities=frozenset({"completion"}))
    request = RouteRequest(messages=ask().messages, tools=(Tool("weather"),))
    decision = decide(request, classified("agentic_tool_use"), world(fleet, host(told, "qwen2.5:14b")))
    assert decision.answer_model == "qwen2.5:14b"
    assert next(r for r in decision.rejected if r.model == "gpt-oss:20b").code == "capability"


def test_a_request_longer_than_the_context_is_refused_with_its_numbers(fleet: Fleet) -> None:
    long_request = ask("word " * 7000)
    decision = decide(long_request, classified("efficient_general"), world(fleet, whole_fleet(fleet)))
    rejection = next(r for r in decision.rejected if r.model == "gemma2:9b")
    assert rejection.code == "context"
    assert "8,192" in rejection.why


def test_the_usual_length_of_an_answer_counts_against_the_context_and_a_limit_only_lowers_it(
    fleet: Fleet,
) -> None:
    here = world(fleet, host("nous-hermes2"))
    nearly_full = "The committee met and agreed on the plan. " * 316
    assert decide(ask("hello"), classified("instruction_following"), here).answer_model == "nous-hermes2"
    greedy = ask("hello", options={"num_predict": 100_000})
    assert decide(greedy, classified("instruction_following"), here).answer_model == "nous-hermes2"
    refused = decide(ask(nearly_full), classified("instruction_following"), here)
    assert next(r for r in refused.rejected if r.model == "nous-hermes2").code == "context"
    short = ask(nearly_full, options={"num_predict": 20})
    assert decide(short, classified("instruction_following"), here).answer_model == "nous-hermes2"


def test_many_short_texts_to_embed_need_no_more_context_than_the_longest(fleet: Fleet) -> None:
    here = world(fleet, whole_fleet(fleet))
    many = RouteRequest(kind=ApiKind.EMBEDDING, inputs=("a passage of a few words " * 10,) * 200)
    assert decide(many, classified("embeddings"), here).answer_model == "nomic-embed-text"
    long = RouteRequest(kind=ApiKind.EMBEDDING, inputs=("short", "a passage of a few words " * 1000))
    assert decide(long, classified("embeddings"), here).rejected[0].code == "context"


def test_a_text_that_may_be_cut_is_so_only_where_nobody_can_read_all_of_it(fleet: Fleet) -> None:
    long = RouteRequest(
        kind=ApiKind.EMBEDDING, inputs=("short", "a passage of a few words " * 1000), truncate=True
    )
    here = world(fleet, whole_fleet(fleet))
    decision = decide(long, classified("embeddings"), here)
    assert decision.answer_model == "nomic-embed-text"
    assert decision.rejected == ()
    assert any("is cut to the 2,048 that nomic-embed-text reads" in told for told in decision.warnings)
    for _ in range(2):  # what was found for one is no answer to another
        assert not decide(msgspec.structs.replace(long, truncate=False), classified("embeddings"), here).chain
        assert decide(long, classified("embeddings"), here).chain == decision.chain

    short = msgspec.structs.replace(long, inputs=("short",))
    assert decide(short, classified("embeddings"), here).warnings == ()
    vllm = replace(host("nomic-embed-text", name="vllm"), kind="openai")  # it has no such wish to send
    assert not decide(long, classified("embeddings"), world(fleet, vllm)).chain

    reader = msgspec.structs.replace(fleet.models["nomic-embed-text"], context_length=131072, num_ctx=32768)
    category = fleet.categories["embeddings"]
    choices = (*category.models, msgspec.structs.replace(category.models[0], model="reader", quality=0.1))
    two = replace(
        fleet,
        models={**fleet.models, "reader": reader},
        categories={**fleet.categories, "embeddings": msgspec.structs.replace(category, models=choices)},
    )
    whole = decide(long, classified("embeddings"), world(two, whole_fleet(two)))
    assert [c.model for c in whole.chain] == ["reader"]
    assert whole.rejected[0].code == "context"
    assert whole.warnings == ()


def test_a_server_that_fixed_its_own_context_and_memory_is_believed(fleet: Fleet) -> None:
    told = InstalledModel("big", context_length=131072)
    vllm = replace(host(told, name="vllm"), kind="openai", served_names={"deepseek-v3": "big"})
    decision = decide(ask("word " * 20000), classified("max_reasoning_moe"), world(fleet, vllm))
    assert decision.answer_model == "deepseek-v3"
    assert decision.chain[0].served_as == "big"


def test_health_is_looked_up_by_the_hosts_own_name_for_a_model(fleet: Fleet) -> None:
    from dataclasses import replace

    mapped = replace(
        host("own-name", unhealthy={"own-name:latest": "failed 3 times"}),
        served_names={"mistral:7b": "own-name"},
    )
    decision = decide(ask(), classified("simple_chat"), world(fleet, mapped))
    assert next(r for r in decision.rejected if r.model == "mistral:7b").code == "unhealthy"


def test_a_name_that_a_host_maps_to_the_cloud_is_refused(fleet: Fleet) -> None:
    from dataclasses import replace

    leaking = replace(host("x:120b-cloud"), served_names={"mistral:7b": "x:120b-cloud"})
    decision = decide(ask(), classified("simple_chat"), world(fleet, leaking))
    assert next(r for r in decision.rejected if r.model == "mistral:7b").code == "cloud"


@pytest.mark.parametrize(
    "remote",
    [InstalledModel("x:120b-cloud"), InstalledModel("x:120b", remote_host="https://example.com")],
    ids=["by its name", "by what the host says"],
)
def test_a_model_on_the_internet_is_refused_or_allowed_and_told(fleet: Fleet, remote: InstalledModel) -> None:
    request = ask(model=remote.name)
    refused = decide(request, classified("simple_chat"), world(fleet, host(remote)))
    assert not refused.chain and [r.code for r in refused.rejected] == ["cloud"]
    allowed = PolicySettings(allow_cloud=True)
    here = world(fleet, host(remote, memory_gb=0.001), settings=allowed)
    decision = decide(request, classified("simple_chat"), here)
    answer = decision.answer
    assert answer is not None and answer.remote and answer.estimate.memory_gb == 0
    assert "the internet" in decision.warnings[0]


def test_options_that_would_reload_a_model_are_told(fleet: Fleet) -> None:
    request = ask(options={"num_gpu": 1, "use_mmap": True, "temperature": 0.1})
    decision = decide(request, classified("simple_chat"), world(fleet, whole_fleet(fleet)))
    assert any("num_gpu, use_mmap not used" in warning for warning in decision.warnings)


def test_non_commercial_models_are_refused_only_when_asked_to(fleet: Fleet) -> None:
    open_world = world(fleet, whole_fleet(fleet))
    strict = world(fleet, whole_fleet(fleet), settings=PolicySettings(commercial_only=True))
    assert decide(ask(), classified("fast_rag"), open_world).answer_model == "command-r"
    decision = decide(ask(), classified("fast_rag"), strict)
    assert next(r for r in decision.rejected if r.model == "command-r").code == "licence"
    assert decision.answer_model not in {"command-r", "command-r-plus", "solar", None}


def test_a_resident_model_costs_no_load_and_one_with_another_context_does(fleet: Fleet) -> None:
    planned = fleet.models["qwen2.5:14b"].planned_num_ctx
    warm = host("qwen2.5:14b", resident=[ResidentModel("qwen2.5:14b", context_length=planned)])
    other = host("qwen2.5:14b", resident=[ResidentModel("qwen2.5:14b", context_length=planned * 2)])
    for snapshot, resident in ((warm, True), (other, False)):
        answer = decide(ask(), classified("structured_data"), world(fleet, snapshot)).answer
        assert answer is not None
        assert answer.resident is resident
        assert (answer.estimate.load_s == 0) is resident


def test_prefer_score_lets_a_faster_model_pass_the_fleets_choice(fleet: Fleet) -> None:
    here = whole_fleet(fleet)
    slow_costs = PolicySettings(prefer="score", time_weight=5.0)
    decision = decide(ask(), classified("max_reasoning"), world(fleet, here, settings=slow_costs))
    assert decision.selected_model == "deepseek-r1:70b"
    assert decision.answer_model != "deepseek-r1:70b"
    scores = [candidate.score for candidate in decision.chain]
    assert scores == sorted(scores, reverse=True)


def test_the_stand_in_answers_only_where_no_fleet_model_can(fleet: Fleet) -> None:
    alone = decide(ask(), classified("simple_chat"), world(fleet, host_down(), embedded()))
    assert alone.answer_model == "smollm2:135m"
    assert alone.chain[0].stand_in
    assert alone.selected_model == "mistral:7b"
    beside = decide(ask(), classified("simple_chat"), world(fleet, host("mistral:7b"), embedded()))
    assert [c.model for c in beside.chain] == ["mistral:7b"]


@pytest.mark.parametrize("name", ["smollm2:135m", "SmolLM2:135M"])
def test_the_embedded_model_answers_where_it_is_asked_for_by_name(fleet: Fleet, name: str) -> None:
    for others in ((whole_fleet(fleet),), (host_down(),), ()):
        decision = decide(ask(model=name), classified("simple_chat"), world(fleet, *others, embedded()))
        (candidate,) = decision.chain
        assert (candidate.model, candidate.host, candidate.stand_in) == ("smollm2:135m", "embedded", False)
        assert decision.selected_model == "smollm2:135m"
        assert decision.rejected == ()
        assert "smollm2:135m was asked for by name" in decision.reasons
    seen = decide(ask(model=name, images=(PNG,)), classified("max_vision"), world(fleet, embedded()))
    assert [(r.host, r.code) for r in seen.rejected] == [("embedded", "capability")]
    off = decide(ask(model=name), classified("simple_chat"), world(fleet, whole_fleet(fleet)))
    assert [(r.host, r.code) for r in off.rejected] == [("spark-1", "not_installed")]
    own = decide(ask(model=name), classified("simple_chat"), world(fleet, host("smollm2:135m"), embedded()))
    assert [c.host for c in own.chain] == ["spark-1"]


def test_a_model_asked_for_by_name_is_the_only_candidate(fleet: Fleet) -> None:
    decision = decide(
        ask(model="phi4:latest"), classified("simple_chat"), world(fleet, whole_fleet(fleet), embedded())
    )
    assert [c.model for c in decision.chain] == ["phi4"]
    assert decision.selected_model == "phi4"
    down = decide(ask(model="phi4"), classified("simple_chat"), world(fleet, host_down(), embedded()))
    assert down.chain == ()


def test_a_model_that_only_the_host_knows_can_be_asked_for(fleet: Fleet) -> None:
    own = InstalledModel(
        "qwen3:8b", size_bytes=5_200_000_000, capabilities=frozenset({"completion", "tools"}), params="8.2B"
    )
    decision = decide(ask(model="qwen3:8b"), classified("simple_chat"), world(fleet, host(own)))
    assert decision.answer_model == "qwen3:8b"
    assert decision.model_params == "8.2B"
    assert decision.model_size_gb == pytest.approx(5.2)


def test_an_unknown_model_is_named_with_the_nearest_one(fleet: Fleet) -> None:
    with pytest.raises(UnknownModel) as caught:
        decide(ask(model="mistrall:7b"), classified("simple_chat"), world(fleet, host("phi4")))
    assert "mistral:7b" in (caught.value.hint or "")


def test_a_deprecated_first_choice_hands_over_to_the_next(fleet: Fleet) -> None:
    old = msgspec.structs.replace(fleet.models["mistral:7b"], deprecated=True)
    from dataclasses import replace

    changed = replace(fleet, models={**fleet.models, "mistral:7b": old})
    decision = decide(ask(), classified("simple_chat"), world(changed, whole_fleet(changed)))
    assert decision.selected_model != "mistral:7b"
    assert decision.answer_model == decision.selected_model
    assert next(r for r in decision.rejected if r.model == "mistral:7b").code == "deprecated"


def test_resting_and_unloadable_models_are_passed_over(fleet: Fleet) -> None:
    tired = host("mistral:7b", "gemma2:9b", unhealthy={"mistral:7b": "failed 3 times in a row"})
    decision = decide(ask(), classified("simple_chat"), world(fleet, tired))
    assert next(r for r in decision.rejected if r.model == "mistral:7b").code == "unhealthy"
    broken = host("mistral:7b", "gemma2:9b", unusable={"mistral:7b": "unknown model architecture"})
    decision = decide(ask(), classified("simple_chat"), world(fleet, broken))
    assert next(r for r in decision.rejected if r.model == "mistral:7b").code == "unusable"


def test_an_embedding_call_is_answered_by_an_embedder_or_by_nobody(fleet: Fleet) -> None:
    request = RouteRequest(kind=ApiKind.EMBEDDING, inputs=("some text",))
    decision = decide(request, classified("embeddings"), world(fleet, whole_fleet(fleet), embedded()))
    assert [c.model for c in decision.chain] == ["nomic-embed-text"]
    without = decide(request, classified("embeddings"), world(fleet, host("mistral:7b"), embedded()))
    assert without.chain == ()


def test_a_chat_model_embeds_where_it_is_asked_to_by_name(fleet: Fleet) -> None:
    request = RouteRequest(kind=ApiKind.EMBEDDING, inputs=("some text",), model="mistral:7b")
    told = InstalledModel("mistral:7b", capabilities=frozenset({"completion", "tools"}))
    for there in (host("mistral:7b"), host(told)):
        decision = decide(request, classified("embeddings"), world(fleet, there, embedded()))
        assert decision.answer_model == "mistral:7b"
        assert decision.warnings == ("mistral:7b is not made for embedding; it was asked for by name",)
    embedder = msgspec.structs.replace(request, model="nomic-embed-text")
    assert decide(embedder, classified("embeddings"), world(fleet, whole_fleet(fleet))).warnings == ()


def test_words_to_a_named_model_are_its_own_to_answer_whatever_they_ask_for(fleet: Fleet) -> None:
    here = world(fleet, whole_fleet(fleet))
    decision = decide(ask("Embed these titles", model="mistral:7b"), classified("embeddings"), here)
    assert decision.answer_model == "mistral:7b"
    refused = decide(ask("Embed these titles", model="nomic-embed-text"), classified("embeddings"), here)
    assert [r.code for r in refused.rejected] == ["capability"]


@pytest.mark.parametrize("model", [None, "mistral:7b"])
def test_a_suffix_goes_to_models_that_can_fill_in(fleet: Fleet, model: str | None) -> None:
    fills = InstalledModel("gemma2:9b", capabilities=frozenset({"completion", "insert"}))
    request = msgspec.structs.replace(ask("def f(", model=model), kind=ApiKind.GENERATE, suffix="return 1")
    without = decide(request, classified("simple_chat"), world(fleet, host("mistral:7b", "gemma2:9b")))
    assert without.chain == ()
    assert without.rejected[0].code == "capability"
    assert without.rejected[0].why.startswith("cannot fill in text before a suffix")
    here = world(fleet, host("mistral:7b", fills), embedded())
    decision = decide(request, classified("simple_chat"), here)
    assert [c.model for c in decision.chain] == (["gemma2:9b"] if model is None else [])
    for plain in (
        msgspec.structs.replace(request, suffix=""),
        msgspec.structs.replace(request, kind=ApiKind.CHAT),
    ):
        assert decide(plain, classified("simple_chat"), here).answer_model == "mistral:7b"

    vllm = replace(host("mistral:7b", name="vllm"), kind="openai")  # it does not tell what its models can
    assert decide(request, classified("simple_chat"), world(fleet, vllm)).answer_model == "mistral:7b"


def test_savings_are_told_against_the_baseline_and_can_be_negative(fleet: Fleet) -> None:
    here = world(fleet, whole_fleet(fleet))
    small = decide(ask(), classified("simple_chat"), here).savings
    assert small is not None and small.memory_gb > 35 and small.seconds > 0
    assert small.baseline == "qwen2.5:72b"
    large = decide(ask(), classified("max_rag"), here).savings
    assert large is not None and large.memory_gb < 0
    assert decide(ask(), classified("max_quality_general"), here).savings is None


def test_the_callers_num_ctx_is_not_passed_on_and_said_so(fleet: Fleet) -> None:
    decision = decide(
        ask(options={"num_ctx": 131072}), classified("simple_chat"), world(fleet, whole_fleet(fleet))
    )
    assert decision.answer is not None
    assert decision.answer.num_ctx == fleet.models["mistral:7b"].planned_num_ctx
    assert any("num_ctx 131072" in warning for warning in decision.warnings)


def test_the_same_model_on_two_hosts_prefers_the_one_where_it_is_resident(fleet: Fleet) -> None:
    planned = fleet.models["mistral:7b"].planned_num_ctx
    cold = host("mistral:7b", name="a")
    warm = host("mistral:7b", name="b", resident=[ResidentModel("mistral:7b", context_length=planned)])
    decision = decide(ask(), classified("simple_chat"), world(fleet, cold, warm))
    assert [c.host for c in decision.chain if c.model == "mistral:7b"] == ["b", "a"]


def test_every_json_decision_has_the_documented_keys(fleet: Fleet) -> None:
    told = decide(ask(), classified("simple_chat"), world(fleet, host_down())).as_json()
    wanted = {"category", "selected_model", "answer_model", "confidence", "stage"}
    assert wanted | {"reasons", "rejected", "fallback"} <= set(told)
    assert told["answer_model"] is None
    msgspec.json.encode(told)


@pytest.mark.parametrize("here", ["all of it", "nothing"])
def test_a_decision_as_text_says_what_it_says_as_values(fleet: Fleet, here: str) -> None:
    there = world(fleet, whole_fleet(fleet) if here == "all of it" else host_down())
    for name in fleet.categories:
        decision = decide(ask(), classified(name), there)
        other = decide(ask("Say another"), classified(name), there).stamped("f" * 32, 1.25)
        shortened = other.with_chain(other.chain[:1])
        for one in (decision, other, shortened, decision):
            told = one.as_json()
            assert msgspec.json.decode(one.encoded()) == told
            assert list(told) == list(msgspec.json.decode(one.encoded()))
        assert other.as_json()["decision_id"] == "f" * 32
        assert shortened.as_json()["fallback"] == []
        assert shortened.rejected == other.rejected
        assert other.with_chain((*other.chain,)) is other


def test_what_is_given_as_values_may_be_changed(fleet: Fleet) -> None:
    there = world(fleet, whole_fleet(fleet))
    decision = decide(ask(), classified("simple_chat"), there)
    told = decision.as_json()
    before = msgspec.json.encode(told)
    assert isinstance(told["fallback"], list)
    told["fallback"].clear()
    assert msgspec.json.encode(decide(ask(), classified("simple_chat"), there).as_json()) == before


def test_what_is_kept_for_one_turn_is_told_to_no_other(fleet: Fleet) -> None:
    """Who answered the turn before, whether it must go on, and the deadline."""
    there, name = world(fleet, whole_fleet(fleet)), "simple_chat"
    models = [candidate.model for candidate in decide(ask(), classified(name), there).chain]
    box = there.fleet_hosts[0].name
    places = [None, *(Place(model, box) for model in models), Place("gone", box), Place(models[0], "gone")]
    moments = [
        Moment(before=place, locked=locked, deadline_s=deadline_s)
        for place in places
        for locked in (False, True)
        for deadline_s in (None, 5.0, 500.0)
    ]
    for moment in (*moments, *reversed(moments)):
        fresh = decide(ask(), classified(name), world(fleet, whole_fleet(fleet)), moment)
        assert decide(ask(), classified(name), there, moment).as_json() == fresh.as_json()


def test_what_callers_may_choose_freely_does_not_fill_the_memory(fleet: Fleet) -> None:
    there = world(fleet, whole_fleet(fleet))
    kept_before = _rankings_in_memory()
    for limit_tokens in (10, 20, 30, 40):
        request = ask(options={"num_predict": limit_tokens})
        for deadline_s in range(1, 1001):
            moment = Moment({}, deadline_s=deadline_s)
            ranking = decide(request, classified("simple_chat"), there, moment).ranking
            assert ranking.deadline_s == deadline_s
            assert decide(request, classified("simple_chat"), there, moment).ranking is ranking
    assert _rankings_in_memory() - kept_before <= 2048


def _rankings_in_memory() -> int:
    gc.collect()
    return sum(type(thing) is Ranking for thing in gc.get_objects())
