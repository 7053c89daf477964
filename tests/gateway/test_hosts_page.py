"""``/router/hosts`` while things go on, and ``llm-router ps`` that asks it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from click.testing import CliRunner, Result
from tests.gateway.conftest import Here, Start
from tests.gateway.test_security import entry, with_keys

from llm_router.cli.app import app
from llm_router.config import HostSettings, RoutingSettings
from llm_router.hosts import residency as residency_module
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.hosts.told import HostsTold
from llm_router.testing.fake_faults import Fault
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama, Pace

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "gateway.md"
LARGE = "deepseek-r1:70b"


def asked(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "What's 2+2?"}]}


async def hosts(here: Here) -> list[dict[str, Any]]:
    status, told, _ = await here.get("/router/hosts")
    assert status == 200
    return list(told["hosts"])


async def ps(*arguments: str) -> Result:
    """In a thread: the command has an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["ps", *arguments])


@pytest.fixture(autouse=True)
def no_settings_of_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("LLM_ROUTER_API_KEY", raising=False)


async def test_a_quiet_host(here: Here) -> None:
    await here.post("/v1/chat/completions", asked("mistral:7b"))
    (host,) = await hosts(here)
    assert (host["name"], host["kind"], host["reachable"], host["problem"]) == (
        "ollama",
        "ollama",
        True,
        None,
    )
    assert host["version"] == "0.33.0" and host["usable_memory_gb"] == 112.0
    assert host["age_s"] < 10
    (model,) = host["resident"]
    assert model["name"] == "mistral:7b" and model["size_gb"] > 4 and model["context_length"] == 16384
    assert (model["running"], model["waiting"], model["kept"]) == (0, 0, False)
    assert host["queues_known"] and host["loading"] is None and host["loads_waiting"] == []
    assert host["demand_per_hour"]["mistral:7b"] > 0
    assert {name.removesuffix(":latest") for name in host["kept"]} == {"llama3.2:1b", "nomic-embed-text"}


async def test_a_load_under_way_those_who_wait_and_the_one_who_is_answered(here: Here) -> None:
    await here.post("/v1/chat/completions", asked("mistral:7b"))
    here.ollama.fault(Fault.SLOW_LOAD, model=LARGE, times=1)
    here.ollama.fault(Fault.SLOW_TOKENS, model="mistral:7b", times=1)
    coming = [
        asyncio.create_task(here.post("/v1/chat/completions", asked(model)))
        for model in (LARGE, LARGE, "gemma2:9b", "mistral:7b")
    ]
    try:
        await asyncio.to_thread(here.ollama.wait_until, lambda o: o.loading is not None and o.in_flight >= 2)
        (host,) = await hosts(here)
        assert host["loading"]["model"] == LARGE and host["loading"]["waiting"] == 2
        assert host["loading"]["left_s"] > 1
        assert host["loads_waiting"] == [{"model": "gemma2:9b", "waiting": 1}]
        (mistral,) = host["resident"]
        assert (mistral["name"], mistral["running"]) == ("mistral:7b", 1)

        shown = await ps("--gateway", here.url)
        assert shown.exit_code == 0, shown.stderr
        text = shown.stdout
        assert text.startswith(f"Told by the gateway at {here.url}\n")
        assert f"  loading   {LARGE}, ≈ " in text and "left, 2 wait\n" in text
        assert "  then      gemma2:9b (1 waits)\n" in text
        assert all(len(line) <= 80 for line in text.splitlines())
        assert shown.stderr == ""
    finally:
        here.ollama.release()
        for task in coming:
            assert (await task)[0] == 200
    (host,) = await hosts(here)
    assert host["loading"] is None and host["loads_waiting"] == []


