"""Settings: defaults, then the file, then the environment, then flags; each value knows where it is from.

Files: ``config.yaml`` in the user's configuration directory, or the one that ``LLM_ROUTER_CONFIG`` or
``--config`` names. Environment: ``OLLAMA_HOST``, ``LLM_ROUTER_FLEET`` (fleet files, separated like ``PATH``)
and ``LLM_ROUTER_<SECTION>__<KEY>`` for every single value, such as ``LLM_ROUTER_CLASSIFY__ASK_BELOW=0.3``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from llm_router import strict_yaml
from llm_router.classify.settings import ClassifySettings
from llm_router.errors import ConfigError
from llm_router.hosts.residency_settings import ResidencySettings
from llm_router.mismatch import mismatch
from llm_router.names import is_cloud
from llm_router.policy.settings import PolicySettings
from llm_router.providers.address import ollama_url
from llm_router.providers.base import Timeouts
from llm_router.records.settings import RecordSettings
from llm_router.serve_settings import ServeSettings
from llm_router.strict_yaml import Document

DEFAULT_OLLAMA_URL = "http://127.0.0.1:11434"
ENV_PREFIX = "LLM_ROUTER_"
_OWN_VARIABLES = (
    "LLM_ROUTER_CONFIG",
    "LLM_ROUTER_FLEET",
    "LLM_ROUTER_API_KEY",
    "LLM_ROUTER_CACHE_DIR",
    "LLM_ROUTER_COMPILE",
    "LLM_ROUTER_CREWAI_TELEMETRY",
    "LLM_ROUTER_DEBUG",
)
_FOREIGN_PREFIXES = ("LLM_ROUTER_TEST_",)
PositiveFloat = Annotated[float, Meta(gt=0)]


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One model server."""

    url: Annotated[str, Meta(min_length=1, description="its address, e.g. http://spark-1:11434")]
    name: Annotated[str, Meta(description="how it is called in decisions; empty: its kind")] = ""
    kind: Annotated[
        Literal["ollama", "openai"], Meta(description="ollama, or openai for any OpenAI-compatible server")
    ] = "ollama"
    memory_gb: Annotated[
        PositiveFloat | None, Meta(description="GB its models may fill; empty: as the fleet's machine")
    ] = None
    api_key_env: Annotated[
        str | None,
        Meta(description="environment variable that holds its key; the key itself is never stored"),
    ] = None
    models: Annotated[dict[str, str], Meta(description="fleet's name of a model: this server's name")] = {}


class RoutingSettings(msgspec.Struct, frozen=True, kw_only=True):
    stand_in: Annotated[
        Literal["auto", "never"],
        Meta(description="auto: the embedded model answers where no host can; never: an error instead"),
    ] = "auto"
    snapshot_max_age_s: Annotated[
        float, Meta(ge=0, description="how old knowledge of a host may be, in seconds")
    ] = 2.0
    failures_until_rest: Annotated[int, Meta(ge=1, description="failures in a row until a model rests")] = 3
    rest_s: Annotated[
        float,
        Meta(
            ge=0,
            description="how long it then rests, in seconds; twice as long each time it fails again after "
            "that, up to 10 min",
        ),
    ] = 30.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. ``docs/reference/config.md`` is written from here."""

    hosts: Annotated[tuple[HostSettings, ...], Meta(description="the model servers")] = (
        HostSettings(url=DEFAULT_OLLAMA_URL, name="ollama"),
    )
    fleet: Annotated[
        tuple[str, ...], Meta(description="fleet files, laid over the shipped one in order")
    ] = ()
    routing: RoutingSettings = RoutingSettings()
    classify: ClassifySettings = ClassifySettings()
    policy: PolicySettings = PolicySettings()
    timeouts: Timeouts = Timeouts()
    residency: ResidencySettings = ResidencySettings()
    serve: ServeSettings = ServeSettings()
    records: RecordSettings = RecordSettings()


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings and, for each dotted name, where its value comes from."""

    settings: Settings
    origins: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, object, str]]:
        """(dotted name, value, origin) of every value; addresses are shown without their passwords."""
        for name, value in _flat(msgspec.to_builtins(self.settings), ()):
            yield name, _masked(value), self._origin(name)

    def _origin(self, name: str) -> str:
        steps = name.split(".")
        for length in range(len(steps), 0, -1):
            found = self.origins.get(".".join(steps[:length]))
            if found:
                return found
        return "default"


def user_directory() -> Path:
    """Where ``config.yaml`` and ``fleet.yaml`` of the user are looked for."""
    import platformdirs

    return Path(platformdirs.user_config_dir("llm-router", appauthor=False))


