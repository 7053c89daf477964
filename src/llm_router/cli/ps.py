"""``llm-router ps``: what is in the memory of each host, who waits there, and what is being loaded."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from llm_router.cli import output, wording
from llm_router.cli.context import Options, pass_options, run
from llm_router.errors import BadReply, HostRefused, LLMRouterError, ProviderError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llm_router.config import Configuration
    from llm_router.hosts.told import HostsTold, HostTold, ResidentTold, SpeedTold
    from llm_router.providers.http import HttpHost
    from llm_router.router import Router

KEY_VARIABLE = "LLM_ROUTER_API_KEY"
EVERY_S = 1.0

_CONNECT_S = 2.0
_ANSWER_S = 20.0
"""The gateway may have to look at a host that does not answer before it tells anything."""

_LABEL_COLUMNS = 12
_BAR_COLUMNS, _LEAST_BAR = 40, 8
_NEARLY_FULL = 0.9
_TABLE_COLUMNS = 64
"""A table needs so many; below that each model has lines of its own."""

_FOR_EVER_S = 365 * 86_400.0
_MOST_DEMAND = 6


@click.command()
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@click.option(
    "--gateway", metavar="URL", help="Ask this gateway.  [default: the one of the settings, if it runs]"
)
@click.option("--json", "as_json", is_flag=True, help="As JSON; with --watch one line for every look.")
@pass_options
def ps(options: Options, /, *, watch: bool, gateway: str | None, as_json: bool) -> None:
    """Shows each host: what is in its memory, who is answered and who waits, what is being loaded.

    \b
      llm-router ps
      llm-router ps --watch
      llm-router ps --gateway http://spark-1:11435

    A running gateway is asked; where it wants a key, it is taken from LLM_ROUTER_API_KEY, and has to be an
    admin's. Where none runs the hosts are looked at from here: queues are known to a running gateway only.
    """
    configuration = options.configuration()
    source = _Source(options, configuration, gateway)
    try:
        run(_watched(source, as_json=as_json) if watch else _once(source, as_json=as_json))
    except KeyboardInterrupt:
        if not watch:  # to a watch it is the way out
            raise


async def _once(source: _Source, *, as_json: bool) -> None:
    try:
        with output.waiting("looking at the hosts"):
            seen = await source.look()
    finally:
        await source.close()
    if seen.note:
        output.say(seen.note, dim=True)
    if as_json:
        output.json_data(seen.told)
    elif seen.told is not None:
        output.data(block(seen.told, output.console(), seen.where))


async def _watched(source: _Source, *, as_json: bool) -> None:
    try:
        seen = await source.look()
        if as_json or not output.console().is_terminal:
            await _in_turn(source, seen, as_json=as_json)
        else:
            await _in_place(source, seen)
    finally:
        await source.close()


async def _in_turn(source: _Source, seen: _Seen, *, as_json: bool) -> None:
    """One line of JSON, or one block, after the other."""
    note = ""
    while True:
        if seen.note and seen.note != note:
            output.say(seen.note, dim=True)
        note = seen.note
        if seen.told is not None and as_json:
            output.json_line(seen.told)
        elif seen.told is not None:
            output.data(f"{_clock()}  {block(seen.told, output.console(), seen.where)}\n")
        sys.stdout.flush()
        seen = await _after_a_while(source)


async def _in_place(source: _Source, seen: _Seen) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(console=output.console(), auto_refresh=False) as live:
        while True:
            parts = [block(seen.told, output.console(), seen.where)] if seen.told is not None else []
            parts += [output.one_line(seen.note)] if seen.note else []
            live.update(Text.from_ansi(f"{_clock()}  " + "\n\n".join(parts)), refresh=True)
            seen = await _after_a_while(source)


async def _after_a_while(source: _Source) -> _Seen:
    """The next look. A gateway that is gone is told and asked again."""
    await asyncio.sleep(EVERY_S)
    try:
        return await source.look()
    except LLMRouterError as error:
        return _Seen(None, "", str(error))


def _clock() -> str:
    return datetime.now().strftime("%H:%M:%S")


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Seen:
    """``where`` says who told it, ``note`` what is missing from it; ``told`` is None where nobody told."""

    told: HostsTold | None
    where: str
    note: str = ""


class _Source:
    """A gateway where one is to be had, else the hosts themselves."""

    def __init__(self, options: Options, configuration: Configuration, gateway: str | None) -> None:
        serve = configuration.settings.serve
        self._options = options
        self._configuration = configuration
        self._asked_for = gateway is not None
        self._url = (
            _address(gateway, serve.port) if gateway is not None else _own_address(serve.host, serve.port)
        )
        self._http: HttpHost | None = None
        self._router: Router | None = None

    async def look(self) -> _Seen:
        """Raises a ProviderError where a gateway that was named does not tell."""
        from llm_router.providers.address import masked

        if not self._url:
            return await self._from_hosts("serve.port is 0: name the gateway with --gateway")
        try:
            return _Seen(await self._from_gateway(), f"the gateway at {masked(self._url)}")
        except ProviderError as error:
            if self._asked_for:
                raise
            why = f"{error.what}: {error.why}" if isinstance(error, HostRefused) else ""
            return await self._from_hosts(
                why or f"no gateway answers at {self._url}", error.hint if why else None
            )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
        if self._router is not None:
            await self._router.close()

    async def _from_gateway(self) -> HostsTold:
        import msgspec

        from llm_router.hosts.told import HostsTold
        from llm_router.providers.address import masked

        if self._http is None:
            self._http = _connection(self._url)
        value = await self._http.get("/router/hosts")
        try:
            return msgspec.convert(value, HostsTold)
        except msgspec.ValidationError as error:
            raise BadReply(
                f"no gateway of this version at {masked(self._url)}", why=str(error), hint=_HINT
            ) from None

    async def _from_hosts(self, why: str, hint: str | None = None) -> _Seen:
        from llm_router.policy.inventory import world_told
        from llm_router.records.reader import measured_before

        if self._router is None:
            self._router = self._options.router(self._configuration)
            self._router.remember(measured_before(self._configuration.settings.records))
        told = world_told(await self._router.world(), {}, {}, time.time())
        more = f"; {hint}" if hint else ""
        note = f"{why}{more}; looked at the hosts from here: queues are known to a running gateway only"
        return _Seen(told, "the hosts themselves", note)


_HINT = "start one with: llm-router serve; or name its address: llm-router ps --gateway URL"


def _connection(url: str) -> HttpHost:
    from llm_router.providers.base import Timeouts
    from llm_router.providers.http import HttpHost

    return HttpHost(
        "the gateway",
        url,
        timeouts=Timeouts(connect_s=_CONNECT_S, control_s=_ANSWER_S),
        read_status=_refusal,
        api_key=os.environ.get(KEY_VARIABLE) or None,
        start_hint=_HINT,
    )


def _refusal(status: int, text: str, model: str) -> ProviderError:
    del model
    if status in (401, 403):
        given = bool(os.environ.get(KEY_VARIABLE))
        why = "the key is no admin's" if status == 403 and given else "it asks for the key of an admin"
        why = "it does not know the key" if status == 401 and given else why
        hint = f"set {KEY_VARIABLE}; make one with: llm-router keys add NAME --admin"
        return HostRefused("the gateway does not tell", why=why, hint=hint, status=status)
    return BadReply(
        "what answers is no gateway of this version", why=f"status {status}", hint=_HINT, status=status
    )


def _own_address(host: str, port: int) -> str:
    """Where the gateway of these settings listens, as seen from this machine; empty where nobody knows."""
    if not port:
        return ""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - to be avoided, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _address(told: str, port: int) -> str:
    """``spark-1``, ``spark-1:8080``, ``https://box/router`` → a URL. Raises UsageError."""
    whole = told.strip() if "://" in told else f"http://{told.strip()}"
    try:
        parts = urlsplit(whole)
        sensible = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, whole))
        )
        if sensible and parts.port is None and "://" not in told:
            parts = parts._replace(netloc=f"{parts.netloc}:{port or 11435}")
    except ValueError:
        sensible = False
    if not sensible:
        raise UsageError(
            f"cannot use {told!r} as the address of a gateway", hint="give it as http://HOST:11435"
        )
    return parts.geturl().rstrip("/")


