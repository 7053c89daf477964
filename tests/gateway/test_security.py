"""Who may call, by which name, how much, and what a hostile body can cost."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import ollama
import openai
import pytest
import zstandard
from tests.gateway.conftest import HERE, Here, Start

from llm_router.config import Settings
from llm_router.errors import ConfigError
from llm_router.gateway.coding import decoded
from llm_router.gateway.keys import KeyEntry, Keys, hash_of, load_keys, new_key
from llm_router.gateway.refusals import NoKey, TooLarge, TooMany
from llm_router.gateway.serving import Serving
from llm_router.names import canonical, is_auto
from llm_router.serve_settings import ServeSettings

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "What's 2+2?"}]}


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


async def with_keys(start: Start, tmp_path: Path, *entries: dict[str, Any]) -> Here:
    import yaml

    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump({"keys": list(entries)}))
    here = await start(serve={"keys": str(file)})
    assert isinstance(here, Here)
    return here


def entry(name: str, key: str, **limits: Any) -> dict[str, Any]:
    return {"name": name, "hash": hash_of(key), **limits}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/v1/messages"])
async def test_without_a_key_nothing_is_answered(start: Start, tmp_path: Path, path: str) -> None:
    here = await with_keys(start, tmp_path, entry("ann", "lr-1"))
    body = CHAT | {"max_tokens": 5, "stream": False}
    status, told, _ = await here.post(path, body)
    assert status == 401
    assert "key" in str(told)
    for headers in ({"authorization": "Bearer lr-1"}, {"x_api_key": "lr-1"}):
        assert (await here.post(path, body, **headers))[0] == 200
    assert (await here.post(path, body, authorization="Bearer lr-2"))[0] == 401
    assert (await here.get("/health"))[0] == 200


async def test_the_clients_own_ways_to_send_a_key(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await with_keys(start, tmp_path, entry("ann", "lr-1"))
    talk: Any = CHAT["messages"]
    monkeypatch.setenv("OLLAMA_API_KEY", "lr-1")
    async with ollama.AsyncClient(host=here.url) as llama:
        assert (await llama.chat("auto", messages=talk)).model == "mistral:7b"
    ways: tuple[dict[str, Any], ...] = ({"api_key": "lr-1"}, {"auth_token": "lr-1"})
    for given in ways:
        async with anthropic.AsyncAnthropic(base_url=here.url, max_retries=0, **given) as claude:
            assert (await claude.messages.create(model="auto", max_tokens=9, messages=talk)).content
    async with openai.AsyncOpenAI(base_url=f"{here.url}/v1", api_key="lr-2", max_retries=0) as ai:
        with pytest.raises(openai.AuthenticationError):
            await ai.models.list()


async def test_a_key_has_the_models_and_categories_it_was_given(start: Start, tmp_path: Path) -> None:
    here = await with_keys(
        start,
        tmp_path,
        entry("models", "m", models=["gemma2:9b"]),
        entry("kinds", "k", categories=["structured_data"]),
    )
    assert (await here.post("/v1/chat/completions", CHAT, x_api_key="m"))[1]["router"]["model"] == "gemma2:9b"
    named = CHAT | {"model": "mistral:7b"}
    assert (await here.post("/v1/chat/completions", named, x_api_key="m"))[0] == 403
    status, told, _ = await here.post("/v1/chat/completions", CHAT, x_api_key="k")
    assert status == 403
    assert "simple_chat" in told["error"]["message"]


class TestListsOfALimitedKey:
    """What a key may not use it does not see, on any path that lists or shows models."""

    LIMITS: dict[str, dict[str, Any]] = {  # noqa: RUF012
        "models": {"models": ["gemma2:9b", "Nomic-Embed-Text"]},
        "kinds": {"categories": ["structured_data"]},
        "vectors": {"categories": ["embeddings"]},
        "both": {"models": ["gemma2:9b", "qwen2.5:14b"], "categories": ["structured_data"]},
        "nothing": {"models": ["no-such"]},
        "all": {},
    }

    @pytest.fixture
    async def limited(self, start: Start, tmp_path: Path) -> Here:
        entries = [entry(name, name, **limits) for name, limits in self.LIMITS.items()]
        here = await with_keys(start, tmp_path, *entries)
        for model in ("gemma2:9b", "mistral:7b"):
            await here.post("/api/generate", {"model": model}, x_api_key="all")
        return here

    @staticmethod
    async def names(here: Here, key: str) -> tuple[set[str], set[str]]:
        """Virtual names, and those of models; the same on every list."""
        listed = (await here.get("/v1/models", x_api_key=key))[1]["data"]
        tags = (await here.get("/api/tags", x_api_key=key))[1]["models"]
        found = {canonical(model["id"]) for model in listed}
        assert found == {canonical(model["name"]) for model in tags}
        anthropic = await here.get("/v1/models", x_api_key=key, anthropic_version="2023-06-01")
        assert found == {canonical(model["id"]) for model in anthropic[1]["data"]}
        virtual = {name for name in found if is_auto(name)}
        return {name.removesuffix(":latest") for name in virtual}, found - virtual

    async def test_by_models(self, limited: Here) -> None:
        virtual, models = await self.names(limited, "models")
        assert models == {"gemma2:9b", "nomic-embed-text:latest"}
        assert {"auto", "auto-fast", "auto-best", "auto:simple_chat", "auto:embeddings"} <= virtual
        assert not {"auto:structured_data", "auto:vision"} & virtual, "none of its models answers those"
        assert await self.names(limited, "nothing") == (set(), set())

    async def test_by_categories(self, limited: Here) -> None:
        virtual, models = await self.names(limited, "kinds")
        assert virtual == {"auto", "auto-fast", "auto-best", "auto:structured_data"}
        assert models == {canonical(name) for name in HERE} - {"nomic-embed-text:latest"}
        virtual, models = await self.names(limited, "vectors")
        assert virtual == {"auto", "auto-fast", "auto-best", "auto:embeddings"}
        assert models == {"nomic-embed-text:latest"}
        assert (await self.names(limited, "both"))[1] == {"gemma2:9b", "qwen2.5:14b"}
        assert (await self.names(limited, "all"))[1] == {canonical(name) for name in HERE}

    async def test_a_virtual_name_promises_what_the_models_of_the_key_can(self, limited: Here) -> None:
        for key, able in (("all", True), ("models", False), ("kinds", False)):
            shown = (await limited.post("/api/show", {"model": "auto"}, x_api_key=key))[1]
            assert ("vision" in shown["capabilities"]) is able, key
        shown = (await limited.post("/api/show", {"model": "auto"}, x_api_key="models"))[1]
        assert shown["modelfile"].endswith("out of gemma2:9b, nomic-embed-text")

    async def test_what_is_listed_answers_and_what_is_not_is_refused(self, limited: Here) -> None:
        everything = (await limited.get("/v1/models", x_api_key="all"))[1]["data"]
        for key in ("models", "kinds", "vectors", "both", "nothing"):
            virtual, models = await self.names(limited, key)
            for name in (model["id"] for model in everything):
                seen = canonical(name) in models or name in virtual
                expected = 200 if seen else 403
                assert (await limited.get(f"/v1/models/{name}", x_api_key=key))[0] == expected, (key, name)
                status, told, _ = await limited.post("/api/show", {"model": name}, x_api_key=key)
                assert status == expected, (key, name)
        status, told, _ = await limited.get("/v1/models/mistral:7", x_api_key="both")
        assert status == 403
        assert "mistral:7b" not in str(told)
        status, told, _ = await limited.get("/v1/models/nomic-embed-tex", x_api_key="kinds")
        assert status == 404
        assert "nomic-embed-text" not in str(told)

    async def test_in_memory(self, limited: Here) -> None:
        for key, expected in (
            ("all", {"gemma2:9b", "mistral:7b"}),
            ("models", {"gemma2:9b"}),
            ("kinds", {"gemma2:9b", "mistral:7b"}),
            ("vectors", set()),
        ):
            told = (await limited.get("/api/ps", x_api_key=key))[1]["models"]
            assert {model["name"] for model in told} == expected


async def test_rate_and_concurrency_are_limited_per_key() -> None:
    now = [0.0]
    from llm_router.gateway.keys import Caller

    caller = Caller(
        KeyEntry(name="a", hash=hash_of("x"), requests_per_minute=2, concurrent=1), lambda: now[0]
    )
    with caller.one_more(), pytest.raises(TooMany, match="under way"):
        caller.one_more()
    with caller.one_more():
        pass
    with pytest.raises(TooMany, match="last minute") as caught:
        caller.one_more()
    assert caught.value.retry_after_s == 60
    now[0] = 61.0
    with caller.one_more():
        pass


async def test_a_limit_is_a_429_with_retry_after(start: Start, tmp_path: Path) -> None:
    here = await with_keys(start, tmp_path, entry("ann", "k", requests_per_minute=1))
    assert (await here.post("/v1/chat/completions", CHAT, x_api_key="k"))[0] == 200
    status, told, headers = await here.post("/v1/chat/completions", CHAT, x_api_key="k")
    assert status == 429
    assert told["error"]["type"] == "rate_limit_error"
    assert 0 < int(headers["retry-after"]) <= 60


async def test_managing_and_reading_records_need_an_admin(start: Start, tmp_path: Path) -> None:
    here = await with_keys(start, tmp_path, entry("user", "u"), entry("boss", "b", admin=True))
    for path in ("/metrics", "/router/decisions", "/router/hosts"):
        assert (await here.get(path, x_api_key="u"))[0] == 403
        assert (await here.get(path, x_api_key="b"))[0] == 200
    assert (await here.post("/api/pull", {"model": "phi4", "stream": False}, x_api_key="u"))[0] == 403
    assert (await here.post("/api/pull", {"model": "phi4", "stream": False}, x_api_key="b"))[0] == 200


async def test_managing_can_be_switched_off(start: Start) -> None:
    here = await start(serve={"manage_models": False})
    assert (await here.post("/api/pull", {"model": "phi4"}))[0] == 404


def test_keys_are_compared_as_hashes_and_kept_as_such(tmp_path: Path) -> None:
    key, digest = new_key()
    assert key.startswith("lr-")
    assert len(key) > 40
    file = tmp_path / "keys.yaml"
    file.write_text(f"keys:\n- name: a\n  hash: {digest}\n")
    keys = Keys(load_keys(file).keys)
    assert keys.caller({"authorization": f"bearer {key}"}).name == "a"
    with pytest.raises(NoKey):
        keys.caller({"authorization": f"Bearer {digest}"})


def test_a_bad_file_of_keys_says_where(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("keys:\n- name: a\n  hash: secret\n")
    with pytest.raises(ConfigError, match=r"keys\.yaml:3"):
        load_keys(file)
    file.write_text(f"keys:\n- {{name: a, hash: '{hash_of('x')}'}}\n- {{name: a, hash: '{hash_of('y')}'}}\n")
    with pytest.raises(ConfigError, match="two keys are called a"):
        load_keys(file)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.example.org"])
async def test_it_does_not_listen_beyond_this_machine_without_keys(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without API keys"):
        Serving(Settings(serve=ServeSettings(host=host)))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("app.localhost", 200),
        ("evil.example.org", 403),
        ("localhost.example.org", 403),
    ],
)
async def test_on_loopback_only_names_of_this_machine_are_answered(
    here: Here, host: str, status: int
) -> None:
    assert (await here.get("/api/version", host=host))[0] == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("app://obsidian.md", 200),
        ("https://evil.example.org", 403),
        ("http://localhost.example.org", 403),
        ("null", 403),
    ],
)
async def test_a_foreign_web_page_is_refused_and_none_gets_cors(here: Here, origin: str, status: int) -> None:
    found, _, headers = await here.post("/v1/chat/completions", CHAT, origin=origin)
    assert found == status
    assert not any(name.startswith("access-control") for name in headers)


async def test_an_origin_of_the_settings_gets_cors(start: Start) -> None:
    here = await start(serve={"origins": ("https://chat.example.org",)})
    _, _, headers = await here.post("/v1/chat/completions", CHAT, origin="https://chat.example.org")
    assert headers["access-control-allow-origin"] == "https://chat.example.org"
    async with here.http.options(
        f"{here.url}/v1/chat/completions",
        headers={"origin": "https://chat.example.org", "access-control-request-headers": "authorization"},
    ) as reply:
        assert reply.status == 204
        assert reply.headers["access-control-allow-headers"] == "authorization"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_packed_bodies_are_read(here: Here, coding: str) -> None:
    plain = msgspec.json.encode(CHAT)
    packed = PACK[coding](plain)
    assert (await here.post("/v1/chat/completions", packed, content_encoding=coding))[0] == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_a_bomb_is_stopped_at_the_limit(coding: str) -> None:
    zeros = b"\0" * 50_000_000
    packed = PACK[coding](zeros)
    assert len(packed) < 60_000
    with pytest.raises(TooLarge):
        await decoded(packed, coding, 1_000_000)


@pytest.mark.parametrize("size", [0, 1, 1 << 16, 3_000_001])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_what_was_packed_comes_out_whole(coding: str, size: int) -> None:
    noise = random.Random(1).randbytes(size)
    for plain in (noise, b"ab" * (size // 2)):
        assert await decoded(PACK[coding](plain), coding, 3_000_001) == plain
    if size > 1:
        with pytest.raises(TooLarge):
            await decoded(PACK[coding](noise), coding, size - 1)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_packed_body_that_ends_too_early_is_told_as_such(here: Here, coding: str) -> None:
    packed = PACK[coding](msgspec.json.encode(CHAT))
    for broken in (packed[:-1], packed[:4], b"", b"{}"):
        status, told, _ = await here.post("/v1/chat/completions", broken, content_encoding=coding)
        assert status == 400
        assert "unpack" in told["error"]["message"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_a_second_request_is_answered_while_a_large_body_is_unpacked(start: Start, coding: str) -> None:
    """Both arrive at once, the large one first: nothing but its unpacking can come between."""
    here = await start()
    packed = PACK[coding](b" " * 64_000_001)
    host, _, port = here.url.removeprefix("http://").partition(":")
    large, small = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
    head = f"POST /api/chat HTTP/1.1\r\nhost: x.localhost\r\ncontent-encoding: {coding}\r\n"
    large[1].write(f"{head}content-length: {len(packed)}\r\n\r\n".encode() + packed[:-1])
    small[1].write(b"GET /health HTTP/1.1\r\nhost: x.localhost\r\n\r\n")
    await small[0].readuntil(
        b'{"status":"ok"}'
    )  # both connections stand, and the body is there but for a byte
    answered: list[str] = []

    async def answer(reader: asyncio.StreamReader) -> None:
        answered.append((await reader.readline()).decode().strip())

    large[1].write(packed[-1:])
    small[1].write(b"GET /health HTTP/1.1\r\nhost: x.localhost\r\n\r\n")
    async with asyncio.TaskGroup() as group:
        group.create_task(answer(large[0]))
        group.create_task(answer(small[0]))
    for _, writer in (large, small):
        writer.close()
        await writer.wait_closed()
    assert answered == ["HTTP/1.1 200 OK", "HTTP/1.1 413 Request Entity Too Large"]


async def test_a_body_beyond_the_limit_is_a_413(start: Start) -> None:
    here = await start(serve={"max_body_mb": 0.01})
    status, told, _ = await here.post("/v1/chat/completions", CHAT | {"junk": "x" * 20_000})
    assert status == 413
    assert "0.01 MB" in told["error"]["message"]
    assert (await here.post("/v1/chat/completions", CHAT, content_encoding="br"))[0] == 415


async def test_addresses_of_images_are_never_fetched(here: Here) -> None:
    part = {"type": "image_url", "image_url": {"url": f"{here.ollama.url}/secret.png"}}
    body = {"model": "auto", "messages": [{"role": "user", "content": [part]}]}
    status, told, _ = await here.post("/v1/chat/completions", body)
    assert status == 400
    assert "never fetches" in told["error"]["message"]
    assert not any(r.path == "/secret.png" for r in here.ollama.requests)


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/api/chat", "/v1/messages", "/v1/responses", "/api/embed"]
)
@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b'{"messages": 3}', b"\xff\xfe", b'{"a":' * 3000, b'{"messages":[]}']
)
async def test_no_body_brings_a_500(here: Here, path: str, data: bytes) -> None:
    status, told, _ = await here.post(path, data)
    assert status == 400
    assert "Traceback" not in str(told)


async def test_unknown_paths_and_methods_are_told_as_such(here: Here) -> None:
    assert (await here.get("/nothing"))[0] == 404
    status, _, headers = await here.get("/v1/chat/completions")
    assert (status, headers["allow"]) == (405, "POST")
    assert (await here.post("/health", {}))[0] == 405


async def test_request_ids_go_back_and_strange_ones_are_replaced(here: Here) -> None:
    assert (await here.post("/api/chat", CHAT, x_request_id="abc-1"))[2]["x-request-id"] == "abc-1"
    assert (await here.post("/api/chat", CHAT, x_request_id="x" * 500))[2]["x-request-id"] != "x" * 500
