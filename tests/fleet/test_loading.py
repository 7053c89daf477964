"""Fleet files of a user: one entry is enough to add or change, and every mistake is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llm_router.errors import ConfigError, UnknownCategory, UnknownModel
from llm_router.fleet import Fleet, load_fleet
from llm_router.names import SCRIPT_LANGUAGES

Load = Callable[..., Fleet]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes each text to ``1.yaml``, ``2.yaml`` … and loads them over the shipped fleet, in order."""

    def write_and_load(*texts: str) -> Fleet:
        paths = [tmp_path / f"{number}.yaml" for number in range(1, len(texts) + 1)]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text, encoding="utf-8")
        return load_fleet(paths)

    return write_and_load


@pytest.mark.parametrize("code", SCRIPT_LANGUAGES)
def test_every_language_that_its_script_gives_away_is_taken(code: str, tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(f"categories:\n  simple_chat:\n    requires: {{language: {code}}}\n", encoding="utf-8")
    assert load_fleet([path]).categories["simple_chat"].requires.language == code


def test_a_model_on_the_internet_may_be_listed_where_it_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "models:\n  gpt-oss:120b-cloud: {size_gb: 65, params: 120B}\n  phi4: {pull: phi4:cloud}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError):
        load_fleet([path])
    fleet = load_fleet([path], allow_cloud=True)
    assert fleet.find("gpt-oss:120b-cloud") and fleet.models["phi4"].pull == "phi4:cloud"


def test_without_files_the_shipped_fleet_is_loaded() -> None:
    fleet = load_fleet()
    assert fleet.name == "dgx-spark"
    assert len(fleet.models) == 19


def test_one_entry_adds_a_model(load: Load, tmp_path: Path) -> None:
    fleet = load("models:\n  granite:8b: {size_gb: 4.9, params: 8B}\n")
    assert len(fleet.models) == 20
    assert fleet.model("granite:8b").size_gb == 4.9
    assert fleet.origins is not None
    assert fleet.origins["granite:8b"] == str(tmp_path / "1.yaml")
    assert fleet.origins["phi4"] == "dgx-spark.yaml (shipped)"


def test_one_entry_adds_a_category(load: Load) -> None:
    fleet = load(
        "categories:\n  legal:\n    description: Contracts and statutes\n"
        "    models: [{model: 'qwen2.5:72b', quality: 0.9}]\n"
    )
    assert len(fleet.categories) == 19
    assert list(fleet.categories)[-1] == "legal"
    assert fleet.choice_for("legal") == "qwen2.5:72b"


def test_one_key_of_a_shipped_model_is_changed_and_the_others_stay(load: Load) -> None:
    shipped, fleet = load_fleet(), load("models:\n  gpt-oss:20b:\n    num_ctx: 32768\n")
    before, after = shipped.model("gpt-oss:20b"), fleet.model("gpt-oss:20b")
    assert (before.num_ctx, after.num_ctx) == (131072, 32768)
    assert after.quirks == before.quirks
    assert after.licence == before.licence
    assert list(fleet.models) == list(shipped.models)


def test_a_nested_key_of_a_shipped_model_is_changed_and_its_neighbours_stay(load: Load) -> None:
    quirks = load(
        "models:\n  apriel-1.5-15b-thinker:\n    quirks:\n      reasoning_markers: {answer_start: '##'}\n"
    ).model("apriel-1.5-15b-thinker")
    markers = quirks.quirks.reasoning_markers
    assert markers is not None
    assert (markers.answer_start, markers.answer_end) == ("##", "[END FINAL RESPONSE]")


def test_the_models_of_a_category_are_replaced_as_a_whole(load: Load) -> None:
    fleet = load("categories:\n  simple_chat:\n    models: [{model: phi4, quality: 0.7}]\n")
    category = fleet.category("simple_chat")
    assert [choice.model for choice in category.models] == ["phi4"]
    assert category.description == load_fleet().category("simple_chat").description


def test_one_key_of_the_machine_is_changed_and_the_others_stay(load: Load) -> None:
    machine = load("machine: {usable_memory_gb: 60}\n").machine
    assert machine.usable_memory_gb == 60
    assert machine.name == "dgx-spark"


def test_a_deprecated_model_leaves_its_place_to_the_next(load: Load) -> None:
    fleet = load("models:\n  mixtral:8x7b: {deprecated: true}\n")
    assert "mixtral:8x7b" in fleet.models
    assert fleet.choice_for("default_general") == fleet.category("default_general").models[1].model
    assert fleet.choice_for("default_general") != "mixtral:8x7b"


def test_a_later_file_has_the_last_word(load: Load) -> None:
    fleet = load(
        "router: phi4\nmodels:\n  phi4: {num_ctx: 4096, speed: slow}\n",
        "router: mistral:7b\nmodels:\n  phi4: {num_ctx: 2048}\n",
    )
    assert fleet.router == "mistral:7b"
    assert fleet.model("phi4").num_ctx == 2048
    assert fleet.model("phi4").speed == "slow"


SMALL = """\
extends: none
name: laptop
models:
  tiny:1b: {size_gb: 1, params: 1B}
categories:
  chat: {description: Talk, models: [{model: 'tiny:1b', quality: 0.5}]}
"""


def test_extends_none_starts_empty(load: Load) -> None:
    fleet = load(SMALL)
    assert list(fleet.models) == ["tiny:1b"]
    assert list(fleet.categories) == ["chat"]
    assert fleet.default_category == "chat"
    assert (fleet.name, fleet.router, fleet.baseline, fleet.stand_in) == ("laptop", None, None, None)


def test_files_after_one_that_starts_empty_are_laid_over_it(load: Load) -> None:
    fleet = load(SMALL, "models:\n  tiny:3b: {size_gb: 2, params: 3B}\n")
    assert list(fleet.models) == ["tiny:1b", "tiny:3b"]


def test_an_empty_file_and_one_of_comments_change_nothing(load: Load) -> None:
    shipped = load_fleet()
    for text in ("", "# my fleet\n# models:\n", "models:\ncategories:\n"):
        assert load(text).models == shipped.models


def test_names_are_found_the_way_ollama_reads_them() -> None:
    fleet = load_fleet()
    assert fleet.find("Phi4:latest") == "phi4"
    assert fleet.model("ollama/MISTRAL:7B") is fleet.models["mistral:7b"]
    assert fleet.find("llama3.1") is None


def test_unknown_names_come_with_the_nearest_one() -> None:
    fleet = load_fleet()
    with pytest.raises(UnknownModel) as model:
        fleet.model("qwen2.5:7b")
    with pytest.raises(UnknownCategory) as category:
        fleet.category("max_reasonin")
    assert model.value.hint == "did you mean 'qwen2.5:72b'?"
    assert category.value.hint == "did you mean 'max_reasoning'?"


CHAT = "categories:\n  simple_chat:\n    models:\n"

MISTAKES = {
    "unknown section": ("\nmodles: {}\n", 2, "unknown key 'modles'", "did you mean 'models'?"),
    "unknown key of a model": (
        "models:\n  phi4:\n    spede: fast\n",
        3,
        "unknown key 'spede' in models.phi4",
        "did you mean 'speed'?",
    ),
    "unknown key of quirks": (
        "models:\n  gpt-oss:20b:\n    quirks:\n      thinks_alway: true\n",
        4,
        "unknown key 'thinks_alway' in models.gpt-oss:20b.quirks",
        "did you mean 'thinks_always'?",
    ),
    "unknown key of a choice": (
        CHAT + "      - {model: phi4, quality: 0.5}\n      - model: gemma2:9b\n        qualty: 0.5\n",
        6,
        "unknown key 'qualty' in categories.simple_chat.models.1",
        "did you mean 'quality'?",
    ),
    "unknown key of the machine": (
        "machine:\n  memory_gb: 60\n",
        2,
        "unknown key 'memory_gb' in machine",
        "did you mean 'memory_gb_per_s'?",
    ),
    "a model that does not exist": (
        CHAT + "      - {model: phi4, quality: 0.5}\n      - {model: gema2:9b, quality: 0.5}\n",
        5,
        "category 'simple_chat' names the model 'gema2:9b': no such model is defined",
        "did you mean 'gemma2:9b'?",
    ),
    "a model in another spelling": (
        CHAT + "      - {model: 'phi4:latest', quality: 0.5}\n",
        4,
        "category 'simple_chat' names the model 'phi4:latest': no such model is defined",
        "it is listed as 'phi4'; use that spelling",
    ),
    "a model named twice": (
        CHAT + "      - {model: phi4, quality: 0.5}\n      - {model: phi4, quality: 0.4}\n",
        5,
        "category 'simple_chat' names the model 'phi4' twice",
        "keep one of them",
    ),
    "a key given twice": (
        "models:\n  phi4: {speed: fast}\n  phi4: {speed: slow}\n",
        3,
        "'phi4' is given twice: first on line 2",
        "keep one of them",
    ),
    "a model under two names": (
        "models:\n  phi4:latest:\n    speed: fast\n",
        2,
        "model 'phi4:latest' is the same as 'phi4': a name without a tag means :latest",
        "write 'phi4' to change that entry",
    ),
    "a negative size": (
        "models:\n  phi4:\n    size_gb: -3\n",
        3,
        "models.phi4.size_gb: expected number > 0, got -3",
        "write a number > 0 and <= 5000 (size in GB as the owner states it)",
    ),
    "a quality above one": (
        CHAT + "      - model: phi4\n        quality: 1.5\n",
        5,
        "categories.simple_chat.models.0.quality: expected number <= 1, got 1.5",
        "write a number >= 0 and <= 1",
    ),
    "a planned context above the longest": (
        "models:\n  phi4:\n    num_ctx: 99999\n",
        3,
        "models.phi4.num_ctx: 99999 is more than its context_length 16384",
        "set num_ctx to 16384 or less",
    ),
    "a longest context below the planned one": (
        "models:\n  phi4:\n    context_length: 4096\n",
        3,
        "models.phi4.num_ctx: 8192 is more than its context_length 4096",
        "set num_ctx to 4096 or less",
    ),
    "a number for a text": (
        "models:\n  phi4:\n    params: 14\n",
        3,
        "models.phi4.params: expected text, got whole number",
        "put the value in quotes",
    ),
    "a word that is not known": (
        "models:\n  phi4:\n    capabilities: [completion, visoin]\n",
        3,
        "models.phi4.capabilities.1: unknown word 'visoin'",
        "did you mean 'vision'?",
    ),
    "a missing key": (
        "models:\n  granite:8b: {params: 8B}\n",
        2,
        "models.granite:8b: the key 'size_gb' is missing",
        "add size_gb: a number > 0 and <= 5000 (size in GB as the owner states it)",
    ),
    "a text for a model": (
        "models:\n  phi4: fast\n",
        2,
        "models.phi4 must be a mapping",
        "write its keys below it, indented, such as size_gb: and params:",
    ),
    "a list for the router": (
        "router: [phi4]\n",
        1,
        "router must be a text",
        "write one text after the colon",
    ),
    "a model without a name": (
        "models:\n  '': {size_gb: 1, params: 1B}\n",
        2,
        "models: '' is no name: it is empty, has blanks around it or characters that cannot be seen",
        "give the entry a name that can be typed",
    ),
    "a category with a line feed in its name": (
        'categories:\n  "a\\nb": {description: d, models: [{model: phi4, quality: 0.5}]}\n',
        2,
        "categories: 'a\\nb' is no name: it is empty, has blanks around it or characters that cannot be seen",
        "give the entry a name that can be typed",
    ),
    "a version without numbers": (
        "models:\n  phi4:\n    ollama: {minimum: latest}\n",
        3,
        "models.phi4.ollama.minimum: 'latest' is no version",
        "write it in numbers, such as '0.30.0'",
    ),
    "a list for the models": (
        "\nmodels:\n  - phi4\n",
        2,
        "models must be a mapping",
        "write one entry per line: name, colon, value",
    ),
    "a list for the file": (
        "- phi4\n",
        1,
        "a fleet file is a mapping: found a list or a text",
        "begin with models: or categories:",
    ),
    "a category without models": (
        "categories:\n  legal: {description: Law, models: []}\n",
        2,
        "categories.legal.models: expected list of length >= 1",
        "write a list, each entry with its keys: model, quality, source",
    ),
    "an unknown fleet to extend": (
        "extends: dgx-sprak\n",
        1,
        "extends: unknown fleet 'dgx-sprak'",
        "did you mean 'dgx-spark'?",
    ),
    "an unknown default category": (
        "name: mine\ndefault_category: default_genral\n",
        2,
        "default_category names 'default_genral': no such category is defined",
        "did you mean 'default_general'?",
    ),
    "an unknown router": (
        "router: llama3.2:3b\n",
        1,
        "router names the model 'llama3.2:3b': no such model is defined",
        "did you mean 'llama3.2:1b'?",
    ),
    "a list for a name": (
        "baseline: [phi4]\n",
        1,
        "baseline must be a text",
        "write one text after the colon",
    ),
    "another version": ("version: 2\n", 1, "version 2 is not known", "this release reads version 1"),
    "a model on the internet": (
        "models:\n  gpt-oss:120b-cloud: {size_gb: 1, params: 120B}\n",
        2,
        "model 'gpt-oss:120b-cloud' would be answered on the internet: policy.allow_cloud is off",
        "remove the entry, or set policy.allow_cloud",
    ),
    "a download from the internet's models": (
        "models:\n  phi4:\n    pull: phi4:cloud\n",
        3,
        "models.phi4.pull: 'phi4:cloud' would be answered on the internet: policy.allow_cloud is off",
        "name a local model, or set policy.allow_cloud",
    ),
    "a language that no script gives away": (
        "categories:\n  simple_chat:\n    requires:\n      language: de\n",
        4,
        "category 'simple_chat' requires the language 'de': "
        "only languages that their script gives away can be told apart",
        "known codes: ko, ja, zh, ru, ar, el, he, hi, th; for others write examples instead",
    ),
    "a stand-in without facts": (
        "stand_in:\n  name: tiny\n",
        1,
        "stand_in: the key 'model' is missing",
        "add model: a mapping with at least the keys: size_gb, params",
    ),
    "a fleet without categories": (
        "extends: none\n",
        1,
        "the fleet has no categories",
        "extend the shipped fleet: remove extends: none",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_file_line_and_a_way_out(mistake: str, load: Load, tmp_path: Path) -> None:
    text, line, message, hint = MISTAKES[mistake]
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert str(caught.value) == f"{tmp_path / '1.yaml'}:{line}: {message}"
    assert caught.value.line == line
    assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["models:\n\tphi4: {}\n", "models:\n  phi4: {speed: fast\n"])
def test_broken_yaml_is_one_line_with_file_and_line(text: str, load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert str(caught.value).startswith(f"{tmp_path / '1.yaml'}:")
    assert ": not valid YAML: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.line in (2, 3)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_bytes(b"name: mine\ndescription: gr\xfcn\n")
    with pytest.raises(ConfigError) as caught:
        load_fleet([path])
    assert str(caught.value).startswith(f"{path}:2: the file is not UTF-8 text")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yaml"
    with pytest.raises(ConfigError) as caught:
        load_fleet([path])
    assert str(caught.value) == f"{path}: cannot read the file: No such file or directory"


def test_only_the_first_file_may_start_empty(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load("name: mine\n", SMALL)
    assert str(caught.value).startswith(f"{tmp_path / '2.yaml'}:1: extends: none in a later file")
    assert caught.value.hint == "only the first fleet file may start empty"


def test_a_mistake_names_the_file_that_it_stands_in(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load("models:\n  phi4:\n    size_gb: -1\n", "models:\n  phi4:\n    speed: fast\n")
    assert str(caught.value).startswith(f"{tmp_path / '1.yaml'}:3: models.phi4.size_gb")


def test_a_category_may_not_lose_a_model_that_it_names(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(SMALL, CHAT.replace("simple_chat", "chat") + "      - {model: 'tiny:2b', quality: 0.5}\n")
    assert str(caught.value).startswith(f"{tmp_path / '2.yaml'}:4: category 'chat' names the model 'tiny:2b'")
    assert caught.value.hint == "did you mean 'tiny:1b'?"
