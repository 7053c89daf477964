"""Many requests, one JSON line each, to as many decisions in the same order; memory stays flat.

What has arrived is decided and written before more is read, so a pipe sees its answers at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from llm_router.bodies import request_from_json
from llm_router.cli import output
from llm_router.cli.context import Options, interruptible
from llm_router.cli.warnings import warn_of_hosts
from llm_router.errors import InvalidRequest, LLMRouterError
from llm_router.router import Router

READ_BYTES = 256 * 1024
MAX_LINE_BYTES = 64 * 1024 * 1024
"""A request with two of the largest images; a longer line is skipped without being kept."""

AT_ONCE = 4
"""Requests decided side by side. More would only queue up at Mission Control, past its time limit."""

Batch = list[tuple[int, bytes | None]]
"""Numbered lines that arrived together; None is a line too long."""

_encoder = msgspec.json.Encoder()


class Lines:
    """Numbered lines of a binary stream, in the batches in which they arrive; None is a line too long."""

    def __init__(self, file: BinaryIO, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._file = file
        self._max_line_bytes = max_line_bytes
        self._rest = bytearray()
        self._skipping = False
        self._number = 0

    def batches(self) -> Iterator[Batch]:
        while True:
            data = self._file.read1(READ_BYTES)  # type: ignore[attr-defined]
            if not data:
                break
            yield list(self._split(data))
        if self._rest or self._skipping:
            yield [self._line(bytes(self._rest))]

    def _split(self, data: bytes) -> Iterator[tuple[int, bytes | None]]:
        *whole, rest = data.split(b"\n")
        for part in whole:
            yield self._line(bytes(self._rest) + part)
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > self._max_line_bytes:
            self._skipping = True
            self._rest.clear()

    def _line(self, text: bytes) -> tuple[int, bytes | None]:
        self._number += 1
        skipped, self._skipping = self._skipping, False
        return self._number, None if skipped else text


class Tally:
    """How many lines there were and which of them went wrong."""

    def __init__(self) -> None:
        self.decided = 0
        self.failed = 0
        self.first_failure = ""

    def failure(self, number: int, error: LLMRouterError) -> None:
        self.failed += 1
        self.first_failure = self.first_failure or f"line {number}: {error}"


async def route_many(options: Options, name: str) -> None:
    """Reads requests from the file ``name`` (``-``: stdin) and writes one decision per line to stdout."""
    configuration = options.configuration()
    tally = Tally()
    begun_s = time.perf_counter()
    with _opened(name) as file:
        async with options.router(configuration) as router:
            warn_of_hosts(configuration, await router.hosts())
            batches = Lines(file).batches()
            while (batch := _next(batches)) is not None:
                await _write_batch(router, batch, tally)
    _summary(tally, time.perf_counter() - begun_s)


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(name).open("rb"))
        except OSError as error:
            raise InvalidRequest(
                f"cannot read {name}",
                why=error.strerror or str(error),
                hint="check the path after --requests",
            ) from error
        yield file


def _next(batches: Iterator[Batch]) -> Batch | None:
    with interruptible():
        return next(batches, None)


async def _write_batch(router: Router, batch: Batch, tally: Tally) -> None:
    lines = [(number, text) for number, text in batch if text is None or text.strip()]
    for begin in range(0, len(lines), AT_ONCE):
        some = lines[begin : begin + AT_ONCE]
        decided = await asyncio.gather(*(_decided(router, number, text, tally) for number, text in some))
        with interruptible():
            sys.stdout.buffer.write(b"".join(decided))
    with interruptible():
        sys.stdout.buffer.flush()


async def _decided(router: Router, number: int, text: bytes | None, tally: Tally) -> bytes:
    try:
        if text is None:
            raise InvalidRequest(
                "the line is too long",
                why=f"it has more than {MAX_LINE_BYTES / 1e6:.0f} MB",
                hint="send images smaller; a request stands on one line",
            )
        decision = await router.decide(request_from_json(text))
    except LLMRouterError as error:
        tally.failure(number, error)
        return _encoder.encode({"error": error.as_json(), "line": number}) + b"\n"
    tally.decided += 1
    return decision.encoded() + b"\n"


def _summary(tally: Tally, elapsed_s: float) -> None:
    speed = f" in {elapsed_s:.1f} s ({(tally.decided + tally.failed) / max(elapsed_s, 1e-9):,.0f} lines/s)"
    if not tally.failed:
        output.say(f"{tally.decided:,} decisions{speed}", dim=True)
        return
    output.warning(
        f"{tally.failed:,} of {tally.decided + tally.failed:,} lines are no requests{speed}; "
        f"the first, {tally.first_failure}",
        hint="each of them has its error in its place in the output",
    )
    click.get_current_context().exit(1)
