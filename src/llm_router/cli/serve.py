"""``llm-router serve``: the gateway, until it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_router.cli.context import Options, pass_options

if TYPE_CHECKING:
    from llm_router.config import Settings

_GC_AFTER = 20_000
"""New objects after which the collector looks for cycles; requests leave none behind, so a look is rarely
worth its time."""

_SWITCH_S = 0.0005
"""How long the thread that writes records may keep the interpreter while a request waits for it."""


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on; 127.0.0.1 unless set.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Port; 11435 unless set.")
@click.option("--keys", "keys_file", metavar="FILE", help="File of API keys; see: llm-router keys.")
@click.option(
    "--log", "log", type=click.Choice(["text", "json", "off"]), help="Lines per request, on stderr."
)
@pass_options
def serve(
    options: Options, /, host: str | None, port: int | None, keys_file: str | None, log: str | None
) -> None:
    """Serves all models at one address. Choose the model auto: each request goes to the one that suits it.

    \b
      llm-router serve
      OPENAI_BASE_URL=http://127.0.0.1:11435/v1 OPENAI_API_KEY=none your-program
      OLLAMA_HOST=127.0.0.1:11435 ollama run auto
      ANTHROPIC_BASE_URL=http://127.0.0.1:11435 your-program

    Every reply says which model answered and why: in x-router-* headers and in the router object of the body.
    Ctrl-C and SIGTERM let what streams end; SIGHUP reads settings, fleet and keys again.
    """
    from llm_router.config import load_configuration

    flags: dict[str, object] = {"fleet": [str(path) for path in options.fleets]} if options.fleets else {}
    given = {"serve.host": host, "serve.port": port, "serve.keys": keys_file, "serve.log": log}
    flags |= {name: value for name, value in given.items() if value is not None}

    def load() -> Settings:
        return load_configuration(flags=flags, path=options.config).settings

    settings = load()
    _run(_serve(settings, load, _files(options, settings)))


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """On uvloop where it is installed: it carries about twice as much."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


async def _serve(settings: Settings, load: Callable[[], Settings], files: Sequence[Path]) -> None:
    import gc
    import sys

    from llm_router.cli import output
    from llm_router.gateway.serving import Serving

    serving = Serving(settings, load=load, files=files)
    try:
        host, port = await serving.start()
    except BaseException:
        await serving.close()
        raise
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    output.say(f"llm-router listens on {address}  (model: auto)")
    if not serving.gateway.keys.required:
        output.say("no API keys: everyone who reaches this address may use it", dim=True)
    if serving.recorder is not None:
        words = "with" if settings.records.keep_text else "without"
        output.say(f"decisions are recorded in {serving.recorder.path}, {words} the text of tasks", dim=True)
    gc.collect()
    gc.freeze()  # what was loaded stays: the collector need not look at it again
    gc.set_threshold(_GC_AFTER, 20, 20)
    sys.setswitchinterval(_SWITCH_S)
    await serving.until_stopped()
    output.say("stopped", dim=True)


def _files(options: Options, settings: Settings) -> tuple[Path, ...]:
    """Whose changes mean something."""
    import os

    from llm_router.config import user_directory
    from llm_router.gateway.serving import keys_path

    named = options.config or (os.environ.get("LLM_ROUTER_CONFIG") or None)
    config = Path(named) if named is not None else user_directory() / "config.yaml"
    keys = keys_path(settings.serve) or user_directory() / "keys.yaml"
    fleets = [Path(path) for path in settings.fleet] or [user_directory() / "fleet.yaml"]
    return tuple(path.expanduser() for path in (config, keys, *fleets))
