"""The shipped fleet: what its owner states stands word for word, and what was checked agrees with itself."""

from __future__ import annotations

import re

import pytest

from llm_router.fleet import Category, Fleet, load_fleet
from llm_router.fleet.loading import shipped_fleet_text

OWNER = {
    "llama3.2-vision:90b": (54, "90B", "max_vision", "Complex charts, OCR, detailed visual analysis"),
    "qwen2.5:72b": (47, "72B", "max_quality_general", "High-quality general tasks, complex coding"),
    "llama3.1:70b": (42, "70B", "long_context", "Large documents (128K tokens)"),
    "deepseek-r1:70b": (42, "70B", "max_reasoning", "Complex math proofs, logic puzzles"),
    "deepseek-v3": (404, "671B (37B active MoE)", "max_reasoning_moe", "Extremely complex reasoning"),
    "command-r-plus": (59, "104B", "max_rag", "Complex document search with citations"),
    "mixtral:8x7b": (26, "47B (MoE)", "default_general", "Default worker (balanced speed/quality)"),
    "command-r": (18, "35B", "fast_rag", "Fast RAG with good citations"),
    "gpt-oss:20b": (13, "20B", "agentic_tool_use", "API calls, tool orchestration"),
    "llava:13b": (8.0, "13B", "fast_vision", "Simple image captions"),
    "apriel-1.5-15b-thinker": (9.7, "15B", "hybrid_reasoner", "Visual reasoning (math diagrams)"),
    "phi4": (9.1, "14B", "efficient_reasoning", "Text reasoning (lighter than 70B)"),
    "qwen2.5:14b": (9.0, "14B", "structured_data", "JSON generation, fast coding"),
    "gemma2:9b": (5.4, "9B", "efficient_general", "General tasks (efficient)"),
    "nous-hermes2": (6.1, "7B", "instruction_following", "Precise instruction execution"),
    "solar": (6.1, "11B", "korean_multilingual", "Korean language tasks"),
    "mistral:7b": (4.4, "7B", "simple_chat", "Fastest conversation"),
    "llama3.2:1b": (1.3, "1B", "router", "Task classification (Mission Control)"),
    "nomic-embed-text": (0.274, "137M", "embeddings", "Text embeddings, vector search"),
}
"""Size in GB, parameters, specialization and use of each model, as the owner states them."""

CHOICES = [
    ("max_vision", "llama3.2-vision:90b"),
    ("fast_vision", "llava:13b"),
    ("max_reasoning", "deepseek-r1:70b"),
    ("max_reasoning_moe", "deepseek-v3"),
    ("efficient_reasoning", "phi4"),
    ("hybrid_reasoner", "apriel-1.5-15b-thinker"),
    ("max_rag", "command-r-plus"),
    ("fast_rag", "command-r"),
    ("agentic_tool_use", "gpt-oss:20b"),
    ("structured_data", "qwen2.5:14b"),
    ("simple_chat", "mistral:7b"),
    ("instruction_following", "nous-hermes2"),
    ("long_context", "llama3.1:70b"),
    ("max_quality_general", "qwen2.5:72b"),
    ("default_general", "mixtral:8x7b"),
    ("efficient_general", "gemma2:9b"),
    ("korean_multilingual", "solar"),
    ("embeddings", "nomic-embed-text"),
]

VISION = ("max_vision", "fast_vision", "hybrid_reasoner")
CATEGORY_NAMES = [name for name, _ in CHOICES]


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


@pytest.fixture(params=CATEGORY_NAMES)
def category(request: pytest.FixtureRequest, fleet: Fleet) -> Category:
    return fleet.category(request.param)


@pytest.mark.parametrize("tag", OWNER)
def test_what_the_owner_states_of_a_model_stands_word_for_word(tag: str, fleet: Fleet) -> None:
    model = fleet.models[tag]
    assert (model.size_gb, model.params, model.specialization, model.when_to_use) == OWNER[tag]


def test_there_are_these_19_models_and_no_other(fleet: Fleet) -> None:
    assert set(fleet.models) == set(OWNER)
    assert len(fleet.models) == 19


def test_the_18_categories_stand_in_order_with_the_owners_choice(fleet: Fleet) -> None:
    assert [(name, fleet.choice_for(name)) for name in fleet.categories] == CHOICES
    assert [fleet.category(name).models[0].model for name in fleet.categories] == [m for _, m in CHOICES]


def test_each_model_is_the_choice_of_the_category_that_it_specializes_in(fleet: Fleet) -> None:
    by_model = {model: name for name, model in CHOICES}
    for tag, model in fleet.models.items():
        assert model.specialization == by_model.get(tag, "router")


def test_router_baseline_and_default_are_the_owners(fleet: Fleet) -> None:
    assert (fleet.router, fleet.baseline) == ("llama3.2:1b", "qwen2.5:72b")
    assert fleet.default_category == "default_general"


