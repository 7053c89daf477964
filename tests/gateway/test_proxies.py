"""The reverse proxies of docs/guides/reverse-proxy.md, with the page's own text as their configuration."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.gateway.conftest import Here, Start

from llm_router.testing.fake_faults import Fault

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "reverse-proxy.md"
NAME = "llm.example.org"
OWNER = "mistral:7b"
LIMIT_S = 20
BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "What's 2+2?"}]}
STREAM = BODY | {"stream": True}
BEATS = {"/v1/chat/completions": b": waiting", "/api/chat": b" "}


@dataclass(frozen=True)
class Proxy:
    """One that runs. ``options`` go with every request: the name it is called by, and whom to trust."""

    url: str
    options: dict[str, Any]


def documented(language: str, changes: dict[str, str]) -> str:
    """The page's block with what belongs to a machine replaced; every placeholder must be there."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    text = found[1]
    for placeholder, here in changes.items():
        assert placeholder in text, placeholder
        text = text.replace(placeholder, here)
    return text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(*command: str, folder: Path) -> None:
    """Runs what returns once the proxy listens. The proxy writes to files of its own, never to pipes."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    log = folder / "said.log"
    with log.open("wb") as said:
        done = subprocess.run(
            command, cwd=folder, env=env, stdout=said, stderr=said, timeout=LIMIT_S, check=False
        )
    assert done.returncode == 0, log.read_text(encoding="utf-8")


def nginx(folder: Path, gateway: str) -> Proxy:
    port = free_port()
    pem, key = folder / "cert.pem", folder / "cert.key"
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={NAME}"),
        *("-addext", f"subjectAltName=DNS:{NAME}", "-out", str(pem), "-keyout", str(key)),
        folder=folder,
    )
    site = documented(
        "nginx",
        {
            "127.0.0.1:11435": gateway,
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "/etc/ssl/llm.example.org.pem": str(pem),
            "/etc/ssl/llm.example.org.key": str(key),
        },
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}pid {folder}/pid;\nerror_log {folder}/error.log;\nworker_processes 1;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n",
        encoding="utf-8",
    )
    run("nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), folder=folder)
    trusted = ssl.create_default_context(cafile=str(pem))
    return Proxy(f"https://127.0.0.1:{port}", {"ssl": trusted, "server_hostname": NAME})


def caddy(folder: Path, gateway: str) -> Proxy:
    """Without TLS: for a public name Caddy would ask an authority on the internet for a certificate."""
    port = free_port()
    site = documented(
        "caddy",
        {"127.0.0.1:11435": gateway, f"{NAME} {{": f"http://{NAME}:{port} {{\n\tbind 127.0.0.1"},
    )
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{site}", encoding="utf-8")
    run(
        *("caddy", "start", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"),
        *("--pidfile", str(folder / "pid")),
        folder=folder,
    )
    return Proxy(f"http://127.0.0.1:{port}", {})


BEGIN: dict[str, Callable[[Path, str], Proxy]] = {"nginx": nginx, "caddy": caddy}


def installed(name: str) -> bool:
    return all(map(shutil.which, (name, "openssl") if name == "nginx" else (name,)))


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
        for name in BEGIN
    ]
)
def through(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Here], Proxy]]:
    folder = tmp_path / "proxy"
    folder.mkdir()
    yield lambda here: BEGIN[request.param](folder, here.url.removeprefix("http://"))
    if (folder / "pid").is_file():
        os.kill(int((folder / "pid").read_text(encoding="utf-8")), signal.SIGTERM)


Through = Callable[[Here], Proxy]


def ask(
    here: Here, proxy: Proxy, path: str, body: Any, **headers: str
) -> aiohttp.client._RequestContextManager:
    headers = {"Host": NAME, **{name.replace("_", "-"): value for name, value in headers.items()}}
    limit = aiohttp.ClientTimeout(total=LIMIT_S)
    data = io.BytesIO(json.dumps(body).encode())
    return here.http.post(proxy.url + path, data=data, headers=headers, timeout=limit, **proxy.options)


async def known(start: Start, **serve: Any) -> Here:
    here = await start(serve={"allowed_hosts": (NAME,), **serve})
    assert isinstance(here, Here)
    return here


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_a_piece_is_there_while_the_next_ones_are_still_being_written(
    start: Start, through: Through, path: str
) -> None:
    here = await known(start)
    proxy = through(here)
    here.ollama.fault(Fault.SLOW_TOKENS, after=1)
    async with ask(here, proxy, path, STREAM) as reply:
        assert OWNER in (await reply.content.readline()).decode()
        assert here.ollama.in_flight == 1
        here.ollama.release()
        rest = (await reply.read()).decode()
    assert '"router":{' in rest


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_signs_of_life_come_through_while_a_model_loads(
    start: Start, through: Through, path: str
) -> None:
    here = await known(start, heartbeat_s=0.05)
    proxy = through(here)
    here.ollama.fault(Fault.SLOW_LOAD, model=OWNER, times=1)
    async with ask(here, proxy, path, STREAM) as reply:
        assert (await reply.content.readany()).startswith(BEATS[path])
        assert here.ollama.loading is not None
        here.ollama.release()
        assert '"router":{' in (await reply.read()).decode()


async def test_a_request_has_one_id_everywhere(start: Start, through: Through) -> None:
    here = await known(start)
    proxy = through(here)
    async with ask(here, proxy, "/v1/chat/completions", BODY, x_request_id="of-the-client") as reply:
        assert reply.status == 200
        given = reply.headers["x-request-id"]
        assert reply.headers["x-router-model"] == OWNER
    assert len(given.replace("-", "")) == 32  # the proxy's own
    assert [row["request_id"] for row in await here.recorded()] == [given]


async def test_the_name_it_was_called_by_is_passed_on(start: Start, through: Through) -> None:
    here = await start()
    proxy = through(here)
    async with ask(here, proxy, "/v1/chat/completions", BODY) as reply:
        assert reply.status == 403
        assert NAME in (await reply.json())["error"]["message"]


async def test_a_page_of_the_same_name_may_call_and_another_may_not(start: Start, through: Through) -> None:
    here = await known(start)
    proxy = through(here)
    async with ask(here, proxy, "/v1/chat/completions", BODY, origin=f"https://{NAME}") as reply:
        assert reply.status == 200
    async with ask(here, proxy, "/v1/chat/completions", BODY, origin="https://elsewhere.example") as reply:
        assert reply.status == 403


async def test_a_client_that_leaves_ends_the_generation(start: Start, through: Through) -> None:
    here = await known(start)
    proxy = through(here)
    here.ollama.fault(Fault.SLOW_TOKENS, after=1)
    async with ask(here, proxy, "/v1/chat/completions", STREAM) as reply:
        await reply.content.readline()
        assert reply.connection is not None
        transport = reply.connection.transport
        assert transport is not None
        transport.abort()  # as when a process ends; asyncio's own close over TLS waits for the other side
    await here.ollama.until(lambda fake: fake.cancelled == 1 and fake.in_flight == 0)


async def test_bodies_of_some_megabytes_pass(start: Start, through: Through) -> None:
    here = await known(start)
    proxy = through(here)
    long = {"role": "system", "content": "word " * 400_000}
    async with ask(here, proxy, "/router/route", BODY | {"messages": [long, *BODY["messages"]]}) as reply:
        assert reply.status == 200
        assert (await reply.json())["category"] == "long_context"


async def test_figures_are_for_the_machine_only(start: Start, through: Through) -> None:
    here = await known(start)
    proxy = through(here)
    options = {"headers": {"Host": NAME}, **proxy.options}
    async with here.http.get(f"{proxy.url}/metrics", **options) as reply:
        assert reply.status == 404
    assert (await here.get("/metrics"))[0] == 200
