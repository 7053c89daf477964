"""Server addresses the way Ollama's own client reads ``OLLAMA_HOST``."""

from __future__ import annotations

from urllib.parse import urlsplit

from llm_router.errors import ConfigError

DEFAULT_OLLAMA_PORT = 11434


def ollama_url(text: str) -> str:
    """``OLLAMA_HOST`` in any of its forms → a URL without a trailing slash.

    ``box``, ``box:8080``, ``:8080``, ``http://box``, ``https://box/path``; ``0.0.0.0`` (an address to listen
    on) becomes loopback. Without a scheme the port is 11434, with one it is 80 or 443, as in Ollama's
    envconfig. Raises ConfigError where there is no sense in it.

    >>> ollama_url("box")
    'http://box:11434'
    """
    raw = text.strip().strip("\"'")
    scheme, mark, rest = raw.partition("://")
    if not mark:
        scheme, rest, port = "http", raw, DEFAULT_OLLAMA_PORT
    else:
        port = 443 if scheme == "https" else 80
    if scheme not in ("http", "https"):
        raise _bad(text, f"{scheme!r} is not http or https")
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port if parts.port is not None else port
    except ValueError as error:
        raise _bad(text, str(error)) from error
    host = parts.hostname or "127.0.0.1"
    if any(c.isspace() for c in host):
        raise _bad(text, "a host name has no spaces")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - an address to avoid, not to bind
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}{parts.path.rstrip('/')}"


def _bad(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"cannot use {text!r} as the address of Ollama", why=why, hint="give it as http://HOST:11434"
    )


def masked(url: str) -> str:
    """An address as it may be shown: without its user and password. Takes any text, sound or not."""
    scheme, found, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{found}***@{place.rpartition('@')[2]}{slash}{path}" if "@" in place else url
