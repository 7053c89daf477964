"""Settings: order of sources, where each value is from, and one clear error for anything wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_router.config import Configuration, load_configuration, user_directory
from llm_router.errors import ConfigError


def load(path: Path | None = None, **environ: str) -> Configuration:
    return load_configuration(environ=environ, path=path)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def rows(configuration: Configuration) -> dict[str, tuple[object, str]]:
    return {name: (value, origin) for name, value, origin in configuration.rows()}


def test_without_anything_the_defaults_hold_and_say_so() -> None:
    told = load()
    assert told.settings.hosts[0].url == "http://127.0.0.1:11434"
    assert all(origin == "default" for _, _, origin in told.rows())


def test_flags_beat_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    path = written(
        tmp_path, "policy:\n  time_weight: 0.3\n  memory_weight: 0.3\nclassify:\n  ask_below: 0.3\n"
    )
    environ = {"LLM_ROUTER_POLICY__MEMORY_WEIGHT": "0.4", "LLM_ROUTER_CLASSIFY__ASK_BELOW": "0.4"}
    told = load_configuration(environ=environ, path=path, flags={"classify.ask_below": 0.5})
    shown = rows(told)
    assert shown["policy.time_weight"] == (0.3, f"{path}:2")
    assert shown["policy.memory_weight"] == (0.4, "environment: LLM_ROUTER_POLICY__MEMORY_WEIGHT")
    assert shown["classify.ask_below"] == (0.5, "flag")
    assert shown["policy.prefer"] == ("owner", "default")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("box", "http://box:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":8080", "http://127.0.0.1:8080"),
        ("http://box", "http://box:80"),
        ("https://box/ollama/", "https://box:443/ollama"),
        ("[::1]:11500", "http://[::1]:11500"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(text: str, url: str) -> None:
    assert load(OLLAMA_HOST=text).settings.hosts[0].url == url


@pytest.mark.parametrize("text", ["ftp://box", "http://box:port", "http://two words"])
def test_an_address_that_is_none_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(OLLAMA_HOST=text)
    assert "http://HOST:11434" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("polcy:\n  prefer: score\n", 1, "did you mean 'policy'?"),
        ("policy:\n  prefer: owner\n  time_wieght: 1\n", 3, "did you mean 'time_weight'?"),
        ("policy:\n  time_weight: -1\n", 2, None),
        ("policy:\n  prefer: fastest\n", 2, None),
        (
            "policy:\n  time_weight: quick\n",
            2,
            "write a number >= 0 and <= 5 (what slowness costs, against quality 0 to 1)",
        ),
        ("hosts:\n  - url: http://a:1\n    kind: vllm\n", 3, "known: ollama, openai"),
        ("policy: [\n", 2, None),
        ("- a\n- b\n", 1, None),
    ],
)
def test_a_wrong_file_is_one_error_with_its_line(
    tmp_path: Path, text: str, line: int, part: str | None
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(caught.value)
    if part:
        assert part == caught.value.hint


def test_a_missing_file_that_was_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        load(LLM_ROUTER_CONFIG=str(tmp_path / "nowhere.yaml"))


def test_a_misspelt_variable_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError) as caught:
        load(LLM_ROUTER_POLICY__PREFFER="score")
    assert caught.value.hint == "did you mean 'LLM_ROUTER_POLICY__PREFER'?"


@pytest.mark.parametrize(
    ("variable", "value", "why", "hint"),
    [
        ("LLM_ROUTER_POLICY__TIME_WEIGHT", "heavy", "expected number, got text", "write a number >= 0"),
        ("LLM_ROUTER_POLICY__TIME_WEIGHT", "-3", "expected number >= 0, got -3", "write a number >= 0"),
        ("LLM_ROUTER_POLICY__PREFER", "scor", "unknown word 'scor'", "did you mean 'score'?"),
        (
            "LLM_ROUTER_POLICY__COMMERCIAL_ONLY",
            "ja",
            "expected true or false, got text",
            "write true or false",
        ),
        (
            "LLM_ROUTER_HOSTS",
            "7",
            "expected list, got whole number",
            "write a list, each entry with its keys: url",
        ),
        ("LLM_ROUTER_POLICY__PREFER", "[", "did not find expected node content", "check indentation"),
    ],
)
def test_a_wrong_variable_is_named_with_what_to_write(variable: str, value: str, why: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, **{variable: value})
    assert variable in caught.value.what
    assert caught.value.why is not None and why in caught.value.why
    assert (caught.value.hint or "").startswith(hint)


def test_a_variable_like_no_other_is_sent_to_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        load(LLM_ROUTER_FOO="7")
    assert caught.value.hint == "list the settings with: llm-router config show"


def test_a_variable_set_to_nothing_is_not_set() -> None:
    assert load(LLM_ROUTER_POLICY__PREFER="", LLM_ROUTER_ROUTING__REST_S=" ").origins == {}


@pytest.mark.parametrize(
    ("hosts", "what", "hint"),
    [
        (
            "[{url: 'ftp://a'}]",
            "cannot use 'ftp://a' as the address of Ollama",
            "give it as http://HOST:11434",
        ),
        (
            "[{url: a, kind: openai}]",
            "cannot use 'a' as the address of a host",
            "give it as http://HOST:PORT",
        ),
        ("[{url: 'http://', kind: openai}]", "cannot use 'http://' as", "give it as http://HOST:PORT"),
        ("[{url: 'http://a b', kind: openai}]", "cannot use 'http://a b' as", "give it as http://HOST:PORT"),
        ("[{url: 'http://a:x', kind: openai}]", "cannot use 'http://a:x' as", "give it as http://HOST:PORT"),
        ("[{url: 'http://me:secret@:1', kind: openai}]", "'http://***@:1'", "give it as http://HOST:PORT"),
        ("[{url: a, name: embedded}]", "a host is called embedded", "give it another name:"),
        ("[{url: a}, {url: b}]", "hosts need different names", "give each a name:"),
    ],
)
def test_a_host_that_makes_no_sense_is_told_with_its_place(
    tmp_path: Path, hosts: str, what: str, hint: str
) -> None:
    path = written(tmp_path, f"routing: {{}}\nhosts: {hosts}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:2: ") and what in caught.value.what
    assert (caught.value.hint or "").startswith(hint)


def test_variables_of_tests_and_caches_are_left_alone() -> None:
    load(LLM_ROUTER_TEST_OLLAMA="http://x", LLM_ROUTER_CACHE_DIR="/tmp/x", LLM_ROUTER_DEBUG="1")


def test_hosts_need_names_of_their_own(tmp_path: Path) -> None:
    path = written(tmp_path, "hosts:\n  - url: http://a:1\n  - url: http://b:1\n")
    with pytest.raises(ConfigError, match="different names"):
        load(path)
    path = written(
        tmp_path, "hosts:\n  - {url: 'http://a:1', name: a}\n  - {url: 'http://b:1/v1', kind: openai}\n"
    )
    assert [host.name for host in load(path).settings.hosts] == ["a", "openai"]


def test_a_fleet_file_in_the_user_directory_is_found(own_home: Path) -> None:
    directory = user_directory()
    assert own_home in directory.parents
    directory.mkdir(parents=True)
    (directory / "fleet.yaml").write_text("models: {}\n")
    assert load().settings.fleet == (str(directory / "fleet.yaml"),)
    assert load(LLM_ROUTER_FLEET="/a.yaml:/b.yaml").settings.fleet == ("/a.yaml", "/b.yaml")


def test_passwords_in_addresses_are_not_shown(tmp_path: Path) -> None:
    path = written(tmp_path, "hosts:\n  - url: http://me:secret@box:1\n    kind: openai\n")
    assert "secret" not in str(list(load(path).rows()))