def test_only_the_models_that_exceed_memory_at_the_planned_context_are_out(fleet: Fleet) -> None:
    usable = fleet.machine.usable_memory_gb
    assert [tag for tag, model in fleet.models.items() if model.memory_gb > usable] == ["deepseek-v3"]


def test_a_large_worker_fits_beside_a_medium_one_the_router_and_the_embedder(fleet: Fleet) -> None:
    together = ("qwen2.5:72b", "gpt-oss:20b", "llama3.2:1b", "nomic-embed-text")
    assert sum(fleet.models[tag].memory_gb for tag in together) <= fleet.machine.usable_memory_gb


def test_memory_leaves_room_for_the_system(fleet: Fleet) -> None:
    visible_gb = 119.7 * 1024**3 / 1e9
    assert 10 <= (visible_gb - fleet.machine.usable_memory_gb) * 1e9 / 1024**3 <= 16


def test_exactly_three_models_are_not_for_commercial_work(fleet: Fleet) -> None:
    closed = {tag for tag, model in fleet.models.items() if model.licence and not model.licence.commercial}
    assert closed == {"command-r", "command-r-plus", "solar"}
    assert all(model.licence for model in fleet.models.values())


@pytest.mark.parametrize(
    ("tag", "context_length", "capabilities"),
    [
        ("qwen2.5:72b", 32768, {"completion", "tools"}),
        ("llama3.1:70b", 131072, {"completion", "tools"}),
        ("deepseek-r1:70b", 131072, {"completion", "thinking"}),
        ("gpt-oss:20b", 131072, {"completion", "tools", "thinking"}),
        ("llava:13b", 4096, {"completion", "vision"}),
        ("llama3.2-vision:90b", 131072, {"completion", "vision"}),
        ("phi4", 16384, {"completion"}),
        ("gemma2:9b", 8192, {"completion"}),
        ("solar", 4096, {"completion"}),
        ("nomic-embed-text", 2048, {"embedding"}),
    ],
)
def test_context_and_capabilities_are_those_of_the_published_files(
    tag: str, context_length: int, capabilities: set[str], fleet: Fleet
) -> None:
    model = fleet.models[tag]
    assert model.context_length == context_length
    assert set(model.capabilities) == capabilities


def test_every_model_has_a_planned_context_within_its_file(fleet: Fleet) -> None:
    for model in fleet.models.values():
        assert model.num_ctx is not None
        assert model.num_ctx <= model.context_length


def test_stated_and_published_sizes_are_close(fleet: Fleet) -> None:
    for tag, model in fleet.models.items():
        assert model.file_gb == pytest.approx(model.size_gb, rel=0.08), tag


def test_speeds_are_within_what_the_memory_bandwidth_allows(fleet: Fleet) -> None:
    for tag, model in fleet.models.items():
        if model.decode_tokens_per_s is None or model.params_b is None:
            continue
        active = model.active_params_b or model.params_b
        read_gb = model.file_gb * active / model.params_b
        share = model.decode_tokens_per_s * read_gb / fleet.machine.memory_gb_per_s
        assert 0.4 < share < 0.95, (tag, share)


def test_quirks_are_those_that_providers_must_know(fleet: Fleet) -> None:
    quirks = {tag: model.quirks for tag, model in fleet.models.items()}
    assert [tag for tag, quirk in quirks.items() if not quirk.system_role] == ["gemma2:9b"]
    assert [tag for tag, quirk in quirks.items() if quirk.thinks_always] == ["gpt-oss:20b"]
    assert [tag for tag, quirk in quirks.items() if quirk.reasoning_markers] == ["apriel-1.5-15b-thinker"]
    assert quirks["llama3.2-vision:90b"].max_images == 1
    assert quirks["nomic-embed-text"].query_prefix == "search_query: "
    assert quirks["nomic-embed-text"].document_prefix == "search_document: "


def test_the_model_that_new_servers_cannot_load_says_so(fleet: Fleet) -> None:
    limited = {tag: model.ollama for tag, model in fleet.models.items() if model.ollama}
    assert set(limited) == {"llama3.2-vision:90b"}
    versions = limited["llama3.2-vision:90b"]
    assert versions.below == "0.30.0"
    assert "mllama" in versions.why
    assert fleet.models["llama3.2-vision:90b"].architecture == "mllama"


def test_only_apriel_is_outside_the_library(fleet: Fleet) -> None:
    assert [tag for tag, model in fleet.models.items() if model.pull == ""] == ["apriel-1.5-15b-thinker"]


def test_evidence_belongs_to_the_categories_that_need_it(fleet: Fleet) -> None:
    assert fleet.categories_needing == {
        "vision": VISION,
        "tools": ("agentic_tool_use",),
        "embedding": ("embeddings",),
    }
    assert fleet.category("korean_multilingual").requires.language == "ko"
    assert fleet.category("long_context").requires.min_context_tokens == 9000


