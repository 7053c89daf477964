"""What keeps the clients on loopback does, so that no test of a client passes for want of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.clients.installed import node, ran

PYTHON = """
import socket
for call in (
    lambda: socket.create_connection(("192.0.2.1", 80), 5),
    lambda: socket.getaddrinfo("example.invalid", 443),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("192.0.2.2", 53)),
):
    try:
        call()
    except OSError as error:
        print(error)
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(("localhost", server.getsockname()[1]), 5).close()
print("done")
"""
NODE = """
import dns from "node:dns";
import { lookup } from "node:dns/promises";
import http from "node:http";
import net from "node:net";
const failed = (error) => console.log(error.cause?.message ?? error.message);
await fetch("http://192.0.2.1/").catch(failed);
await lookup("example.invalid").catch(failed);
await new Promise((go) => dns.resolve4("example.invalid", (error) => go(failed(error))));
await new Promise((go) => net.connect(80, "192.0.2.2").on("error", (error) => go(failed(error))));
const server = http.createServer((_, reply) => reply.end("done")).listen(0, "127.0.0.1");
await new Promise((go) => server.on("listening", go));
console.log(await (await fetch(`http://localhost:${server.address().port}/`)).text());
server.close();
server.closeAllConnections();
"""


@pytest.mark.parametrize("language", ["python", "node"])
async def test_a_program_is_kept_on_loopback(tmp_path: Path, language: str) -> None:
    if language == "python":
        done = await ran(sys.executable, "-W", "ignore", "-c", PYTHON, cwd=tmp_path)
    else:
        done = await ran(node(), "--input-type=module", "--eval", NODE, cwd=tmp_path)
    assert done.tried_outside == ("192.0.2.1", "192.0.2.2", "example.invalid")
    refused = [line for line in done.out.splitlines() if line.endswith(" is not on loopback")]
    assert len(refused) == len(done.out.splitlines()) - 1 >= 3
    assert done.out.splitlines()[-1] == "done"
