"""The client and certificates: one that is trusted, one that is not, another host's, and none at all."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from llm_router.http1.client import CertificateRefused, Pool, TlsFailed

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")


@dataclass(frozen=True)
class Certificate:
    pem: Path
    key: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Made out to localhost, signed by itself."""
    made = tmp_path_factory.mktemp("tls")
    found = Certificate(made / "cert.pem", made / "cert.key")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    request += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    request += ["-out", str(found.pem), "-keyout", str(found.key)]
    subprocess.run(request, check=True, capture_output=True, timeout=60)
    return found


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says the same to whatever comes, as a plain server does to what it cannot read."""
    with suppress(OSError):
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
    writer.close()


@asynccontextmanager
async def server(certificate: Certificate | None) -> AsyncIterator[int]:
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.pem, certificate.key)
    listening = await asyncio.start_server(_answer, "127.0.0.1", 0, ssl=context)
    yield listening.sockets[0].getsockname()[1]
    listening.close()


async def fetched(url: str) -> bytes:
    pool = Pool(url, connect_s=5.0)
    try:
        response = await pool.request("GET", "/", limit_s=5.0)
        data = await response.readany(5.0)
        response.close()
        return data
    finally:
        await pool.close()


async def test_a_certificate_that_the_user_trusts(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.pem))
    async with server(certificate) as port:
        assert await fetched(f"https://localhost:{port}") == b"ok"


async def test_a_certificate_that_nobody_vouches_for(certificate: Certificate) -> None:
    async with server(certificate) as port:
        with pytest.raises(CertificateRefused):
            await fetched(f"https://localhost:{port}")


async def test_the_certificate_of_another_host(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.pem))
    async with server(certificate) as port:
        with pytest.raises(CertificateRefused):
            await fetched(f"https://127.0.0.1:{port}")


async def test_a_server_without_tls() -> None:
    async with server(None) as port:
        with pytest.raises(TlsFailed):
            await fetched(f"https://127.0.0.1:{port}")