# ── showing ──────────────────────────────────────────────────────────────────────────────────────────────


def block(told: HostsTold, console: Console, where: str, *, now_s: float | None = None) -> str:
    """All hosts as text for a console of this width, colours included where it has them."""
    now_s = time.time() if now_s is None else now_s
    with console.capture() as captured:
        console.print(f"Told by {where}", style="dim", no_wrap=True, crop=False, overflow="ignore")
        for host in told.hosts:
            console.print()
            _show(host, console, now_s)
    return captured.get().rstrip("\n")


def _show(host: HostTold, console: Console, now_s: float) -> None:
    from rich.text import Text

    from llm_router.cli.render import labelled, paragraph

    name = Text.assemble((output.one_line(host.name), "bold"), "  ")
    if not host.reachable:
        paragraph(f"does not answer at {host.url}: {host.problem}", console, style="red", before=name)
        return
    paragraph(_what(host), console, before=name)
    _bar(host, console)
    labelled(_goes_on(host), console)
    if not host.resident:
        labelled([("models", "none in memory", "dim")], console)
    elif console.width >= _TABLE_COLUMNS:
        _table(host, console, now_s)
    else:
        for model in host.resident:
            paragraph(model.name, console, indent=2)
            paragraph(_in_words(model, host, now_s), console, indent=4)
    labelled(wording.listed("speeds", map(_speed, host.speeds)), console)
    labelled(_left_alone(host), console)


