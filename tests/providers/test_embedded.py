"""The embedded engine: what it refuses, that it starts late, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from llm_router.answer import Delta
from llm_router.errors import CapabilityMissing, MissingExtra, ModelNotInstalled, RunnerFailed
from llm_router.providers import embedded_process, embedded_weights
from llm_router.providers.base import ChatCall, EmbedCall
from llm_router.providers.embedded import EmbeddedProvider
from llm_router.request import Image, Message, RouteRequest, Tool

MODEL = "smollm2:135m"
STEADY = RouteRequest.from_text(
    "What is the capital of France?", options={"temperature": 0, "seed": 7, "num_predict": 12}
)


async def answer(provider: EmbeddedProvider, request: RouteRequest = STEADY) -> str:
    chunks = [chunk async for chunk in provider.chat(ChatCall(MODEL, request))]
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Delta))


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(embedded_weights.CACHE_VARIABLE, str(folder))
    return folder


async def test_a_look_at_it_starts_and_downloads_nothing(empty_cache: Path) -> None:
    snapshot = await EmbeddedProvider(num_ctx=2048).snapshot()
    assert snapshot.reachable and snapshot.kind == "embedded"
    model = snapshot.installed[MODEL]
    assert (model.capabilities, model.context_length) == (frozenset({"completion"}), 2048)
    assert model.size_bytes == embedded_weights.FILE_BYTES
    assert not snapshot.resident
    assert not list(empty_cache.parent.glob("cache/*"))


async def test_without_the_extra_it_says_how_to_get_it(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    provider = EmbeddedProvider()
    snapshot = await provider.snapshot()
    assert not snapshot.reachable
    assert "pip install 'crewai-llm-router[local]'" in snapshot.problem
    with pytest.raises(MissingExtra):
        await answer(provider)
    assert not list(empty_cache.parent.glob("cache/*"))
    await provider.close()


async def test_a_file_of_ones_own_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    snapshot = await EmbeddedProvider(weights=tmp_path / "none.gguf").snapshot()
    assert not snapshot.reachable
    assert "none.gguf" in snapshot.problem


@pytest.mark.parametrize(
    ("request_", "missing"),
    [
        (RouteRequest((Message("user", "hi"),), tools=(Tool("weather"),)), "tools"),
        (RouteRequest((Message("user", "hi", (Image("image/png", "iVBORw0KGgo="),)),)), "images"),
    ],
)
async def test_what_it_cannot_do_is_refused_before_it_starts(
    empty_cache: Path, request_: RouteRequest, missing: str
) -> None:
    provider = EmbeddedProvider()
    with pytest.raises(CapabilityMissing, match=missing):
        await answer(provider, request_)
    with pytest.raises(CapabilityMissing, match="no vectors"):
        await provider.embed(EmbedCall(MODEL, ("text",)))
    with pytest.raises(ModelNotInstalled, match="smollm2:135m only"):
        async for _ in provider.chat(ChatCall("phi4", STEADY)):
            pass
    assert not list(empty_cache.parent.glob("cache/*"))


@pytest.mark.embedded
async def test_a_file_that_is_no_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF and then nothing")
    provider = EmbeddedProvider(weights=file)
    with pytest.raises(RunnerFailed) as caught:
        await answer(provider)
    assert str(file) in str(caught.value.hint)
    snapshot = await provider.snapshot()
    assert snapshot.unhealthy.keys() == {MODEL} and snapshot.hint == caught.value.hint
    await provider.close()


@pytest.mark.embedded
async def test_an_engine_started_anew_gives_the_same_answer() -> None:
    provider = EmbeddedProvider(num_ctx=512)
    first = await answer(provider)
    assert (await provider.snapshot()).resident
    await provider.close()
    assert not (await provider.snapshot()).resident
    assert await answer(provider) == first
    await provider.close()


@pytest.mark.embedded
async def test_other_work_goes_on_while_it_starts() -> None:
    provider = EmbeddedProvider(num_ctx=512)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    async for _ in provider.chat(ChatCall(MODEL, STEADY)):
        break
    ticking.cancel()
    await provider.close()
    assert ticks >= 10, "starting takes half a second; a blocked event loop would not tick at all"


@pytest.fixture
def order() -> embedded_process.Order:
    return embedded_process.Order(embedded_weights.ensure(), MODEL, num_ctx=512, output_tokens=16, threads=1)


@pytest.mark.embedded
def test_its_port_is_on_loopback_and_closed_to_others(order: embedded_process.Order) -> None:
    engine = embedded_process.start(order, 30.0)
    try:
        assert urlsplit(engine.url).hostname == "127.0.0.1"
        with pytest.raises(HTTPError) as caught:
            urlopen(f"{engine.url}/v1/models", timeout=5)
        caught.value.close()
        assert caught.value.code == 401
        assert engine.key not in repr(engine)
    finally:
        engine.stop()
    assert not engine.alive


START_AND_WAIT = """
import sys
import time
from pathlib import Path
from llm_router.providers.embedded_process import Order, start
engine = start(Order(Path(sys.argv[1]), "m", 512, 16, 1), 30.0)
print(engine.url, flush=True)
sys.stdin.read()
"""


def wait_until_refused(address: tuple[str, int]) -> None:
    """Each connection that still stands is held until the other side closes it."""
    deadline_s = time.monotonic() + 10.0
    while time.monotonic() < deadline_s:
        try:
            with socket.create_connection(address, timeout=10) as line:
                line.recv(1)
        except ConnectionRefusedError:
            return
        except OSError:
            continue
    raise AssertionError("the engine still listens")


@pytest.mark.embedded
@pytest.mark.parametrize("ending", ["killed", "normal"])
def test_the_engine_ends_with_the_process_that_started_it(order: embedded_process.Order, ending: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, str(order.weights)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None and parent.stderr is not None
        where = urlsplit(parent.stdout.readline().decode().strip())
        address = (where.hostname or "", where.port or 0)
        with socket.create_connection(address, timeout=10):
            pass
        if ending == "killed":
            parent.kill()
        _, noise = parent.communicate(timeout=20)
        wait_until_refused(address)
        assert noise == b""
        assert parent.returncode == (-9 if ending == "killed" else 0)


ASK_WITHOUT_CLOSING = """
import asyncio
from llm_router.providers.base import ChatCall
from llm_router.providers.embedded import EmbeddedProvider
from llm_router.request import RouteRequest

async def ask(provider):
    request = RouteRequest.from_text("Say hello.", options={"num_predict": 4})
    return [chunk async for chunk in provider.chat(ChatCall("smollm2:135m", request))]

provider = EmbeddedProvider(num_ctx=512)
print(len(asyncio.run(ask(provider))) > 1, len(asyncio.run(ask(provider))) > 1)
"""


@pytest.mark.embedded
def test_a_program_that_never_closes_it_ends_cleanly_and_in_silence() -> None:
    embedded_weights.ensure()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK_WITHOUT_CLOSING],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"True True\n", b"")


def test_asking_whether_it_is_available_imports_no_engine() -> None:
    code = (
        "import sys; from llm_router.providers.embedded_weights import available; available();"
        "sys.exit('xllamacpp' in sys.modules or 'aiohttp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
