"""Every trouble has a finding with numbers and something to do; what is well says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import msgspec
import pytest
from tests.support.worlds import GB, embedded, host, host_down, whole_fleet, world

from llm_router.classify.settings import ClassifySettings, MissionControlSettings
from llm_router.config import Configuration, Settings
from llm_router.diagnosis import Finding, Surroundings, diagnose
from llm_router.diagnosis.classifier import Classifier
from llm_router.errors import ConfigError
from llm_router.fleet import load_fleet
from llm_router.hosts.memory import MachineMemory
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel, ResidentModel, unreachable
from llm_router.policy import PolicySettings
from llm_router.policy.inventory import answering

FLEET = load_fleet()
WELL = Surroundings(Configuration(Settings(), {}), parts={"crewai": True, "local": True})


def found(
    *hosts: HostSnapshot, seen: Surroundings = WELL, policy: PolicySettings | None = None
) -> tuple[Finding, ...]:
    return diagnose(world(FLEET, *hosts, settings=policy), seen)


def one(findings: Iterable[Finding], code: str, subject: str = "") -> Finding:
    matching = [f for f in findings if f.code == code and subject in ("", f.subject)]
    assert len(matching) == 1, f"{code} {subject}: {matching}"
    return matching[0]


def codes(findings: Iterable[Finding]) -> set[str]:
    return {finding.code for finding in findings}


def test_a_whole_fleet_has_no_problem() -> None:
    findings = found(whole_fleet(FLEET), embedded())
    assert not [f for f in findings if f.severity == "problem"]
    assert one(findings, "served").text.startswith("18 of 18")
    assert one(findings, "stand_in").severity == "ok"


def test_every_warning_and_problem_says_what_to_do() -> None:
    small = host("solar", "command-r", "llama3.2-vision:90b", "deepseek-v3", version="0.33.0")
    for finding in found(small, host_down("spark-2"), embedded()):
        assert finding.fix or finding.severity in ("ok", "info"), finding


# hosts


def test_no_answer_is_a_problem_and_the_rest_is_still_told() -> None:
    findings = found(host_down(), embedded())
    problem = one(findings, "unreachable")
    assert (problem.severity, problem.subject) == ("problem", "spark-1")
    assert "http://spark-1:11434" in problem.text
    assert problem.fix == "start it with: ollama serve; or set OLLAMA_HOST to its address"
    assert {"stand_in", "part_crewai", "no_files", "wrong_language"} <= codes(findings)
    assert not codes(findings) & {"missing", "unserved"}, "nobody knows what is installed"


def test_one_host_of_two_being_down_is_only_a_warning() -> None:
    findings = found(whole_fleet(FLEET), host_down("spark-2"))
    assert one(findings, "unreachable").severity == "warning"


@pytest.mark.parametrize(
    "problem",
    [
        "it sent an HTML page (status 502), not an answer of a model server",
        "it redirects to http://elsewhere/",
        "something else listens there, not Ollama",
        "it does not speak Ollama's API (…)",
    ],
)
def test_another_program_at_the_address_is_told_apart_from_silence(problem: str) -> None:
    finding = one(
        found(unreachable("ollama", "ollama", "http://127.0.0.1:80", problem)), "not_a_model_server"
    )
    assert problem in finding.text
    assert "11434" in finding.fix


@pytest.mark.parametrize(
    ("url", "problem", "fix"),
    [
        ("https://box", "no secure connection: wrong version number", "give the address with http://"),
        ("https://box", "no secure connection: certificate verify failed", "SSL_CERT_FILE"),
        ("http://box", "the connection was closed without an answer", "https://"),
        ("http://box", "it does not speak HTTP as expected", "https://"),
    ],
)
def test_what_to_do_about_an_address_depends_on_what_is_there(url: str, problem: str, fix: str) -> None:
    findings = found(unreachable("ollama", "ollama", url, problem))
    told = [f for f in findings if f.code in ("unreachable", "not_a_model_server")]
    assert len(told) == 1 and fix in told[0].fix


def test_the_address_says_where_it_comes_from() -> None:
    told = Surroundings(Configuration(Settings(), {"hosts": "environment: OLLAMA_HOST"}))
    local = dataclasses.replace(whole_fleet(FLEET), url="http://127.0.0.1:11434")
    assert "(environment: OLLAMA_HOST)" in one(found(local, seen=told), "address").text
    assert "OLLAMA_HOST is not set" in one(found(local), "address").text


def test_tasks_that_travel_unencrypted_are_mentioned() -> None:
    assert one(found(whole_fleet(FLEET)), "unencrypted").severity == "info"


@pytest.mark.parametrize(
    ("version", "stalls", "blocks"),
    [("0.24.0", False, False), ("0.30.1", True, False), ("0.31.1", True, True), ("0.33.0-rc2", False, True)],
)
def test_known_risks_depend_on_the_version(version: str, stalls: bool, blocks: bool) -> None:
    texts = [f.text for f in found(whole_fleet(FLEET, version=version)) if f.code == "version_risk"]
    assert any("stall" in text for text in texts) is stalls
    assert any("keep_alive" in text for text in texts) is blocks


def test_a_server_too_old_to_tell_capabilities_is_named() -> None:
    assert one(found(host("phi4")), "no_capabilities").severity == "warning"


# models


def test_a_missing_model_has_its_exact_pull_command_and_size() -> None:
    finding = one(found(host("mistral:7b")), "missing", "phi4")
    assert finding.fix == "ollama pull phi4"
    assert "9.1 GB" in finding.text
    assert "mistral:7b" not in {f.subject for f in found(host("mistral:7b")) if f.code == "missing"}


def test_a_missing_model_with_a_better_substitute_is_no_warning() -> None:
    findings = found(host("qwen2.5:14b", "gemma2:9b"))
    assert one(findings, "missing", "solar").severity == "info"
    assert one(findings, "missing", "qwen2.5:72b").severity == "warning"


def test_models_that_would_be_of_no_use_are_never_suggested() -> None:
    findings = found(host("phi4", version="0.33.0", memory_gb=112))
    fixes = " ".join(f.fix for f in findings)
    assert "405 GB" in one(findings, "not_worth_pulling", "deepseek-v3").text
    assert "0.30.0" in one(findings, "not_worth_pulling", "llama3.2-vision:90b").text
    assert "ollama create" in one(findings, "not_in_library", "apriel-1.5-15b-thinker").fix
    for name in ("deepseek-v3", "llama3.2-vision:90b", "apriel-1.5-15b-thinker"):
        assert f"ollama pull {name}" not in fixes


def test_an_installed_model_that_this_version_cannot_load_is_told() -> None:
    finding = one(found(whole_fleet(FLEET, version="0.33.0")), "unusable", "llama3.2-vision:90b")
    assert finding.severity == "warning"
    assert "0.33.0" in finding.text
    assert "answers max_vision" in finding.text


def test_updating_is_warned_of_where_a_model_needs_an_old_version() -> None:
    assert "0.30.0" in one(found(whole_fleet(FLEET, version="0.24.0")), "bound_to_version").text


def test_an_installed_model_too_large_for_the_memory_is_told_with_numbers() -> None:
    finding = one(found(host("qwen2.5:72b", memory_gb=31)), "unusable", "qwen2.5:72b")
    assert "52 GB" in finding.text
    assert "31 GB" in finding.text


def test_another_model_under_a_known_name_is_told() -> None:
    tiny = InstalledModel("mistral:7b", 98_000_000, frozenset({"completion"}), 8192, "llama", "134.52M")
    assert "134.52M" in one(found(host(tiny)), "different_model", "mistral:7b").text


def test_capabilities_of_the_host_win_over_the_fleet_file_and_both_are_told() -> None:
    plain = InstalledModel("mistral:7b", 4 * GB, frozenset({"completion", "vision"}), 32768, "llama", "7.2B")
    findings = found(host(plain))
    lacking, gained = one(findings, "lacks_capability"), one(findings, "gains_capability")
    assert ("tools" in lacking.text, "vision" in gained.text) == (True, True)
    assert lacking.fix.endswith("ollama pull mistral:7b")


def test_a_file_with_less_context_than_planned_is_told() -> None:
    short = InstalledModel("mistral:7b", 4 * GB, frozenset({"completion", "tools"}), 4096, "llama", "7.2B")
    assert "4,096" in one(found(host(short)), "shorter_context").text


# memory


def test_a_model_that_another_program_loaded_differently_is_told_with_both_contexts() -> None:
    resident = ResidentModel("phi4:latest", 12 * GB, 12 * GB, 16384)
    finding = one(found(host("phi4", resident=[resident])), "context_mismatch", "phi4")
    assert ("16,384" in finding.text, "8,192" in finding.text) == (True, True)
    assert "num_ctx" in finding.fix


def test_a_model_with_the_planned_context_is_no_trap() -> None:
    resident = ResidentModel("phi4:latest", 12 * GB, 12 * GB, 8192)
    assert "context_mismatch" not in codes(found(host("phi4", resident=[resident])))


def test_memory_adds_up_and_says_what_still_fits() -> None:
    resident = ResidentModel("phi4:latest", 11 * GB, 11 * GB, 8192)
    findings = found(host("phi4", "qwen2.5:14b", "qwen2.5:72b", resident=[resident], memory_gb=31))
    text = one(findings, "memory").text
    assert "phi4:latest 11.0 GB of 31 GB" in text
    assert "20.0 GB are left: room for qwen2.5:14b (12.2 GB" in text


def test_more_resident_than_planned_is_a_warning() -> None:
    resident = ResidentModel("phi4:latest", 40 * GB, 40 * GB, 8192)
    finding = one(found(host("phi4", resident=[resident], memory_gb=31)), "overfull")
    assert "9.0 GB too much" in finding.text


def test_a_model_partly_outside_the_gpu_is_told() -> None:
    resident = ResidentModel("phi4:latest", 11 * GB, 6 * GB, 8192)
    assert "5.0 GB of 11.0 GB" in one(found(host("phi4", resident=[resident])), "partly_on_cpu").text


def test_a_resident_stranger_is_told() -> None:
    stranger = ResidentModel("codestral:22b", 15 * GB)
    findings = found(host("phi4", InstalledModel("codestral:22b"), resident=[stranger]))
    assert "15.0 GB" in one(findings, "foreign_resident").text


@pytest.mark.parametrize(("memory_gb", "told"), [(112, True), (51, True), (31, False)])
def test_the_default_context_trap_is_told_on_large_hosts_only(memory_gb: float, told: bool) -> None:
    assert ("default_context" in codes(found(host("phi4", memory_gb=memory_gb)))) is told


def test_the_limit_of_loaded_models_is_told_unless_it_was_set() -> None:
    set_here = dataclasses.replace(WELL, variables={"OLLAMA_MAX_LOADED_MODELS": "6"})
    assert "19 models" in one(found(whole_fleet(FLEET)), "max_loaded_models").text
    assert "max_loaded_models" not in codes(found(whole_fleet(FLEET), seen=set_here))


def test_a_plan_for_more_memory_than_this_machine_has_is_a_warning() -> None:
    seen = dataclasses.replace(WELL, memory=MachineMemory(16, 12))
    local = dataclasses.replace(host("mistral:7b"), url="http://127.0.0.1:11434")
    finding = one(found(local, seen=seen), "memory_plan")
    assert ("112 GB" in finding.text, "16 GB" in finding.text) == (True, True)
    assert "usable_memory_gb: 14" in finding.fix
    assert "memory_plan" not in codes(found(host("mistral:7b"), seen=seen)), (
        "another machine's memory is unknown"
    )


# what the embedded classifier knows

LEGAL = msgspec.structs.replace(
    FLEET.category("simple_chat"),
    examples=("Is this enforceable?", " Is this enforceable? ", "", "Which risks?"),
)
OWN_CATEGORY = dataclasses.replace(FLEET, categories={**FLEET.categories, "legal_review": LEGAL})


def test_a_category_with_too_few_examples_is_told_with_what_to_write() -> None:
    seen = dataclasses.replace(WELL, classifier=Classifier(frozenset(FLEET.categories), 5))
    finding = one(diagnose(world(OWN_CATEGORY, whole_fleet(FLEET)), seen), "too_few_examples")
    assert (finding.severity, finding.subject) == ("warning", "legal_review")
    assert "it has 2 different examples" in finding.text and "learnt from 5" in finding.text
    assert finding.fix.startswith("write 3 more under categories.legal_review.examples")


def test_a_category_with_enough_examples_or_a_trained_one_is_not_told() -> None:
    taught = msgspec.structs.replace(LEGAL, examples=tuple("abcde"))
    fleet = dataclasses.replace(FLEET, categories={**FLEET.categories, "legal_review": taught})
    seen = dataclasses.replace(WELL, classifier=Classifier(frozenset(FLEET.categories), 5))
    assert "too_few_examples" not in codes(diagnose(world(fleet, whole_fleet(FLEET)), seen))


def test_a_classifier_that_cannot_be_used_is_told_once() -> None:
    seen = dataclasses.replace(WELL, classifier=Classifier(frozenset(), 5, "cannot read the weights"))
    findings = diagnose(world(OWN_CATEGORY, whole_fleet(FLEET)), seen)
    assert "cannot read the weights" in one(findings, "no_classifier").text
    assert "too_few_examples" not in codes(findings)


def test_whether_its_arithmetic_is_compiled_is_told() -> None:
    for compiled, severity in ((True, "ok"), (False, "info")):
        known = Classifier(frozenset(FLEET.categories), 5, compiled=compiled)
        seen = dataclasses.replace(WELL, classifier=known)
        finding = one(diagnose(world(FLEET, whole_fleet(FLEET)), seen), "arithmetic")
        assert finding.severity == severity
        assert ("compiler" in finding.fix) is not compiled


# categories, licences, parts, settings


def test_a_category_nobody_can_serve_names_a_model_that_could() -> None:
    findings = found(host("phi4", version="0.33.0"))
    assert one(findings, "unserved", "embeddings").fix == "ollama pull nomic-embed-text"
    assert one(findings, "unserved", "max_vision").fix == "ollama pull llava:13b"


def test_a_category_for_pictures_says_who_answers_plain_text() -> None:
    findings = found(host("phi4", "qwen2.5:14b", version="0.33.0"))
    text = one(findings, "unserved", "max_vision").text
    assert text == (
        "no installed model can serve max_vision with a picture; "
        "qwen2.5:14b answers it where it is a short text only"
    )
    lead = one(findings, "not_worth_pulling", "llama3.2-vision:90b").text
    assert lead.endswith(
        "instead nothing answers max_vision with a picture, and qwen2.5:14b where it is a short text only"
    )


def test_a_category_for_long_texts_says_who_answers_short_ones() -> None:
    short = InstalledModel("mistral:7b", 4 * GB, frozenset({"completion", "tools"}), 4096, "llama", "7.2B")
    text = one(found(host(short)), "unserved", "long_context").text
    assert "can serve long_context of 9," in text and "tokens and more; mistral:7b answers" in text


def test_a_category_that_one_model_answers_whole_and_in_text_is_told_once() -> None:
    text = one(
        found(host("apriel-1.5-15b-thinker", version="0.33.0")), "not_worth_pulling", "llama3.2-vision:90b"
    ).text
    assert text.endswith("instead apriel-1.5-15b-thinker answers max_vision")


def test_who_answers_instead_is_who_a_decision_would_take() -> None:
    world_now = world(FLEET, whole_fleet(FLEET, memory_gb=112))
    decided = answering(world_now)["max_reasoning_moe"]
    text = one(diagnose(world_now, WELL), "unusable", "deepseek-v3").text
    assert decided is not None and text.endswith(f"instead {decided.model} answers max_reasoning_moe")


def test_nothing_is_to_be_pulled_where_every_model_is_there() -> None:
    assert one(found(whole_fleet(FLEET)), "usable").fix == ""
    assert "llm-router pull" in one(found(host("phi4")), "usable").fix


def test_a_default_category_nobody_can_serve_is_a_problem() -> None:
    findings = found(host("nomic-embed-text"))
    assert one(findings, "unserved", "default_general").severity == "problem"


def test_korean_on_an_english_model_names_the_better_installed_one() -> None:
    finding = one(found(host("solar", "qwen2.5:14b")), "wrong_language")
    assert finding.text.startswith("solar answers korean_multilingual")
    assert "put qwen2.5:14b first" in finding.fix
    assert "wrong_language" not in codes(found(host("qwen2.5:14b")))


def test_a_licence_that_forbids_paid_work_is_told_until_the_policy_refuses_it() -> None:
    finding = one(found(host("command-r")), "non_commercial")
    assert ("CC-BY-NC-4.0" in finding.text, "fast_rag" in finding.text) == (True, True)
    assert "COMMERCIAL_ONLY" in finding.fix
    strict = found(host("command-r"), policy=PolicySettings(commercial_only=True))
    assert "non_commercial" not in codes(strict)
    assert "commercial_only" in codes(strict)


def test_a_licence_only_the_host_tells_counts_too() -> None:
    changed = InstalledModel("phi4", 9 * GB, licence="CC-BY-NC-4.0: non-commercial use only")
    assert "CC-BY-NC" in one(found(host(changed)), "non_commercial", "phi4").text


def test_mission_control_is_resident_installed_missing_or_off() -> None:
    resident = ResidentModel("llama3.2:1b", GB, GB, 4096)
    assert "is resident" in one(found(host("llama3.2:1b", resident=[resident])), "mission_control").text
    assert "loads it" in one(found(host("llama3.2:1b")), "mission_control").text
    assert one(found(host("phi4")), "mission_control").fix == "ollama pull llama3.2:1b"
    settings = Settings()
    classify = msgspec.structs.replace(
        settings.classify,
        mission_control=msgspec.structs.replace(settings.classify.mission_control, enabled=False),
    )
    off = Surroundings(Configuration(msgspec.structs.replace(settings, classify=classify), {}))
    assert "switched off" in one(found(host("llama3.2:1b"), seen=off), "mission_control").text


def test_mission_control_is_the_model_that_the_settings_name() -> None:
    for name in ("phi4", "my-own:1b"):
        seen = Surroundings(
            Configuration(
                Settings(classify=ClassifySettings(mission_control=MissionControlSettings(model=name))), {}
            )
        )
        assert f"{name} is installed" in one(found(host(name), seen=seen), "mission_control").text
        assert one(found(host("llama3.2:1b"), seen=seen), "mission_control").fix == f"ollama pull {name}"


def test_settings_that_cannot_be_used_are_problems_with_their_place() -> None:
    error = ConfigError("unknown key 'polcy'", hint="did you mean 'policy'?", path="config.yaml", line=3)
    finding = one(found(whole_fleet(FLEET), seen=dataclasses.replace(WELL, errors=(error,))), "bad_settings")
    assert (finding.severity, finding.fix) == ("problem", "did you mean 'policy'?")
    assert "config.yaml:3" in finding.text


def test_files_and_parts_are_listed() -> None:
    seen = dataclasses.replace(WELL, files={"/x/fleet.yaml": "fleet file"}, parts={"crewai": False})
    findings = found(whole_fleet(FLEET), seen=seen)
    assert one(findings, "file").subject == "/x/fleet.yaml"
    assert one(findings, "part_crewai").fix == "pip install 'crewai-llm-router[crewai]'"
    assert "no_files" not in codes(findings)


def test_a_stand_in_that_is_not_ready_says_why_and_how() -> None:
    absent = unreachable("embedded", "embedded", "", "xllamacpp is not installed: pip install it")
    finding = one(found(whole_fleet(FLEET), absent), "stand_in")
    assert finding.severity == "info"
    assert finding.fix == "pip install it"


def test_cloud_names_being_allowed_is_a_warning() -> None:
    settings = msgspec.structs.replace(Settings(), policy=PolicySettings(allow_cloud=True))
    assert "cloud_allowed" in codes(found(whole_fleet(FLEET), seen=Surroundings(Configuration(settings, {}))))


def test_a_finding_as_json_leaves_out_what_it_does_not_have() -> None:
    assert Finding("hosts", "x", "ok", "well").as_json() == {
        "group": "hosts",
        "code": "x",
        "severity": "ok",
        "text": "well",
    }


# several hosts, and models that others keep

FOR_EVER = "2318-04-11T23:47:16.854775807Z"


def test_the_default_context_is_told_with_what_it_costs_here() -> None:
    finding = one(found(whole_fleet(FLEET)), "default_context")
    dearest = FLEET.models["llama3.1:70b"]
    assert "262,144 tokens" in finding.text and "sends each model's own num_ctx" in finding.text
    assert "takes 43 GB for its KV cache (131,072 tokens)" in finding.text
    assert f"with the {dearest.planned_num_ctx:,} planned here" in finding.text
    assert "OLLAMA_CONTEXT_LENGTH=8192" in finding.fix


def test_the_default_context_is_no_matter_where_it_was_set() -> None:
    local = dataclasses.replace(whole_fleet(FLEET), url="http://127.0.0.1:11434")
    for value, told in (("8192", False), ("262144", True), ("0", True), ("", True)):
        seen = dataclasses.replace(WELL, variables={"OLLAMA_CONTEXT_LENGTH": value})
        assert ("default_context" in codes(found(local, seen=seen))) is told, value
    seen = dataclasses.replace(WELL, variables={"OLLAMA_CONTEXT_LENGTH": "8192"})
    assert "default_context" in codes(found(whole_fleet(FLEET), seen=seen)), (
        "it is another machine's variable"
    )


@pytest.mark.parametrize(
    ("name", "size_gb", "expires_at", "severity"),
    [
        ("codestral:22b", 15, FOR_EVER, "warning"),
        ("phi4", 11, FOR_EVER, "info"),
        ("phi4", 11, "2026-11-25T12:00:00Z", None),
        ("phi4", 11, "", None),
        ("llama3.2:1b", 2, FOR_EVER, None),
    ],
)
def test_a_model_that_another_program_keeps_is_told(
    name: str, size_gb: int, expires_at: str, severity: str | None
) -> None:
    kept = ResidentModel(name, size_gb * GB, size_gb * GB, None, expires_at)
    findings = [f for f in found(host("phi4", "llama3.2:1b", resident=[kept])) if f.code == "kept_by_others"]
    assert [f.severity for f in findings] == ([severity] if severity else [])
    for finding in findings:
        assert f"{size_gb}.0 GB of 112 GB" in finding.text
        assert f"memory_gb: {112 - size_gb} for spark-1" in finding.fix


def test_one_server_under_two_names_is_a_warning() -> None:
    twin = dataclasses.replace(whole_fleet(FLEET), name="spark-2")
    finding = one(found(whole_fleet(FLEET), twin), "one_server_twice")
    assert finding.severity == "warning" and "spark-1 and spark-2" in finding.text
    assert "one_server_twice" not in codes(found(whole_fleet(FLEET), host("phi4", name="spark-2")))


def test_versions_that_differ_are_named() -> None:
    other = host("phi4", name="spark-2", version="0.33.0")
    assert "spark-1 0.24.0, spark-2 0.33.0" in one(found(host("phi4"), other), "versions_differ").text
    assert "versions_differ" not in codes(found(host("phi4"), host("phi4", name="spark-2")))


def test_memory_that_nobody_stated_is_told_where_there_are_several() -> None:
    known, unknown = host("phi4", memory_gb=31), host("phi4", name="spark-2")
    finding = one(found(known, unknown), "memory_assumed")
    assert "how much memory spark-2 has: 112 GB are assumed" in finding.text
    assert "memory_assumed" not in codes(found(unknown)), "one host is the fleet's machine"
    assert "memory_assumed" not in codes(found(known, host("phi4", name="spark-2", memory_gb=62)))


def test_the_same_name_for_two_files_is_a_warning() -> None:
    one_file = host(InstalledModel("phi4", digest="a" * 12), "solar")
    other_file = host(InstalledModel("phi4", digest="b" * 12), "mistral:7b", name="spark-2")
    findings = found(one_file, other_file)
    assert "phi4 is not the same file on spark-1 and spark-2" in one(findings, "files_differ").text
    assert one(findings, "shared_models").text.startswith("1 of 19 models of the fleet")
    same = host(InstalledModel("phi4", digest="a" * 12), name="spark-2")
    assert "files_differ" not in codes(found(one_file, same))


def test_one_host_has_nothing_to_be_compared_with() -> None:
    several = {"one_server_twice", "versions_differ", "memory_assumed", "files_differ", "shared_models"}
    assert not several & codes(found(whole_fleet(FLEET), embedded()))
