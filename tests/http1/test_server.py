"""The server over real sockets: what it reads, what it refuses, what a hostile or slow client can cost."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
import uvloop

from llm_router.http1.server import BodyTooLarge, ClientGone, Exchange, Limits, Server

Handler = Callable[[Exchange], Awaitable[None]]
Test = Callable[[], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def runs(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    """Runs a coroutine on either event loop."""
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def run(work: Any) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(work, 30))

    return run


@asynccontextmanager
async def serving(handler: Handler, **limits: Any) -> AsyncIterator[tuple[Server, int]]:
    server = Server(handler, Limits(**limits), on_error=lambda exchange, error: None)
    ((_, port),) = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.shutdown(1.0)
        assert server.running == 0
        assert server.connections == 0


async def echo(exchange: Exchange) -> None:
    body = await exchange.body()
    told = {"method": exchange.method, "path": exchange.path, "query": exchange.query, "body": body.decode()}
    exchange.reply(200, (("content-type", "application/json"),), json.dumps(told).encode())


async def talk(port: int, data: bytes, *, until_closed: bool = True) -> bytes:
    """Sends and reads until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await (reader.read() if until_closed else reader.read(65536))
    except ConnectionResetError:
        return b""
    finally:
        writer.transport.abort()


def request(body: bytes = b"", *headers: str, method: str = "POST", target: str = "/x?y=1") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "host: localhost", "connection: close", *headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_a_request_split_anywhere_is_read_the_same(runs: Any) -> None:
    async def work() -> None:
        async with serving(echo) as (_, port):
            whole = request(b'{"a": 1}')
            for cut in range(1, len(whole), 3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(whole[:cut])
                await asyncio.sleep(0)
                writer.write(whole[cut:])
                reply = await reader.read()
                writer.close()
                assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
                told = json.loads(reply.split(b"\r\n\r\n", 1)[1])
                assert told == {"method": "POST", "path": "/x", "query": "y=1", "body": '{"a": 1}'}

    runs(work())


def test_chunked_bodies_and_continue(runs: Any) -> None:
    async def work() -> None:
        async with serving(echo) as (_, port):
            chunked = request(b"", "transfer-encoding: chunked") + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            assert b'"body": "abcde"' in await talk(port, chunked)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"", "expect: 100-continue", "content-length: 2"))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"ok")
            assert b'"body": "ok"' in await reader.read()
            writer.close()

    runs(work())


def test_kept_and_pipelined_requests_are_answered_in_order(runs: Any) -> None:
    async def slow_first(exchange: Exchange) -> None:
        if exchange.path == "/0":
            await asyncio.sleep(0.02)
        exchange.reply(200, (), exchange.path.encode())

    async def work() -> None:
        async with serving(slow_first) as (_, port):
            many = b"".join(b"GET /%d HTTP/1.1\r\nhost: localhost\r\n\r\n" % n for n in range(30))
            many += request(method="GET", target="/end")
            replies = (await talk(port, many)).split(b"HTTP/1.1 200 OK\r\n")[1:]
            assert [r.split(b"\r\n\r\n")[1] for r in replies] == [b"/%d" % n for n in range(30)] + [b"/end"]

    runs(work())


def test_streams_between_whole_replies_come_in_order(runs: Any) -> None:
    """Whole replies are sent at the end of the loop's step, pieces of streams at once."""

    async def by_turns(exchange: Exchange) -> None:
        number = int(exchange.path[1:])
        if number % 2:
            exchange.start(200, ())
            exchange.write(exchange.path.encode())
            exchange.end()
        else:
            exchange.reply(200, (), exchange.path.encode())

    async def work() -> None:
        async with serving(by_turns) as (_, port):
            many = b"".join(b"GET /%d HTTP/1.1\r\nhost: localhost\r\n\r\n" % n for n in range(20))
            replies = (await talk(port, many + request(method="GET", target="/20"))).split(
                b"HTTP/1.1 200 OK"
            )[1:]
            assert [int(r.split(b"/")[1].split(b"\r")[0]) for r in replies] == list(range(21))

    runs(work())


