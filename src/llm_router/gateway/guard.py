"""Who may talk to the gateway at all: the name it is called by, and the web page that calls.

A web page that a person opens can send requests to programs on the same machine. Two checks stop that, as
Ollama makes them: on loopback only names of this machine are answered, which defeats names that an attacker
lets point here, and a foreign ``Origin`` is refused.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from urllib.parse import urlsplit

from llm_router.gateway.refusals import NotAllowed
from llm_router.http1.server import Exchange
from llm_router.serve_settings import ServeSettings

_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")
Lines = tuple[tuple[str, str], ...]


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only."""
    if host in ("localhost", ""):
        return host == "localhost"
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.endswith(".localhost")


class Guard:
    """The checks, and the headers that let an allowed page read the reply."""

    def __init__(self, settings: ServeSettings) -> None:
        self._loopback = is_loopback(settings.host)
        self._hosts = frozenset(name.lower() for name in settings.allowed_hosts)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in settings.origins)
        self._known_host = functools.lru_cache(maxsize=256)(self._is_known)

    def admit(self, exchange: Exchange) -> Lines:
        """Headers for the reply. Raises NotAllowed."""
        headers = exchange.headers
        host = headers.get("host", "")
        if self._loopback and not self._known_host(host):
            raise NotAllowed(
                f"not called by a name of this machine: {host[:80]!r}",
                why="web pages could otherwise reach it through a name that points here",
                hint="call it by 127.0.0.1 or localhost, or add the name to serve.allowed_hosts",
            )
        origin = headers.get("origin")
        return () if origin is None else self._for_origin(origin, host)

    def _is_known(self, host: str) -> bool:
        name = _without_port(host).lower()
        if name in ("", "localhost", _own_name()) or name in self._hosts:
            return True
        if name.endswith(_LOCAL_SUFFIXES):
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _for_origin(self, origin: str, host: str) -> Lines:
        plain = origin.rstrip("/").lower()
        if plain in self._origins or "*" in self._origins:
            return (
                ("access-control-allow-origin", origin),
                ("access-control-expose-headers", "*, x-request-id"),
                ("vary", "origin"),
            )
        if _is_near(plain, host.lower()):
            return ()
        raise NotAllowed(
            f"no web page of {origin[:80]!r} may call this",
            why="it is not among serve.origins",
            hint="add it there, or call from this machine",
        )

    def preflight(self, exchange: Exchange, cors: Lines) -> None:
        """The question that a browser asks before it lets a page call."""
        asked = exchange.headers.get("access-control-request-headers", "")
        allowed = (
            (
                ("access-control-allow-methods", "GET, POST, DELETE, HEAD"),
                ("access-control-allow-headers", asked or "content-type, authorization"),
                ("access-control-max-age", "600"),
            )
            if cors
            else ()
        )
        exchange.reply(204, (*cors, *allowed))


def _is_near(origin: str, host: str) -> bool:
    """Whether a page comes from this machine, or from where it calls."""
    try:
        parts = urlsplit(origin)
        name = parts.hostname or ""
    except ValueError:  # it is no address at all
        return False
    return bool(name and parts.netloc == host) or is_loopback(name) or _is_app(parts.scheme)


def _is_app(scheme: str) -> bool:
    """Programs that show web pages of their own."""
    return scheme in ("app", "file", "tauri", "vscode-webview", "vscode-file")


@functools.lru_cache(maxsize=1)
def _own_name() -> str:
    return socket.gethostname().lower()


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
