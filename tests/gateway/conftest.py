"""A gateway on loopback over a fake Ollama, in the test's own event loop; what it wrote and said at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.gateway.serving import Serving
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.policy.settings import PolicySettings
from llm_router.records.reader import Records
from llm_router.records.settings import RecordSettings
from llm_router.serve_settings import ServeSettings
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

HERE = (
    "mistral:7b",
    "gemma2:9b",
    "llama3.2:1b",
    "qwen2.5:14b",
    "nomic-embed-text",
    "gpt-oss:20b",
    "deepseek-r1:70b",
    "llava:13b",
)


@dataclass
class Here:
    """The gateway under test, the fake behind it, and a plain HTTP client."""

    url: str
    ollama: FakeOllama
    serving: Serving
    http: aiohttp.ClientSession

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Status, parsed body (text where it is no JSON) and headers with small letters."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.post(self.url + path, data=data, headers=headers) as reply:
            return await _read(reply)

    async def get(self, path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.get(self.url + path, headers=headers) as reply:
            return await _read(reply)

    def asked(self, path: str = "/api/chat") -> list[dict[str, Any]]:
        """Bodies that the fake was sent to be answered."""
        return [r.body for r in self.ollama.requests if r.path == path]

    async def recorded(self) -> list[dict[str, Any]]:
        """Every record, after those that wait were written."""
        recorder = self.serving.recorder
        assert recorder is not None
        self.serving.gateway.observer.tell()
        recorder.close()
        with Records(recorder.path) as records:
            return records.latest(1000)


async def _read(reply: aiohttp.ClientResponse) -> tuple[int, Any, dict[str, str]]:
    data = await reply.read()
    try:
        told: Any = msgspec.json.decode(data)
    except msgspec.DecodeError:
        told = data.decode()
    return reply.status, told, {name.lower(): value for name, value in reply.headers.items()}


Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a gateway with settings of one's own; everything is closed at the end of the test.

    It loads nothing by itself: what is in memory is then what the test asked for.
    """
    async with AsyncExitStack() as stack:

        async def begin(
            *,
            fake: FakeOllama | None = None,
            serve: dict[str, Any] | None = None,
            hosts: tuple[HostSettings, ...] = (),
            settings: dict[str, Any] | None = None,
            **more: Any,
        ) -> Here:
            ollama = await stack.enter_async_context(fake or FakeOllama(fleet_models(HERE)))
            mine: dict[str, Any] = {
                "routing": RoutingSettings(stand_in="never"),
                "residency": ResidencySettings(preload="off"),
            }
            made = Settings(
                hosts=(HostSettings(url=ollama.url, name="ollama"), *hosts),
                policy=PolicySettings(prefer="map"),
                serve=ServeSettings(**{"port": 0, "log": "off", "shutdown_grace_s": 2.0, **(serve or {})}),
                records=RecordSettings(path=str(tmp_path / "records.sqlite3")),
                **(mine | (settings or {})),
            )
            serving = Serving(made, **more)
            host, port = await serving.start()
            stack.push_async_callback(serving.close)
            http = await stack.enter_async_context(aiohttp.ClientSession())
            return Here(f"http://{host}:{port}", ollama, serving, http)

        yield begin


@pytest.fixture
async def here(start: Start) -> Here:
    found = await start()
    assert isinstance(found, Here)
    return found
