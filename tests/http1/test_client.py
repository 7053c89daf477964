"""The client against servers that behave, misbehave, and go away."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from llm_router.http1.client import (
    _MOST_RESTING,
    ConnectFailed,
    Disconnected,
    InvalidAddress,
    NameUnresolved,
    Pool,
    ProtocolError,
    Response,
    _Connection,
)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    listening.close()


def says(*replies: bytes, asked: list[bytes] | None = None) -> Talk:
    """One reply per request of a connection; then it is closed."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            head = await reader.readuntil(b"\r\n\r\n")
            if asked is not None:
                asked.append(head)
            writer.write(reply)
            await writer.drain()

    return talk


async def read(response: Response, rest_s: float = 0.0) -> bytes:
    data = b""
    while piece := await response.readany(5.0):
        data += piece
    response.release(rest_s=rest_s)
    return data


async def until(holds: Callable[[], bool]) -> None:
    """Gives the loop turns; a test that waits for what never comes fails."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0)


def rested(connection: _Connection) -> bool:
    return connection.rests_until_s <= connection.loop.time()


@asynccontextmanager
async def pool(url: str, **more: object) -> AsyncIterator[Pool]:
    made = Pool(url, connect_s=2.0, **more)  # type: ignore[arg-type]
    yield made
    await made.close()


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def test_connections_are_kept_and_used_again() -> None:
    async with server(says(OK, OK, OK)) as url, pool(url) as client:
        for _ in range(3):
            assert await read(await client.request("GET", "/")) == b"ok"
        assert len(client._open) == 1


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
            + zlib.compress(b"packed" * 50, wbits=zlib.MAX_WBITS | 16),
            b"packed" * 50,
        ),
    ],
)
async def test_every_framing_of_a_reply(reply: bytes, body: bytes) -> None:
    async with server(says(reply)) as url, pool(url) as client:
        response = await client.request("POST", "/", b"{}")
        assert await read(response) == body


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal",
    ],
)
async def test_a_reply_that_breaks_off_is_an_error(reply: bytes) -> None:
    async with server(says(reply)) as url, pool(url) as client:
        response = await client.request("POST", "/", b"{}")
        with pytest.raises(Disconnected):
            await read(response)


async def test_garbage_is_no_reply() -> None:
    async with server(says(b"SSH-2.0-OpenSSH\r\n\r\n")) as url, pool(url) as client:
        with pytest.raises(ProtocolError):
            await client.request("GET", "/")


async def test_a_kept_connection_that_was_closed_meanwhile() -> None:
    """GET is asked again on a fresh one; POST is not, since it might run twice."""
    async with server(says(OK)) as url, pool(url) as client:
        await read(await client.request("POST", "/", b"{}"))
        kept = client._idle[0]
        assert await read(await client.request("GET", "/")) == b"ok"
        assert kept not in client._open


async def test_a_post_is_never_sent_twice() -> None:
    asked: list[bytes] = []

    async def drops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if len(asked) == 1:
            writer.write(OK)
            await writer.drain()
            asked.append(await reader.readuntil(b"\r\n\r\n"))

    async with server(drops) as url, pool(url) as client:
        await read(await client.request("POST", "/", b""))
        with pytest.raises(Disconnected) as caught:
            await client.request("POST", "/", b"")
        assert not caught.value.begun
    assert len(asked) == 2


class Counted:
    """Counts connections; each ends after ``replies`` of these, or when ``say`` is set, after its words."""

    def __init__(self, replies: int, *, says: bytes = b"") -> None:
        self.connections = 0
        self.say = asyncio.Event()
        self._replies, self._says = replies, says

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for _ in range(self._replies):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(STREAM)
        if self._says:
            await self.say.wait()
            writer.write(self._says)
            await reader.read()


STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
LONG_S, SHORT_S = 60.0, 0.001


async def test_a_connection_that_rests_is_used_again_afterwards() -> None:
    talk = Counted(10)
    async with server(talk) as url, pool(url) as client:
        for _ in range(5):
            assert await read(await client.request("POST", "/", b""), SHORT_S) == b"ok"
            await until(partial(rested, client._resting[0]))
    assert talk.connections == 1


async def test_a_connection_that_rests_is_not_used_yet() -> None:
    talk = Counted(10)
    async with server(talk) as url, pool(url) as client:
        for _ in range(3):
            assert await read(await client.request("POST", "/", b""), LONG_S) == b"ok"
        assert talk.connections == len(client._open) == 3
        assert await read(await client.request("POST", "/", b"")) == b"ok"
        assert await read(await client.request("POST", "/", b"")) == b"ok"
        assert talk.connections == 4


async def test_a_server_that_closes_after_a_stream_costs_no_request() -> None:
    """It does not say so beforehand: while the connection rests that shows."""
    talk = Counted(1)
    async with server(talk) as url, pool(url) as client:
        for _ in range(5):
            assert await read(await client.request("POST", "/", b""), SHORT_S) == b"ok"
            await until(lambda: not client._open)
            assert client._resting == []
    assert talk.connections == 5


async def test_a_server_that_speaks_while_the_connection_rests_is_not_asked_on_it_again() -> None:
    talk = Counted(1, says=STREAM)
    async with server(talk) as url, pool(url) as client:
        assert await read(await client.request("POST", "/", b""), LONG_S) == b"ok"
        assert len(client._resting) == 1
        talk.say.set()
        await until(lambda: not client._open)
        assert client._resting == []
        assert await read(await client.request("POST", "/", b"")) == b"ok"
    assert talk.connections == 2


async def test_only_so_many_connections_rest() -> None:
    async with server(Counted(1, says=b"never")) as url, pool(url) as client:
        responses = [await client.request("POST", "/", b"") for _ in range(_MOST_RESTING + 3)]
        for response in responses:
            await read(response, LONG_S)
        await until(lambda: len(client._open) == _MOST_RESTING)
        assert len(client._resting) == _MOST_RESTING


async def test_a_rest_is_no_reason_to_keep_what_cannot_be_used_again() -> None:
    closes = STREAM.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n")
    async with server(says(closes)) as url, pool(url) as client:
        await read(await client.request("POST", "/", b""), LONG_S)
        assert client._resting == []
    async with server(Counted(1)) as url, pool(url, keep_idle_s=0.0) as client:
        await read(await client.request("POST", "/", b""), LONG_S)
        assert client._resting == []


async def test_more_than_was_asked_for_is_nobodys_reply() -> None:
    async with (
        server(says(OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmore", OK)) as url,
        pool(url) as client,
    ):
        assert await read(await client.request("GET", "/")) == b"ok"
        await until(lambda: not client._open)
        assert client._idle == []


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_head_that_does_not_end_is_no_reply(begin: bytes) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while True:
            writer.write(begin * 1000)
            await writer.drain()

    async with server(endless) as url, pool(url) as client:
        with pytest.raises(ProtocolError, match="the head does not end"):
            await client.request("GET", "/", limit_s=10.0)


@pytest.mark.parametrize("endless", [b"x", b"x: y\r\n"])
async def test_what_follows_the_chunks_of_a_reply_may_not_be_endless(endless: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n")
        while True:
            writer.write(endless * 1000)
            await writer.drain()

    async with server(talk) as url, pool(url) as client:
        response = await client.request("GET", "/")
        with pytest.raises(ProtocolError, match="what follows the body does not end"):
            await read(response)


async def test_chunks_whose_sizes_come_alone_are_no_endless_reply() -> None:
    count = 12_000

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with server(talk) as url, pool(url) as client:
        connection = _Connection(client, asyncio.get_running_loop())
        response = connection._response = Response(connection)
        connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(count):
            for part in (b"1\r\n", b"a", b"\r\n"):
                connection.data_received(part)
        connection.data_received(b"0\r\n\r\n")
        assert await read(response) == b"a" * count


async def test_an_upgrade_that_nobody_asked_for_is_no_reply() -> None:
    reply = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
    async with server(says(reply)) as url, pool(url) as client:
        with pytest.raises(ProtocolError):
            await client.request("GET", "/")


async def test_causes_are_told_apart() -> None:
    async with pool("http://127.0.0.1:9") as client:
        with pytest.raises(ConnectFailed):
            await client.request("GET", "/")
    async with pool("http://no-such-host.invalid") as client:
        with pytest.raises(NameUnresolved):
            await client.request("GET", "/")
    for address in ("ftp://x", "http://", "http://a:b:c"):
        with pytest.raises(InvalidAddress):
            Pool(address, connect_s=1.0)


async def test_waits_have_limits() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        await reader.read()

    async with server(silent) as url, pool(url) as client:
        response = await client.request("GET", "/")
        with pytest.raises(TimeoutError):
            await response.readany(0.05)
        response.close()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(mute) as url, pool(url) as client:
        with pytest.raises(TimeoutError):
            await client.request("GET", "/", limit_s=0.05)


async def test_a_wait_that_was_longer_before_ends_in_its_own_time() -> None:
    """One timer serves all waits of a connection, whichever is longer."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()

    async with server(once) as url, pool(url) as client:
        await read(await client.request("GET", "/", limit_s=60.0))
        (kept,) = client._idle
        with pytest.raises(TimeoutError):
            await client.request("POST", "/", b"", limit_s=0.02)
        assert kept not in client._idle
    async with server(once) as url, pool(url) as client:
        await read(await client.request("GET", "/", limit_s=0.02))
        again = asyncio.create_task(client.request("POST", "/", b"", limit_s=60.0))
        (connection,) = client._open
        await until(
            lambda: connection._timer is not None and connection._timer.when() > again.get_loop().time() + 1
        )
        assert not again.done()
        again.cancel()
        await asyncio.wait([again])