@pytest.mark.parametrize("end", ["close", "cut"])
def test_what_was_replied_is_sent_before_the_connection_ends_in_the_same_step(runs: Any, end: str) -> None:
    async def last_words(exchange: Exchange) -> None:
        exchange.reply(200, (), b"done")
        getattr(exchange._connection, end)()

    async def work() -> None:
        async with serving(last_words) as (_, port):
            reply = await talk(port, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert reply.endswith(b"\r\n\r\ndone")

    runs(work())


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\n", 431),
        (b"POST /2 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /2 HT", 408),
        (b"POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nab", 408),
    ],
)
def test_what_cannot_be_read_costs_no_reply_to_the_requests_before_it(
    runs: Any, bad: bytes, status: int
) -> None:
    seen: list[str] = []

    async def work() -> None:
        async with serving(slow, head_s=0.1, body_idle_s=0.1) as (server, port):
            before = b"".join(b"GET /%d HTTP/1.1\r\nhost: localhost\r\n\r\n" % n for n in range(2))
            first, second, last = (await talk(port, before + bad)).split(b"HTTP/1.1 ")[1:]
            assert first.startswith(b"200") and first.endswith(b"\r\n/0")
            assert second.startswith(b"200") and second.endswith(b"\r\n/1")
            assert last.startswith(b"%d" % status)
            await server.closed_one.wait()
        assert seen == ["/0", "/1"]

    async def slow(exchange: Exchange) -> None:
        seen.append(exchange.path)
        await asyncio.sleep(0.15 if exchange.path == "/0" else 0)
        exchange.reply(200, (), exchange.path.encode())

    runs(work())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n folded\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 150 + b"\r\n", 431),
    ],
)
def test_ambiguous_and_oversized_heads_are_refused_and_the_connection_closed(
    runs: Any, head: bytes, status: int
) -> None:
    seen: list[str] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.path)
        exchange.reply(200, (), b"")

    async def work() -> None:
        async with serving(handler) as (_, port):
            reply = await talk(port, head)
            assert reply.startswith(b"HTTP/1.1 %d " % status)
            assert b"connection: close" in reply
        assert seen == []

    runs(work())


@pytest.mark.parametrize("endless", [b"t: ", b"t: u\r\n"])
def test_what_follows_a_body_is_left_out_and_may_not_be_endless(runs: Any, endless: bytes) -> None:
    async def work() -> None:
        async with serving(echo) as (_, port):
            chunks = b"2\r\nab\r\n0\r\n"
            head = b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"
            reply = await talk(port, head + b"connection: close\r\n\r\n" + chunks + b"host: b\r\n\r\n")
            assert reply.startswith(b"HTTP/1.1 200 ")
            assert b'"body": "ab"' in reply
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + b"\r\n" + chunks)
            reply_begins = asyncio.ensure_future(reader.readline())
            while not reply_begins.done():
                writer.write(endless * 1000)
                await writer.drain()
                await asyncio.sleep(0)
            assert (await reply_begins).startswith(b"HTTP/1.1 431 ")
            writer.close()

    runs(work())


def test_a_body_whose_chunks_come_in_parts_may_be_long(runs: Any) -> None:
    """Some clients send the size of a chunk, its bytes and its end each on their own."""

    async def work() -> None:
        async with serving(echo, head_bytes=100) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"", "transfer-encoding: chunked"))
            for _ in range(200):
                for part in (b"2\r\n", b"ab", b"\r\n"):
                    writer.write(part)
                    for _ in range(3):
                        await asyncio.sleep(0)  # so that each comes alone
            writer.write(b"0\r\n\r\n")
            assert b"ab" * 200 in await reader.read()
            writer.close()

    runs(work())


