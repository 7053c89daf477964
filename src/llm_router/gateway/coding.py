"""Compressed bodies, unpacked to a limit: a small bomb must not become gigabytes."""

from __future__ import annotations

import zlib

from llm_router.errors import MissingExtra
from llm_router.gateway.refusals import Refused, TooLarge


class UnknownCoding(Refused):
    code = "unknown_coding"
    http_status = 415


def decoded(data: bytes, coding: str, limit_bytes: int) -> bytes:
    """The body as it was before it was packed. Raises Refused, or MissingExtra where zstd is not there."""
    match coding.strip().lower():
        case "identity" | "":
            return data
        case "gzip" | "x-gzip":
            return _inflated(data, zlib.MAX_WBITS | 16, limit_bytes)
        case "deflate":
            return _inflated(data, zlib.MAX_WBITS, limit_bytes)
        case "zstd":
            return _zstd(data, limit_bytes)
    raise UnknownCoding(
        f"cannot unpack a body that is {coding[:40]!r}",
        why="known are gzip, deflate and zstd, one at a time",
        hint="send it unpacked",
    )


def _inflated(data: bytes, wbits: int, limit_bytes: int) -> bytes:
    unpack = zlib.decompressobj(wbits=wbits)
    try:
        out = unpack.decompress(data, limit_bytes + 1)
    except zlib.error as error:
        raise _broken(str(error)) from error
    if len(out) > limit_bytes:
        raise _too_large(limit_bytes)
    if not unpack.eof:
        raise _broken("it ends too early")
    return out


def _zstd(data: bytes, limit_bytes: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise MissingExtra.needed("serve", "a body packed with zstd", "zstandard") from None
    out = bytearray()
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
            while piece := reader.read(1 << 16):
                out += piece
                if len(out) > limit_bytes:
                    raise _too_large(limit_bytes)
    except zstandard.ZstdError as error:
        raise _broken(str(error)) from error
    return bytes(out)


def _broken(why: str) -> Refused:
    return Refused("cannot unpack the body", why=why, hint="send it unpacked, or packed as the header says")


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(
        "the body is too large",
        why=f"unpacked it has more than {limit_bytes / 1e6:g} MB",
        hint="send less at once, or raise serve.max_body_mb",
    )
