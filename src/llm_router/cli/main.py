"""Where the command begins; kept almost empty so that Ctrl-C is quiet from the first import on."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs ``llm-router`` with the arguments of the process and ends it with the command's exit code."""
    _make_streams_usable()
    try:
        from llm_router.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


def _make_streams_usable() -> None:
    """A closed stream reads and writes nothing; a terminal that lacks a character shows ``?`` for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - lives on
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
