"""The fake server as a command: `python -m llm_router.testing.fake_ollama`."""

from __future__ import annotations

import asyncio
import signal

import click

from llm_router.testing.fake_ollama import (
    DEFAULT_MODELS,
    FLEET_NAMES,
    FakeModel,
    FakeOllama,
    Fault,
    Pace,
    fleet_models,
)

_SLOW_FAULT_S = 30.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on.")
@click.option(
    "--port", default=11434, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port."
)
@click.option("--models", default="", help="Comma-separated tags of the reference fleet, or `all`.")
@click.option(
    "--memory-gib", default=120.0, show_default=True, type=click.FloatRange(min=1), help="Of the machine."
)
@click.option("--max-loaded-models", default=3, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--num-ctx", default=4096, show_default=True, type=click.IntRange(min=4), help="Default context."
)
@click.option("--load-seconds-per-gb", default=0.33, show_default=True, type=click.FloatRange(min=0))
@click.option("--tokens-per-s", default=50.0, show_default=True, type=click.FloatRange(min=0.1))
@click.option("--prompt-tokens-per-s", default=1000.0, show_default=True, type=click.FloatRange(min=1))
@click.option("--call-tools", is_flag=True, help="Answer with a tool call where tools are sent.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[=MODEL][@SECONDS]",
    help=f"Misbehave, always or for one model. Names: {', '.join(fault.value for fault in Fault)}.",
)
def main(  # noqa: PLR0917 - one parameter for each option
    host: str,
    port: int,
    models: str,
    memory_gib: float,
    max_loaded_models: int,
    num_ctx: int,
    load_seconds_per_gb: float,
    tokens_per_s: float,
    prompt_tokens_per_s: float,
    call_tools: bool,
    faults: tuple[str, ...],
) -> None:
    """Serve a fake Ollama on loopback until interrupted. No model is run; answers are made up."""
    pace = Pace(load_seconds_per_gb, prompt_tokens_per_s, tokens_per_s, real_time=True)
    try:
        server = FakeOllama(
            _chosen(models),
            memory_bytes=round(memory_gib * (1 << 30)),
            max_loaded_models=max_loaded_models,
            default_num_ctx=num_ctx,
            pace=pace,
            call_tools=call_tools,
            host=host,
            port=port,
        )
        for text in faults:
            _script(server, text)
        asyncio.run(_serve(server))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host}:{port}: {error.strerror or error}\n"
            "hint: choose another --port, 0 for a free one"
        ) from None


def _chosen(models: str) -> tuple[FakeModel, ...]:
    names = [name.strip() for name in models.split(",") if name.strip()]
    if names == ["all"]:
        return fleet_models(FLEET_NAMES)
    return fleet_models(names) if names else DEFAULT_MODELS


def _script(server: FakeOllama, text: str) -> None:
    """Script one `--fault`; a slow one lasts 30 s unless told otherwise: nobody is there to release it."""
    name, _, target = text.partition("=")
    if not target:
        name, at, seconds = name.partition("@")
        target = at + seconds
    model, _, seconds = target.partition("@")
    known = {fault.value: fault for fault in Fault}
    if name not in known:
        raise ValueError(f"no fault is called {name!r}\nhint: one of {', '.join(known)}")
    try:
        wait_s = float(seconds) if seconds else _SLOW_FAULT_S
    except ValueError:
        raise ValueError(
            f"cannot read {seconds!r} in --fault {text} as seconds\nhint: slow_load=phi4@30"
        ) from None
    server.fault(known[name], model=model or None, seconds=wait_s)


async def _serve(server: FakeOllama) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with server:
        click.echo(f"fake ollama listening on {server.url} (ctrl-c to stop)")
        await stop.wait()
    click.echo("stopped", err=True)


def run() -> None:
    """Read the arguments of this process and serve."""
    main()
