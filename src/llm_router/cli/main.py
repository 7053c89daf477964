"""Where the command begins; kept almost empty so that Ctrl-C is quiet from the first import on."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs ``llm-router`` with the arguments of the process and ends it with the command's exit code."""
    try:
        from llm_router.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)