def test_only_the_embedder_embeds_and_it_does_nothing_else(fleet: Fleet) -> None:
    for name, category in fleet.categories.items():
        models = [fleet.models[choice.model] for choice in category.models]
        wanted = "embedding" if name == "embeddings" else "completion"
        assert all(wanted in model.capabilities for model in models), name


def test_every_category_has_a_choice_of_models(category: Category) -> None:
    only_one = category.models[0].model == "nomic-embed-text"
    assert len(category.models) == 1 if only_one else 3 <= len(category.models) <= 6


def test_every_category_can_be_served_by_a_small_model(category: Category, fleet: Fleet) -> None:
    assert min(fleet.models[choice.model].memory_gb for choice in category.models) < 13


def test_every_quality_says_where_it_comes_from(category: Category) -> None:
    for choice in category.models:
        assert 0.2 <= choice.quality <= 0.95
        assert choice.source.startswith("prior: ")
        assert choice.source.removeprefix("prior: ").strip()


def test_every_category_describes_itself_in_one_sentence_with_examples(category: Category) -> None:
    assert category.description.endswith(".")
    assert 40 <= len(category.description) <= 130
    assert category.when_to_use
    assert 4 <= len(category.examples) <= 8
    assert len(set(category.examples)) == len(category.examples)
    assert all(len(example) <= 110 for example in category.examples)


def test_no_example_stands_in_two_categories(fleet: Fleet) -> None:
    examples = [example for category in fleet.categories.values() for example in category.examples]
    assert len(set(examples)) == len(examples)


def test_the_owners_choice_is_good_except_where_a_checked_fact_speaks_against_it(fleet: Fleet) -> None:
    poor = {name for name, category in fleet.categories.items() if category.models[0].quality < 0.55}
    assert poor == {"korean_multilingual"}
    assert fleet.category("korean_multilingual").models[0].source == "prior: its card lists English only"


@pytest.mark.parametrize(
    "name",
    [
        "max_vision",
        "max_reasoning",
        "max_reasoning_moe",
        "hybrid_reasoner",
        "max_rag",
        "agentic_tool_use",
        "long_context",
        "max_quality_general",
    ],
)
def test_where_quality_is_the_point_the_owners_choice_is_the_best_of_the_list(
    name: str, fleet: Fleet
) -> None:
    first, *others = fleet.category(name).models
    assert all(first.quality > choice.quality for choice in others)


def test_korean_goes_to_a_model_that_lists_korean_before_any_other_substitute(fleet: Fleet) -> None:
    owners_choice, second, *_ = fleet.category("korean_multilingual").models
    assert "ko" not in fleet.models[owners_choice.model].languages
    assert "ko" in fleet.models[second.model].languages
    assert second.quality > owners_choice.quality


@pytest.mark.parametrize("name", VISION)
def test_models_that_cannot_see_come_last_and_low_in_vision_categories(name: str, fleet: Fleet) -> None:
    sees = ["vision" in fleet.models[choice.model].capabilities for choice in fleet.category(name).models]
    assert sees == sorted(sees, reverse=True)
    assert sum(sees) == 3
    for choice in fleet.category(name).models[3:]:
        assert choice.quality <= 0.35
        assert "only for requests without a picture" in choice.source


def test_every_model_for_tools_has_them(fleet: Fleet) -> None:
    for choice in fleet.category("agentic_tool_use").models:
        assert "tools" in fleet.models[choice.model].capabilities


def test_every_model_for_long_documents_is_planned_with_the_context_they_need(fleet: Fleet) -> None:
    category = fleet.category("long_context")
    for choice in category.models:
        assert fleet.models[choice.model].planned_num_ctx >= category.requires.min_context_tokens


def test_the_model_that_does_not_fit_is_listed_only_where_the_owner_put_it(fleet: Fleet) -> None:
    users = [
        name
        for name, category in fleet.categories.items()
        if "deepseek-v3" in [choice.model for choice in category.models]
    ]
    assert users == ["max_reasoning_moe"]


def test_every_model_serves_at_least_one_category(fleet: Fleet) -> None:
    named = {choice.model for category in fleet.categories.values() for choice in category.models}
    assert named == set(fleet.models)


def test_the_stand_in_is_small_and_free_to_use(fleet: Fleet) -> None:
    assert fleet.stand_in is not None
    model = fleet.stand_in.model
    assert fleet.stand_in.name == "smollm2:135m"
    assert model.file_gb < 0.1
    assert model.planned_num_ctx == 4096
    assert model.capabilities == ("completion",)
    assert model.licence is not None
    assert model.licence.id == "Apache-2.0"


def test_the_file_names_no_address_and_no_machine_path() -> None:
    text = shipped_fleet_text()
    assert not re.search(r"https?:|www\.|/(home|root|work|tmp)/", text)