async def test_address_parts_become_headers() -> None:
    asked: list[bytes] = []
    async with server(says(OK, asked=asked)) as url:
        with_user = url.replace("http://", "http://me:p%40ss@") + "/base"
        async with pool(with_user, headers={"x-a": "b"}) as client:
            await read(await client.request("GET", "/api/tags"))
    head = asked[0].decode().lower()
    assert head.startswith("get /base/api/tags http/1.1\r\n")
    assert "authorization: basic bwu6cebzcw==" in head
    assert "x-a: b" in head
    assert url.removeprefix("http://") in head
    async with pool(url) as client:
        with pytest.raises(InvalidAddress):
            await client.request("GET", "/a b")
        with pytest.raises(InvalidAddress):
            await client.request("GET", "/", headers={"x": "a\r\nb: c"})


async def test_a_slow_reader_holds_the_server_back() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with server(flood) as url, pool(url) as client:
        response = await client.request("GET", "/")
        await asyncio.sleep(0.2)
        assert response._waiting_bytes < 2_000_000
        held = sent
        assert held < 30_000_000
        assert len(await read(response)) == 65_536_000


async def test_a_body_in_pieces_goes_out_chunked() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b""
        yield b"de"

    got = b""

    async def takes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        got = await reader.readuntil(b"0\r\n\r\n")
        writer.write(OK)

    async with server(takes) as url, pool(url) as client:
        assert await read(await client.request("POST", "/blob", pieces=pieces())) == b"ok"
    assert got.endswith(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