@pytest.mark.parametrize("after_the_head", [0, -5])
def test_many_requests_in_one_piece_are_no_endless_head(runs: Any, after_the_head: int) -> None:
    async def work() -> None:
        async with serving(echo) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            body = b"x" * 40_000
            head = b"POST /%s HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
            second = head % (b"2", 2)
            cut = len(second) + after_the_head
            writer.write(head % (b"1", len(body)) + body + second[:cut])
            await reader.readuntil(body)
            writer.write(second[cut:] + b"ok" + request(method="GET"))
            assert b'"body": "ok"' in await reader.read()
            writer.close()

    runs(work())


def test_absolute_targets_and_ignored_upgrades(runs: Any) -> None:
    async def work() -> None:
        async with serving(echo) as (_, port):
            assert b'"path": "/a"' in await talk(port, request(target="http://localhost/a", method="GET"))
            upgrade = request(b"", "upgrade: h2c", "connection: upgrade, close", method="GET")
            assert (await talk(port, upgrade)).startswith(b"HTTP/1.1 200")

    runs(work())


def test_slow_heads_slow_bodies_and_idle_connections_are_given_up(runs: Any) -> None:
    async def work() -> None:
        async with serving(echo, head_s=0.1, body_idle_s=0.1, idle_s=0.1) as (_, port):
            assert (await talk(port, b"GET / HT")).startswith(b"HTTP/1.1 408")
            assert (await talk(port, request(b"", "content-length: 9") + b"ab")).startswith(b"HTTP/1.1 408")
            assert await talk(port, b"") == b""

    runs(work())


def test_a_drip_of_a_body_is_given_up_although_it_never_pauses(runs: Any) -> None:
    async def work() -> None:
        async with serving(echo, body_idle_s=0.2, body_bytes_per_s=1e6) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"", "content-length: 1000"))

            async def drip() -> None:
                while not writer.is_closing():
                    writer.write(b"x")
                    await asyncio.sleep(0.02)

            dripping = asyncio.ensure_future(drip())
            reply = await reader.readuntil(b"\r\n\r\n")
            dripping.cancel()
            assert reply.startswith(b"HTTP/1.1 408")
            writer.transport.abort()

    runs(work())


def test_a_client_that_does_not_read_is_held_back_and_cut(runs: Any) -> None:
    written = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal written
        exchange.start(200, ())
        while True:
            exchange.write(b"x" * 65536)
            written += 65536
            await exchange.drain()

    async def work() -> None:
        async with serving(flood, write_stalled_s=0.2) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(request(method="GET"))
            async with asyncio.timeout(10):
                while written == 0 or server.running:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            writer.transport.abort()
            del reader
        assert written < 32_000_000

    runs(work())


def test_a_handler_that_only_writes_is_told_that_its_client_is_gone(runs: Any) -> None:
    pieces = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal pieces
        exchange.start(200, ())
        while pieces < 20_000:
            exchange.write(b"x" * 1024)
            pieces += 1
            await exchange.drain()

    async def work() -> None:
        async with serving(flood) as (server, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(method="GET"))
            writer.transport.abort()
            async with asyncio.timeout(10):
                while pieces == 0 or server.running:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert pieces < 1000

    runs(work())