async def test_a_loader_that_hangs_is_told_with_the_seconds_that_are_left(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residency_module, "HUNG_OVERHEAD_S", 0.2)
    monkeypatch.setattr(residency_module, "HUNG_GB_PER_S", 1e9)
    await here.post("/v1/chat/completions", asked("mistral:7b"))
    (host,) = await hosts(here)
    assert (host["loads_rest"], host["resting"], host["unusable"]) == (None, [], [])
    here.ollama.fault(Fault.WEDGED)
    assert (await here.post("/v1/chat/completions", asked("gemma2:9b")))[0] >= 500
    (host,) = await hosts(here)
    assert host["reachable"] and 0 < host["loads_rest"]["left_s"] <= 30
    assert host["loads_rest"]["why"].startswith("loads may hang there: ")
    assert (await here.post("/v1/chat/completions", asked("mistral:7b")))[0] == 200
    _, document, _ = await here.get("/openapi.json")
    schema = {"$ref": "#/components/schemas/HostNow", "components": document["components"]}
    jsonschema.validate(host, schema)
    text = re.sub(r"\s+", " ", (await ps("--gateway", here.url)).stdout)
    assert " resting loads may hang there: " in text and "; the next one is tried in " in text


async def test_a_model_that_cannot_be_loaded_is_told(here: Here) -> None:
    here.ollama.fault(Fault.UNKNOWN_ARCHITECTURE, model="gemma2:9b")
    await here.post("/v1/chat/completions", asked("gemma2:9b"))
    (host,) = await hosts(here)
    (told,) = host["unusable"]
    assert told["model"] == "gemma2:9b" and "unknown model architecture" in told["why"]
    text = re.sub(r"\s+", " ", (await ps("--gateway", here.url)).stdout)
    assert "unusable gemma2:9b: " in text


async def test_a_password_in_the_address_of_a_gateway_is_not_shown(here: Here) -> None:
    for address in (here.url, here.ollama.url):
        shown = await ps("--gateway", address.replace("http://", "http://me:secret@"))
        assert "secret" not in shown.stdout + shown.stderr
        assert shown.stdout or "no gateway of this version" in shown.stderr


async def test_ps_as_json_is_what_the_page_says(here: Here) -> None:
    told = json.loads((await ps("--gateway", here.url.removeprefix("http://"), "--json")).stdout)
    (page,) = await hosts(here)
    assert [host["name"] for host in told["hosts"]] == ["ollama"]
    assert set(told["hosts"][0]) == set(page)


async def test_several_hosts_and_no_password(start: Start) -> None:
    down = HostSettings(url="http://me:secret@127.0.0.1:9", name="spark-2")
    here = await start(hosts=(down,))
    one, two = await hosts(here)
    assert (one["reachable"], two["reachable"]) == (True, False)
    assert two["name"] == "spark-2" and "refused" in two["problem"] and two["age_s"] is None
    assert "secret" not in json.dumps((one, two))
    shown = await ps("--gateway", here.url)
    assert "spark-2  does not answer at http://***@127.0.0.1:9: connection refused" in shown.stdout