def _what(host: HostTold) -> str:
    kinds = {"ollama": "Ollama", "openai": "OpenAI-compatible", "embedded": "in this process"}
    what = f"{kinds[host.kind]} {host.version}" if host.version else kinds[host.kind]
    where = f" at {host.url}" if host.kind != "embedded" and host.url else ""
    age = f", seen {host.age_s:.0f} s ago" if host.age_s is not None and host.age_s >= _OLD_S else ""
    return f"{what}{where}{age}"


_OLD_S = 3.0


def _bar(host: HostTold, console: Console) -> None:
    """Filled memory as a bar and in figures; nothing where nobody knows how much there is."""
    from rich.text import Text

    from llm_router.cli.render import labelled

    if host.kind != "ollama" or not host.usable_memory_gb:
        return
    used_gb, usable_gb = host.resident_gb, host.usable_memory_gb
    share = used_gb / usable_gb
    figures = f"{used_gb:.1f} of {usable_gb:.0f} GB"
    figures += (
        f", {used_gb - usable_gb:.1f} GB too much" if share > 1 else f", {usable_gb - used_gb:.1f} GB free"
    )
    columns = min(_BAR_COLUMNS, console.width - _LABEL_COLUMNS - len(figures) - 2)
    if columns < _LEAST_BAR:
        labelled([("memory", figures, "red" if share > 1 else "")], console)
        return
    full, empty = _blocks(console)
    filled = min(max(round(share * columns), 1 if used_gb > 0 else 0), columns)
    style = "red" if share > 1 else "yellow" if share > _NEARLY_FULL else "green"
    line = Text.assemble(
        ("  memory".ljust(_LABEL_COLUMNS), "dim"),
        (full * filled, style),
        (empty * (columns - filled), "dim"),
        "  ",
        (figures, "red" if share > 1 else ""),
    )
    console.print(line, no_wrap=True, crop=False, overflow="ignore")


def _blocks(console: Console) -> tuple[str, str]:
    try:
        "█░".encode(console.encoding)
    except (LookupError, UnicodeEncodeError):
        return "#", "."
    return "█", "░"


