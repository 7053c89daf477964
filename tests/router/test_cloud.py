"""``policy.allow_cloud`` from the fleet file to the answer, against a server that passes requests on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.support.aiohttp_server import serving

from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import ConfigError, InvalidRequest
from llm_router.policy import PolicySettings
from llm_router.request import RouteRequest
from llm_router.router import Router

BIG = "gpt-oss:120b-cloud"
FLEET = f"""models:
  {BIG}: {{size_gb: 65, params: 120B, context_length: 131072}}
categories:
  simple_chat:
    models: [{{model: "{BIG}", quality: 0.9}}]
"""
TAGS = {"models": [{"name": BIG, "size": 384, "digest": "d", "remote_host": "https://example.com:443"}]}
LAST = {"model": BIG, "done": True, "done_reason": "stop"}


async def answer(request: web.Request) -> web.Response:
    match request.path:
        case "/api/chat":
            lines = [{"message": {"role": "assistant", "content": "four"}}, LAST]
            return web.Response(text="".join(json.dumps(line) + "\n" for line in lines))
        case "/api/version":
            return web.json_response({"version": "0.30.0"})
        case "/api/tags":
            return web.json_response(TAGS)
        case "/api/show":
            return web.json_response({"capabilities": ["completion"], "model_info": {}})
    return web.json_response({})


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving(answer) as url:
        yield url


def made(url: str, fleet: Path | None, *, allow: bool) -> Router:
    if fleet is not None:
        fleet.write_text(FLEET, encoding="utf-8")
    settings = Settings(
        hosts=(HostSettings(url=url, name="ollama"),),
        fleet=() if fleet is None else (str(fleet),),
        routing=RoutingSettings(stand_in="never"),
        policy=PolicySettings(allow_cloud=allow),
    )
    return Router(settings=settings)


async def test_switched_on_a_listed_model_answers_from_the_internet_and_it_is_told(
    url: str, tmp_path: Path
) -> None:
    async with made(url, tmp_path / "fleet.yaml", allow=True) as router:
        decision = await router.decide("What's 2+2?", category="simple_chat")
        given = await router.run("What's 2+2?", decision=decision)
        (host,) = await router.hosts()
    assert (given.model, given.text) == (BIG, "four")
    assert host.installed[BIG].remote_host == "https://example.com:443"
    assert any("internet" in warning for warning in given.decision.warnings)


async def test_switched_off_the_fleet_file_the_name_and_the_hosts_own_list_are_refused(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="internet"):
        made(url, tmp_path / "fleet.yaml", allow=False)
    async with made(url, None, allow=False) as router:
        with pytest.raises(InvalidRequest, match="internet"):
            await router.decide(RouteRequest.from_text("hello", model=BIG))
        (host,) = await router.hosts()
    assert host.reachable and not host.installed