async def test_it_is_an_admins(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = await with_keys(start, tmp_path, entry("user", "u"), entry("boss", "b", admin=True))
    assert (await here.get("/router/hosts"))[0] == 401
    assert (await here.get("/router/hosts", x_api_key="u"))[0] == 403
    assert (await here.get("/router/hosts", x_api_key="b"))[0] == 200
    shown = await ps("--gateway", here.url)
    assert shown.exit_code == 3
    assert "asks for the key of an admin" in shown.stderr and "LLM_ROUTER_API_KEY" in shown.stderr
    for key, told in (("u", "the key is no admin's"), ("x", "does not know the key")):
        monkeypatch.setenv("LLM_ROUTER_API_KEY", key)
        assert told in (await ps("--gateway", here.url)).stderr
    monkeypatch.setenv("LLM_ROUTER_API_KEY", "b")
    assert (await ps("--gateway", here.url)).exit_code == 0


async def test_the_gateway_of_the_settings_is_asked_and_its_refusal_is_no_end(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await with_keys(start, tmp_path, entry("boss", "b", admin=True))
    monkeypatch.setenv("OLLAMA_HOST", here.ollama.url)
    monkeypatch.setenv("LLM_ROUTER_ROUTING__STAND_IN", "never")
    monkeypatch.setenv("LLM_ROUTER_SERVE__PORT", here.url.rpartition(":")[2])
    shown = await ps()
    assert shown.exit_code == 0
    assert "asks for the key of an admin" in shown.stderr and "looked at the hosts from here" in shown.stderr
    assert shown.stdout.startswith("Told by the hosts themselves")
    monkeypatch.setenv("LLM_ROUTER_API_KEY", "b")
    shown = await ps()
    assert shown.stdout.startswith(f"Told by the gateway at {here.url}") and shown.stderr == ""


async def test_a_server_that_is_no_gateway_is_told(here: Here) -> None:
    shown = await ps("--gateway", here.ollama.url)
    assert shown.exit_code == 1
    assert "no gateway of this version" in shown.stderr and "llm-router serve" in shown.stderr


async def test_the_page_is_as_its_document_says(here: Here) -> None:
    await here.post("/v1/chat/completions", asked("mistral:7b"))
    _, document, _ = await here.get("/openapi.json")
    _, told, _ = await here.get("/router/hosts")
    schema = document["paths"]["/router/hosts"]["get"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    jsonschema.validate(told, {**schema, "components": document["components"]})
    assert msgspec.convert(told, HostsTold).hosts[0].name == "ollama"
    stated = document["components"]["schemas"]["HostNow"]["properties"]
    assert set(stated) == set(told["hosts"][0])
    assert set(stated["resident"]["items"]["properties"]) == set(told["hosts"][0]["resident"][0])


async def test_every_key_is_documented(here: Here) -> None:
    await here.post("/v1/chat/completions", asked("mistral:7b"))
    text = (
        GUIDE.read_text(encoding="utf-8").partition("## What goes on at the hosts")[2].partition("\n## ")[0]
    )
    documented = set(re.findall(r"`([a-z_]+)`", text))
    (host,) = await hosts(here)
    assert {"hosts", *host, *host["resident"][0], "model", "left_s", "why"} <= documented


async def test_speeds_are_told_and_outlive_a_restart(start: Start) -> None:
    answer = "It was founded by the sea and traded with all of its neighbours. " * 8
    pace = Pace(prompt_tokens_per_s=700.0, tokens_per_s=9.0)
    here = await start(fake=FakeOllama(fleet_models(["mistral:7b"]), pace=pace, reply=lambda _: answer))
    for _ in range(3):
        await here.post("/v1/chat/completions", asked("mistral:7b"))
    (host,) = await hosts(here)
    (speed,) = host["speeds"]
    assert speed["model"] == "mistral:7b" and speed["decode_samples"] == 3 and speed["prefill_samples"] == 0
    assert 9 < speed["decode_tokens_per_s"] < 30
    assert len(await here.recorded()) == 3

    again = await start()
    until = asyncio.get_running_loop().time() + 10
    while (await hosts(again))[0]["speeds"] != [speed]:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0)


async def test_the_gateway_looks_at_its_hosts_although_nobody_asks(start: Start) -> None:
    """Until it ends."""
    here = await start(
        settings={
            "residency": ResidencySettings(look_every_s=0.02),
            "routing": RoutingSettings(stand_in="never", snapshot_max_age_s=0.01),
        }
    )
    looks = len([r for r in here.ollama.requests if r.path == "/api/ps"])
    await asyncio.to_thread(
        here.ollama.wait_until, lambda o: len([r for r in o.requests if r.path == "/api/ps"]) > looks + 2
    )
    await here.serving.close()
    assert here.serving._polling is not None and here.serving._polling.done()


async def test_the_gateway_looks_only_for_requests_where_it_is_told_so(start: Start) -> None:
    here = await start(settings={"residency": ResidencySettings(look_every_s=0)})
    assert here.serving._polling is None
