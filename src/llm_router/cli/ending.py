"""Every way a command can end: what is told on stderr, and the exit code. Never a traceback."""

from __future__ import annotations

import errno
import os
import sys
import traceback

import click

from llm_router.cli import output
from llm_router.errors import LLMRouterError

_KINDS = {"a valid float range": "a number", "a valid integer range": "a whole number"}
"""What click calls a number with bounds, and what people call it."""

INTERRUPTED = 130
TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM arrived while a coroutine ran; it was cancelled first."""


def ending(error: BaseException) -> int:
    """Tells what happened and gives the exit code. A reader that left early (``| head``) is no failure."""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        output.say("cancelled", dim=True)
        return INTERRUPTED
    if isinstance(error, Terminated):
        return TERMINATED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, OSError) and _is_stdout(error):
        return _stdout_failed(error)
    if isinstance(error, click.ClickException):
        return _misuse(error)
    if isinstance(error, LLMRouterError):
        output.failure(error)
        return error.exit_code
    return _internal(error)


def _is_stdout(error: OSError) -> bool:
    return error.errno in (errno.EPIPE, errno.ENOSPC, errno.EIO) and error.filename is None


def _stdout_failed(error: OSError) -> int:
    # Python flushes stdout once more while it ends; without this it would complain about the same pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno == errno.EPIPE:
        return 0
    output.error("cannot write the output", why=error.strerror)
    return 1


def _misuse(error: click.ClickException) -> int:
    message, hint = error.message.rstrip("."), None
    context = getattr(error, "ctx", None)
    possible = getattr(error, "possibilities", None)
    if possible:
        hint = f"did you mean {possible[0]!r}?"
    if isinstance(error, click.NoSuchOption):
        message, hint = f"no such option {error.option_name!r}", _option_hint(error, context) or hint
    elif isinstance(error, click.UsageError) and not possible:
        message = error.format_message().rstrip(".")
        for kind, words in _KINDS.items():
            message = message.replace(kind, words)
    if hint is None:
        hint = f"see: {_command_path(context)} --help"
    output.error(message[:1].lower() + message[1:], hint=hint)
    return 2


def _command_path(context: click.Context | None) -> str:
    if context is not None:
        return context.command_path
    root = click.get_current_context(silent=True)
    return f"llm-router {root.invoked_subcommand}" if root and root.invoked_subcommand else "llm-router"


def _option_hint(error: click.NoSuchOption, context: click.Context | None) -> str | None:
    name = error.option_name
    if context is None:
        return None
    root = context.find_root().command
    for option in (p for p in root.params if isinstance(p, click.Option) and name in p.opts):
        value = "" if option.is_flag else f" {option.metavar}"
        return f"{name} goes before the command: llm-router {name}{value} {context.info_name} …"
    if not error.possibilities and any(isinstance(p, click.Argument) for p in context.command.params):
        return f'if it belongs to the text: {context.command_path} -- "{name} …"'
    return None


def _internal(error: BaseException) -> int:
    if os.environ.get("LLM_ROUTER_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    first_line = next(iter(str(error).splitlines()), "")
    output.error(
        f"internal: {type(error).__name__}" + (f": {first_line}" if first_line else ""),
        hint="run it again with LLM_ROUTER_DEBUG=1 to see where it happened, and please report it",
    )
    return 1