def load_configuration(
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    path: Path | None = None,
) -> Configuration:
    """Reads everything that is set. ``flags`` are dotted names (``policy.prefer``) from a command line.

    Raises ConfigError with file and line, or with the variable's name.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    document = _file(environ, path)
    if document is not None:
        strict_yaml.convert(document, document.values, Settings)
        for name, value in _flat(document.values, ()):
            line = document.line(*_steps(name))
            _put(values, name, value, origins, f"{document.path}:{line}" if line else document.path)
    for name, value, origin in _from_environment(environ):
        _put(values, name, value, origins, origin)
    for name, value in (flags or {}).items():
        _put(values, name, value, origins, "flag")
    _user_fleet(values, origins)
    return Configuration(_settings(values, origins), origins)


def _file(environ: Mapping[str, str], path: Path | None) -> Document | None:
    named = path or (Path(environ["LLM_ROUTER_CONFIG"]) if environ.get("LLM_ROUTER_CONFIG") else None)
    if named is not None:
        document = strict_yaml.read(named.expanduser())
    else:
        usual = user_directory() / "config.yaml"
        if not usual.is_file():
            return None
        document = strict_yaml.read(usual)
    if not isinstance(document.values, dict):
        raise document.error(
            "a settings file is a mapping",
            why="found a list or a text",
            hint="begin with a section such as hosts:",
        )
    return document


def _user_fleet(values: dict[str, Any], origins: dict[str, str]) -> None:
    usual = user_directory() / "fleet.yaml"
    if "fleet" not in values and usual.is_file():
        _put(values, "fleet", [str(usual)], origins, "found in the user directory")


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    if environ.get("OLLAMA_HOST", "").strip():
        url = ollama_url(environ["OLLAMA_HOST"])
        yield "hosts", [{"url": url, "name": "ollama"}], "environment: OLLAMA_HOST"
    if environ.get("LLM_ROUTER_FLEET", "").strip():
        files = [part for part in environ["LLM_ROUTER_FLEET"].split(os.pathsep) if part.strip()]
        yield "fleet", files, "environment: LLM_ROUTER_FLEET"
    names = {name for name, _ in _flat(msgspec.to_builtins(Settings()), ())}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX) or variable in _OWN_VARIABLES:
            continue
        if variable.startswith(_FOREIGN_PREFIXES):
            continue
        name = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if name not in names:
            raise ConfigError(
                f"unknown environment variable {variable}",
                why="no setting has that name",
                hint=_meant_variable(name, names) or "list the settings with: llm-router config show",
            )
        if not text.strip():
            continue  # as with OLLAMA_HOST: set to nothing is not set
        value = strict_yaml.parse(text, f"environment variable {variable}").values
        yield name, value, f"environment: {variable}"


def _meant_variable(name: str, names: Iterable[str]) -> str | None:
    match = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {(ENV_PREFIX + match[0].replace('.', '__')).upper()!r}?" if match else None


def _settings(values: dict[str, Any], origins: Mapping[str, str]) -> Settings:
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        found = mismatch(error, Settings, values)
        name = ".".join(map(str, found.steps))
        origin = origins.get(name)
        what = f"setting {name}" if name else "the settings"
        raise ConfigError(f"{what} ({origin})" if origin else what, why=found.why, hint=found.hint) from error
    try:
        return msgspec.structs.replace(settings, hosts=_checked_hosts(settings))
    except ConfigError as error:
        origin = origins.get("hosts")
        what = f"{origin}: {error.what}" if origin else error.what
        raise ConfigError(what, why=error.why, hint=error.hint) from error


def _checked_hosts(settings: Settings) -> tuple[HostSettings, ...]:
    hosts = []
    for host in settings.hosts:
        url = ollama_url(host.url) if host.kind == "ollama" else _server_url(host)
        hosts.append(msgspec.structs.replace(host, url=url, name=host.name or host.kind))
    _check_names([host.name for host in hosts])
    for host in () if settings.policy.allow_cloud else hosts:
        _refuse_cloud_names(host)
    return tuple(hosts)


def _check_names(names: Sequence[str]) -> None:
    if "embedded" in names:
        raise ConfigError(
            "a host is called embedded",
            why="that is the embedded engine's name",
            hint="give it another name:",
        )
    if len(set(names)) < len(names):
        raise ConfigError(
            "hosts need different names", why=f"they are called {', '.join(names)}", hint="give each a name:"
        )


def _server_url(host: HostSettings) -> str:
    """The address of a server that is not Ollama, which has no usual port. Raises ConfigError."""
    try:
        parts = urlsplit(host.url.strip())
        sensible = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        why = "" if sensible else "it has no http:// or https:// and a host after it"
        if any(c.isspace() for c in parts.netloc):
            why = "a host name has no spaces"
    except ValueError as error:
        why = str(error)
    if why:
        raise ConfigError(
            f"cannot use {_masked(host.url)!r} as the address of {host.name or 'a host'}",
            why=why,
            hint="give it as http://HOST:PORT, such as http://127.0.0.1:8000",
        )
    return host.url.strip().rstrip("/")


def _refuse_cloud_names(host: HostSettings) -> None:
    for name, served in host.models.items():
        if is_cloud(served):
            raise ConfigError(
                f"host {host.name}: models maps {name} to {served}",
                why="it would be answered on the internet; policy.allow_cloud is off",
                hint="map it to a model of that host, or set policy.allow_cloud",
            )


def _put(values: dict[str, Any], name: str, value: object, origins: dict[str, str], origin: str) -> None:
    *parents, last = name.split(".")
    inner = values
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = value
    origins[name] = origin


def _flat(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Dotted names and values; lists and the name tables inside hosts stay whole."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, (*path, str(key)))
        else:
            yield ".".join((*path, str(key))), value


def _steps(name: str) -> list[str]:
    return name.split(".")


def _masked(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, str) and "://" in value and "@" in value:
        scheme, _, rest = value.partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}"
    return value
