"""Compressed bodies, unpacked to a limit: a small bomb must not become gigabytes."""

from __future__ import annotations

import asyncio
import io
import zlib
from collections.abc import Iterator

from llm_router.errors import MissingExtra
from llm_router.gateway.refusals import Refused, TooLarge

_PIECE_BYTES = 1 << 18
"""Unpacked at once, in well under a millisecond."""


class UnknownCoding(Refused):
    code = "unknown_coding"
    http_status = 415


async def decoded(data: bytes, coding: str, limit_bytes: int) -> bytes:
    """The body as it was before it was packed. Other requests have their turn while a large one is unpacked.

    Raises Refused, or MissingExtra where zstd is not there.
    """
    match coding.strip().lower():
        case "identity" | "":
            return data
        case "gzip" | "x-gzip":
            pieces = _inflated(data, zlib.MAX_WBITS | 16)
        case "deflate":
            pieces = _inflated(data, zlib.MAX_WBITS)
        case "zstd":
            pieces = _zstd(data)
        case _:
            raise UnknownCoding(
                f"cannot unpack a body that is {coding[:40]!r}",
                why="known are gzip, deflate and zstd, one at a time",
                hint="send it unpacked",
            )
    return await _joined(pieces, limit_bytes)


async def _joined(pieces: Iterator[bytes], limit_bytes: int) -> bytes:
    out = io.BytesIO()  # gives what it holds without copying it
    for number, piece in enumerate(pieces):
        if out.tell() + len(piece) > limit_bytes:
            raise _too_large(limit_bytes)
        out.write(piece)
        if number:
            await asyncio.sleep(0)
    return out.getvalue()


def _inflated(data: bytes, wbits: int) -> Iterator[bytes]:
    """Fed in slices: what zlib has not used yet is copied with each piece."""
    unpack = zlib.decompressobj(wbits=wbits)
    try:
        for first in range(0, len(data), _PIECE_BYTES):
            rest = data[first : first + _PIECE_BYTES]
            while rest and not unpack.eof:
                yield unpack.decompress(rest, _PIECE_BYTES)
                rest = unpack.unconsumed_tail
        while not unpack.eof and (piece := unpack.decompress(b"", _PIECE_BYTES)):
            yield piece  # all was read, and not all of it written
    except zlib.error as error:
        raise _broken(str(error)) from error
    if not unpack.eof:
        raise _broken("it ends too early")


def _zstd(data: bytes) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise MissingExtra.needed("serve", "a body packed with zstd", "zstandard") from None
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
            while piece := reader.read(_PIECE_BYTES):
                yield piece
    except zstandard.ZstdError as error:
        raise _broken(str(error)) from error


def _broken(why: str) -> Refused:
    return Refused("cannot unpack the body", why=why, hint="send it unpacked, or packed as the header says")


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(
        "the body is too large",
        why=f"unpacked it has more than {limit_bytes / 1e6:g} MB",
        hint="send less at once, or raise serve.max_body_mb",
    )