def _goes_on(host: HostTold) -> Iterator[wording.Line]:
    loading = host.loading
    if loading is not None:
        waits = f", {_wait(loading.waiting)}" if loading.waiting else ""
        yield "loading", f"{loading.model}, {wording.about(loading.left_s)} left{waits}", "yellow"
    if host.loads_waiting:
        later = [f"{load.model} ({_wait(load.waiting)})" for load in host.loads_waiting]
        yield "then", ", ".join(later), "yellow"
    if host.demand_per_hour:
        most = [
            f"{model} {per_hour:.3g}" for model, per_hour in list(host.demand_per_hour.items())[:_MOST_DEMAND]
        ]
        more = len(host.demand_per_hour) - len(most)
        yield "demand", f"{', '.join(most)} an hour" + (f", and {more} more" if more else ""), ""


def _left_alone(host: HostTold) -> Iterator[wording.Line]:
    """``resting   loads may hang there: nothing came for 300 s; the next one is tried in 24 s``"""
    loads = host.loads_rest
    rests = [f"{loads.why}; the next one is tried in {loads.left_s:.0f} s"] if loads is not None else []
    for rest in host.resting:
        more = f" for {rest.left_s:.0f} s more" if rest.left_s is not None else ""
        rests.append(f"{rest.model}{more}: {rest.why}")
    for index, text in enumerate(rests):
        yield ("" if index else "resting"), text, "yellow"
    yield from wording.listed("unusable", (f"{model.model}: {model.why}" for model in host.unusable))


def _speed(speed: SpeedTold) -> str:
    """``mistral:7b writes 41 tokens/s (12 measured), reads 3,400 (prior), loads 2 GB/s (3 measured)``"""
    writes = f"{_figure(speed.decode_tokens_per_s)} tokens/s"
    return (
        f"{speed.model} writes {writes} ({_basis(speed.decode_samples)}), "
        f"reads {_figure(speed.prefill_tokens_per_s)} ({_basis(speed.prefill_samples)}), "
        f"loads {speed.load_gb_per_s:.1f} GB/s ({_basis(speed.load_samples)})"
    )


def _figure(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _basis(samples: int) -> str:
    return f"{samples} measured" if samples else "prior"


def _wait(number: int) -> str:
    return f"{number} {'waits' if number == 1 else 'wait'}"


def _table(host: HostTold, console: Console, now_s: float) -> None:
    from llm_router.cli.tables import Cell, table

    head = [
        "~model",
        ">size",
        ">context",
        "leaves",
        *((">running", ">waiting") if host.queues_known else ()),
    ]
    rows = []
    for model in host.resident:
        row = [
            Cell(model.name),
            Cell(_size(model)),
            Cell("?" if model.context_length is None else f"{model.context_length:,}"),
            Cell(_leaves(model, now_s), "bold" if model.kept else ""),
        ]
        if host.queues_known:
            row += [Cell(f"{model.running or ''}", "green"), Cell(f"{model.waiting or ''}", "yellow")]
        rows.append(row)
    table(head, rows, console, indent=2)


def _in_words(model: ResidentTold, host: HostTold, now_s: float) -> str:
    told = [_size(model)]
    if model.context_length is not None:
        told.append(f"{model.context_length:,} tokens")
    told.append(_leaves(model, now_s))
    if host.queues_known and model.running:
        told.append(f"{model.running} running")
    if host.queues_known and model.waiting:
        told.append(f"{model.waiting} waiting")
    return ", ".join(told)


def _size(model: ResidentTold) -> str:
    return "?" if model.size_gb is None else wording.gigabytes(model.size_gb)


def _leaves(model: ResidentTold, now_s: float) -> str:
    """``kept``, ``in 4 min``; ``never`` where its host keeps it for ever."""
    if model.kept:
        return "kept"
    left_s = _left_s(model.expires_at, now_s)
    if left_s is None:
        return "?"
    if left_s > _FOR_EVER_S:
        return "never"
    if left_s >= 7200:
        return f"in {left_s / 3600:.0f} h"
    return f"in {left_s / 60:.0f} min" if left_s >= 90 else f"in {max(left_s, 0):.0f} s"


def _left_s(expires_at: str | None, now_s: float) -> float | None:
    if not expires_at:
        return None
    try:
        when = datetime.fromisoformat(expires_at)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now_s
