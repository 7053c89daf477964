"""A host's ``models`` setting, and what each class of error tells its callers."""

from __future__ import annotations

import msgspec
import pytest

from llm_router import errors
from llm_router.assembly import providers_of
from llm_router.cli.pull import planned
from llm_router.config import HostSettings, Settings, load_configuration
from llm_router.errors import ConfigError
from llm_router.fleet import load_fleet
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.names import is_cloud
from llm_router.policy import World
from llm_router.policy.settings import PolicySettings
from llm_router.providers.ollama import OllamaProvider


def one_host(models: dict[str, str]) -> Settings:
    return Settings(hosts=(HostSettings(url="http://127.0.0.1:9", name="spark", models=models),))


@pytest.mark.parametrize("name", ["x:cloud:latest", "x:120b-cloud:latest", "x-cloud:LATEST", " x:Cloud "])
def test_a_latest_that_a_client_appends_hides_no_cloud_name(name: str) -> None:
    assert is_cloud(name)
    assert not is_cloud("cloudy:latest")


def test_a_host_may_not_map_a_model_to_a_cloud_name() -> None:
    hosts = [{"url": "http://127.0.0.1:9", "kind": "openai", "models": {"mistral:7b": "gpt-oss:120b-cloud"}}]
    with pytest.raises(ConfigError, match="gpt-oss:120b-cloud"):
        load_configuration(environ={}, flags={"hosts": hosts})
    allowed = load_configuration(environ={}, flags={"hosts": hosts, "policy.allow_cloud": True})
    assert allowed.settings.hosts[0].models == {"mistral:7b": "gpt-oss:120b-cloud"}


def test_pull_skips_a_name_that_means_the_internet_even_when_forced() -> None:
    fleet = load_fleet()
    host = HostSnapshot(
        "spark", "ollama", "http://127.0.0.1:9", reachable=True, served_names={"mistral:7b": "x:cloud"}
    )
    plan = planned(["mistral:7b"], World(fleet, (host,), PolicySettings()), force=True)
    assert plan.wanted == ()
    assert "internet" in dict(plan.skipped)["mistral:7b"]


@pytest.mark.parametrize("asked", ["phi4", "phi4:latest", "Phi4:LATEST"])
def test_a_mapped_name_is_found_however_it_is_spelt(asked: str) -> None:
    host = HostSnapshot(
        "v1",
        "openai",
        "http://127.0.0.1:9",
        reachable=True,
        installed={"prod-phi": InstalledModel("prod-phi")},
        served_names={"Phi4": "prod-phi"},
    )
    assert host.served_as(asked) == "prod-phi"
    assert host.find_installed(asked) is not None
    assert host.served_as("mistral:7b") == "mistral:7b"


def test_a_mapped_name_that_the_fleet_lacks_is_told_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="mistral:7v") as caught:
        providers_of(one_host({"mistral:7v": "prod"}), load_fleet())
    assert "mistral:7b" in (caught.value.hint or "")


def test_the_setting_reaches_the_provider() -> None:
    settings = one_host({"Mistral:7B": "x:cloud"})
    settings = msgspec.structs.replace(settings, policy=PolicySettings(allow_cloud=True))
    provider = providers_of(settings, load_fleet())[0]
    assert isinstance(provider, OllamaProvider)
    assert provider.allow_cloud


def test_exit_code_3_is_kept_for_the_lack_of_a_model() -> None:
    codes = {kind.__name__: kind.exit_code for kind in errors.ProviderError.__subclasses__()}
    lacking_hosts = ("HostUnreachable", "HostTimeout", "HostBusy", "HostRefused")
    lacking_models = ("ModelNotInstalled", "ModelUnusable", "CapabilityMissing", "OutOfMemory")
    assert {codes[name] for name in lacking_hosts + lacking_models} == {3}
    assert (codes["StreamBroken"], codes["BadReply"], codes["RunnerFailed"]) == (1, 1, 1)
    assert codes["RequestRejected"] == 2


def test_each_class_says_whom_it_blames() -> None:
    kinds = errors.ProviderError.__subclasses__()
    blamed_hosts = {kind.__name__ for kind in kinds if kind.blames_host}
    blamed_models = {kind.__name__ for kind in kinds if kind.blames_model}
    assert blamed_hosts == {"HostUnreachable", "HostTimeout", "HostRefused"}
    assert blamed_models == {"OutOfMemory", "RunnerFailed", "BadReply", "HostTimeout", "StreamBroken"}


@pytest.mark.parametrize("kind", [errors.UnknownModel, errors.UnknownCategory])
def test_a_very_long_name_is_clipped_in_the_message(
    kind: type[errors.UnknownModel | errors.UnknownCategory],
) -> None:
    message = str(kind.named("m" * 100_000, ["phi4"]))
    assert "m" * 79 in message
    assert len(message) < 200