def test_bodies_beyond_the_limit_are_refused_without_being_read(runs: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        try:
            await exchange.body(limit_bytes=1000)
        except BodyTooLarge as error:
            exchange.reply(413, (), str(error.args[0]).encode())

    async def work() -> None:
        async with serving(handler) as (_, port):
            declared = request(b"", "content-length: 5000000")
            assert (await talk(port, declared)).endswith(b"1000")
            chunked = request(b"", "transfer-encoding: chunked") + b"800\r\n" + b"x" * 2048
            assert (await talk(port, chunked)).startswith(b"HTTP/1.1 413")

    runs(work())


async def refuses(exchange: Exchange) -> None:
    exchange.reply(401, (), b"no key")


def test_a_client_that_sends_on_sees_an_early_reply(runs: Any) -> None:
    """``http.client`` writes all of its body before it looks for a reply."""

    def post(port: int, *, body: bytes, head: str = "") -> tuple[int, bytes]:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            client.request("POST", "/x", body, {"x-long": head} if head else {})
            reply = client.getresponse()
            return reply.status, reply.read()
        finally:
            client.close()

    async def work() -> None:
        async with serving(refuses) as (_, port):
            assert await asyncio.to_thread(post, port, body=b"x" * 30_000_000) == (401, b"no key")
            status, _ = await asyncio.to_thread(post, port, body=b"x" * 3_000_000, head="y" * 60_000)
            assert status == 431

    runs(work())


@pytest.mark.parametrize("limit", ["time", "bytes"])
def test_who_never_stops_after_an_early_reply_is_cut_off(runs: Any, limit: str) -> None:
    limits = {"linger_s": 0.2} if limit == "time" else {"linger_bytes": 1_000_000}
    piece = b"x" if limit == "time" else b"x" * 65_536

    async def work() -> None:
        async with serving(refuses, **limits) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"", "content-length: 1000000000"))
            assert (await reader.read()).startswith(b"HTTP/1.1 401")
            assert server.connections == 1  # its end is told, and it still counts
            sent = 0
            with suppress(ConnectionError):
                while server.connections:
                    writer.write(piece)
                    await writer.drain()
                    sent += len(piece)
                    await asyncio.sleep(0.001)
            assert sent < 100_000 if limit == "time" else sent > 1_000_000
            await server.closed_one.wait()
            writer.transport.abort()

    runs(work())


def test_an_end_does_not_wait_for_who_sends_on_after_an_early_reply(runs: Any) -> None:
    async def work() -> None:
        async with serving(refuses, linger_s=60.0) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"", "content-length: 9"))
            assert (await reader.read()).startswith(b"HTTP/1.1 401")
            await server.shutdown(1.0)
            assert server.connections == 0
            writer.transport.abort()

    runs(work())


def test_a_handler_that_reads_on_after_its_reply_is_told_that_nothing_comes(runs: Any) -> None:
    told = asyncio.Event()

    async def replies_first(exchange: Exchange) -> None:
        exchange.reply(200, (), b"enough")
        try:
            async for _ in exchange.pieces():
                pass
        except ClientGone:
            told.set()
            raise

    async def work() -> None:
        async with serving(replies_first) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"", "content-length: 9") + b"ab")
            assert (await reader.read()).endswith(b"enough")
            await told.wait()
            writer.transport.abort()

    runs(work())


def test_a_large_body_streams_through_with_little_held(runs: Any) -> None:
    most = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal most
        size = 0
        async for piece in exchange.pieces():
            size += len(piece)
            most = max(most, exchange._pending_bytes)
            await asyncio.sleep(0)
        exchange.reply(200, (), str(size).encode())

    async def work() -> None:
        async with serving(handler) as (_, port):
            size = 30_000_000
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"", f"content-length: {size}"))
            for _ in range(300):
                writer.write(b"x" * 100_000)
                await writer.drain()
            assert (await reader.read()).endswith(b"%d" % size)
            writer.close()
        assert most < 2_000_000

    runs(work())


def test_streams_are_framed_and_a_broken_one_is_cut(runs: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, (("content-type", "text/plain"),))
        exchange.write(b"one")
        await exchange.drain()
        exchange.write(b"")
        exchange.write(b"two")
        if exchange.path == "/broken":
            raise RuntimeError("no")
        exchange.end(b"three")

    async def work() -> None:
        async with serving(handler) as (_, port):
            reply = await talk(port, request(method="GET"))
            assert b"transfer-encoding: chunked" in reply
            assert reply.endswith(b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n")
            old = b"GET / HTTP/1.0\r\n\r\n"
            reply = await talk(port, old)
            assert reply.endswith(b"\r\n\r\nonetwothree")
            assert b"chunked" not in reply
            assert not (await talk(port, request(method="GET", target="/broken"))).endswith(b"0\r\n\r\n")

    runs(work())


@pytest.mark.parametrize("way", ["raise", "return"])
def test_a_handler_that_fails_gives_a_500_without_a_word_of_why(runs: Any, way: str) -> None:
    async def handler(exchange: Exchange) -> None:
        if way == "raise":
            raise ValueError("secret of the house")

    async def work() -> None:
        async with serving(handler) as (_, port):
            reply = await talk(port, request(method="GET"))
            assert reply.startswith(b"HTTP/1.1 500")
            assert b"secret" not in reply

    runs(work())


def test_header_values_cannot_begin_headers_of_their_own(runs: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.reply(200, (("x-a", "b\r\nset-cookie: c=d\0"), ("x-b", "“한국어” … ≈")), b"")

    async def work() -> None:
        async with serving(handler) as (_, port):
            head = (await talk(port, request(method="GET"))).split(b"\r\n")
            assert not any(line.startswith(b"set-cookie") for line in head)
            assert b'x-b: "???" ... ~' in head

    runs(work())


def test_a_client_that_leaves_cancels_its_handler_once(runs: Any) -> None:
    cancelled = 0
    begun = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        nonlocal cancelled
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled += 1
            raise

    async def work() -> None:
        async with serving(handler) as (server, port):
            for _ in range(50):
                begun.clear()
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request(method="GET"))
                await begun.wait()
                writer.transport.abort()
            async with asyncio.timeout(5):
                while server.running or server.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert cancelled == 50

    runs(work())


def test_an_end_closes_idle_connections_and_waits_for_the_others(runs: Any) -> None:
    release = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, ())
        exchange.write(b"begun")
        await release.wait()
        exchange.end(b"done")

    async def work() -> None:
        async with serving(handler) as (server, port):
            idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await reader.readuntil(b"begun")
            ending = asyncio.ensure_future(server.shutdown(5.0))
            assert await idle_reader.read() == b""
            release.set()
            assert (await reader.read()).endswith(b"done\r\n0\r\n\r\n")
            await ending
            idle_writer.close()
            writer.close()
            with pytest.raises(OSError, match=r"refused|Connect|111"):
                await asyncio.open_connection("127.0.0.1", port)

    runs(work())


def test_more_connections_than_allowed_are_told_to_come_back(runs: Any) -> None:
    async def work() -> None:
        async with serving(echo, connections=1) as (server, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(5):
                while server.connections < 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            reply = await talk(port, request(method="GET"))
            assert reply.startswith(b"HTTP/1.1 503")
            assert b"retry-after: 1" in reply
            writer.close()

    runs(work())


def test_head_has_a_length_and_no_body(runs: Any) -> None:
    async def work() -> None:
        async with serving(echo) as (_, port):
            reply = await talk(port, request(method="HEAD"))
            assert b"content-length: " in reply
            assert reply.endswith(b"\r\n\r\n")

    runs(work())


@pytest.mark.parametrize("ends", [True, False])
def test_at_the_end_a_client_that_reads_nothing_is_cut_off(runs: Any, *, ends: bool) -> None:
    """What it did not take lies unsent, and nobody would close its connection after the end."""
    asked = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, ())
        exchange.write(b"x" * 20_000_000)
        if ends:
            exchange.end()
        asked.set()
        await exchange.drain()

    async def work() -> None:
        async with serving(handler) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            transport = cast("asyncio.Transport", writer.transport)
            transport.pause_reading()
            writer.write(request())
            await asked.wait()
            await server.shutdown(0.01)
            assert server.connections == 0
            transport.resume_reading()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(20_000_000)
            writer.close()

    runs(work())
