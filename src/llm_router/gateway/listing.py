"""Which models there are, on all three wires: those of the hosts, and the virtual ones with honest facts.

A caller sees what its key may use: models that some task of its own could be answered by, and the virtual
names that lead to one of them. What a name of that kind promises, those models keep.

A virtual model can do what some model behind it can, for the request decides which one answers; only of
vectors a name that answers in words says nothing, for programs take a model that says so for one that can do
nothing else (``ollama run`` shows numbers then). Its context is the longest that every kind of task it stands
for can be given here, not the longest of any model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llm_router.decision import Candidate, Classification
from llm_router.errors import ProviderError, UnknownModel
from llm_router.gateway.keys import ANYONE, Caller
from llm_router.gateway.refusals import NotAllowed
from llm_router.hosts.snapshot import HostSnapshot, InstalledModel
from llm_router.names import AUTO_NAMES, canonical, wish_of
from llm_router.policy import World, decide
from llm_router.policy.decide import model_facts
from llm_router.providers.base import Provider
from llm_router.providers.ollama import OllamaProvider
from llm_router.request import ApiKind, JsonObject, RouteRequest
from llm_router.router import Router

_ORDER = ("completion", "tools", "insert", "vision", "embedding", "thinking")
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC).isoformat()


@dataclass(frozen=True, slots=True)
class Virtual:
    """A name that leaves the choice to the router. ``candidates`` are the models that may stand behind it."""

    name: str
    about: str
    candidates: tuple[str, ...]
    capabilities: tuple[str, ...]
    context_tokens: int


def virtual_models(world: World, caller: Caller = ANYONE) -> tuple[Virtual, ...]:
    """``auto`` and its like, then one for each category that a model here can answer for this caller."""
    answering = {
        name: tuple(c for c in _candidates(name, world) if caller.has_model(c.model))
        for name in world.fleet.categories
        if caller.has_category(name)
    }
    here = {name: found for name, found in answering.items() if found}
    every = tuple(candidate for found in here.values() for candidate in found)
    talks = [found for name, found in here.items() if not _embeds(name, world)] or list(here.values())
    context = min((_context(found, world) for found in talks), default=0)
    about = {"auto": "the router chooses", "auto-fast": "the quickest answer", "auto-best": "the best answer"}
    whole = [_virtual(name, about[name], every, context, world) for name in AUTO_NAMES if every]
    return (
        *whole,
        *(
            _virtual(f"auto:{name}", f"{name} tasks", found, _context(found, world), world)
            for name, found in here.items()
        ),
    )


def _embeds(category: str, world: World) -> bool:
    return world.fleet.category(category).requires.capability == "embedding"


def _candidates(category: str, world: World) -> tuple[Candidate, ...]:
    request = (
        RouteRequest(kind=ApiKind.EMBEDDING, inputs=("a short text",))
        if _embeds(category, world)
        else RouteRequest.from_text("a short task")
    )
    return decide(request, Classification(category, 1.0, "explicit", {category: 1.0}), world).chain


def _context(candidates: Sequence[Candidate], world: World) -> int:
    """Of a candidate itself only what Ollama is told is known; other servers have a context, too."""
    hosts = {host.name: host for host in world.hosts}
    standings = (world.standing(candidate.model, hosts[candidate.host]) for candidate in candidates)
    return max((standing.num_ctx for standing in standings), default=0)


def _virtual(name: str, about: str, candidates: Iterable[Candidate], context: int, world: World) -> Virtual:
    models = tuple(dict.fromkeys(candidate.model for candidate in candidates))
    found = {capability for model in models for capability in _capabilities(model, world)}
    if "completion" in found:
        found.discard("embedding")
    return Virtual(name, about, models, tuple(c for c in _ORDER if c in found), context)


def _capabilities(model: str, world: World) -> Iterator[str]:
    """What the hosts say; where they say nothing, what the fleet file says."""
    told = [found.capabilities for host in world.hosts if (found := host.find_installed(model)) is not None]
    known = next((capabilities for capabilities in told if capabilities is not None), None)
    yield from known if known is not None else model_facts(model, world).capabilities


def sees(caller: Caller, model: str, world: World) -> bool:
    """Whether some task that this caller may ask for could be answered by the model, if it names it."""
    if not caller.limited:
        return True
    if not caller.has_model(model):
        return False
    try:
        able = frozenset(_capabilities(model, world))
    except UnknownModel:  # nobody says what it can
        return True
    kinds = [name for name in world.fleet.categories if caller.has_category(name)]
    return any(("embedding" if _embeds(name, world) else "completion") in able for name in kinds)


def _require_sight(caller: Caller, model: str, world: World) -> None:
    """Raises NotAllowed for a model that is not among what ``caller`` sees."""
    if not sees(caller, model, world):
        raise NotAllowed(
            f"{caller.name} may not use {model[:80]}",
            why="it answers no kind of task that this key may ask for",
            hint="see the models at /v1/models or /api/tags",
        )


async def tags(router: Router, caller: Caller) -> JsonObject:
    """``GET /api/tags``: the virtual models first, then every model as its host tells of it."""
    world = await router.world()
    entries: list[Any] = [_tag(virtual) for virtual in virtual_models(world, caller)]
    seen: set[str] = set()
    for provider, host in zip(router.providers, world.hosts, strict=True):
        for entry in await _told_tags(provider, host):
            name = canonical(str(entry.get("name", "")))
            if host.reachable and name not in seen and sees(caller, name, world):
                seen.add(name)
                entries.append(entry)
    return {"models": entries}


async def _told_tags(provider: Provider, host: HostSnapshot) -> list[dict[str, Any]]:
    if isinstance(provider, OllamaProvider) and host.reachable:
        try:
            told = await provider.ask("GET", "/api/tags")
        except ProviderError:
            told = None
        models = told.get("models") if isinstance(told, dict) else None
        if isinstance(models, list):
            known = {canonical(name) for name in host.installed}
            return [m for m in models if isinstance(m, dict) and canonical(str(m.get("name", ""))) in known]
    return [_entry(model) for model in host.installed.values()]


def _entry(model: InstalledModel) -> dict[str, Any]:
    name = canonical(model.name)
    return {
        "name": name,
        "model": name,
        "modified_at": _EPOCH,
        "size": model.size_bytes,
        "digest": model.digest or _digest(name),
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": model.architecture,
            "families": [model.architecture] if model.architecture else None,
            "parameter_size": model.params,
            "quantization_level": model.quantization,
        },
    }


def _tag(virtual: Virtual) -> dict[str, Any]:
    name = canonical(virtual.name)
    return {
        "name": name,
        "model": name,
        "modified_at": _EPOCH,
        "size": 0,
        "digest": _digest(name),
        "details": _details(virtual),
        "capabilities": list(virtual.capabilities),
    }


def _details(virtual: Virtual) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "router",
        "family": "router",
        "families": ["router"],
        "parameter_size": f"{len(virtual.candidates)} models",
        "quantization_level": "",
        "context_length": virtual.context_tokens,
    }


def _digest(name: str) -> str:
    return hashlib.sha256(f"llm-router {name}".encode()).hexdigest()


async def show(router: Router, name: str, body: JsonObject, caller: Caller) -> JsonObject:
    """``POST /api/show``. Raises UnknownModel, or NotAllowed."""
    world = await router.world()
    virtual = find_virtual(name, world, caller)
    if virtual is not None:
        return {
            "modelfile": f"# {virtual.name}: {virtual.about}, out of {', '.join(virtual.candidates)}",
            "parameters": "",
            "template": "",
            "details": _details(virtual),
            "model_info": {
                "general.architecture": "router",
                "general.basename": virtual.name,
                "router.context_length": virtual.context_tokens,
            },
            "capabilities": list(virtual.capabilities),
            "modified_at": _EPOCH,
        }
    caller.may_use(name)
    for provider, host in zip(router.providers, world.hosts, strict=True):
        model = host.find_installed(name)
        if model is None or not host.reachable:
            continue
        _require_sight(caller, model.name, world)
        if isinstance(provider, OllamaProvider):
            told = await provider.ask("POST", "/api/show", {**body, "model": model.name})
            if isinstance(told, dict):
                return told
        return _shown(model, world)
    raise unknown(name, world, caller)


def _shown(model: InstalledModel, world: World) -> JsonObject:
    entry = _entry(model)
    architecture = model.architecture or "unknown"
    info: JsonObject = {"general.architecture": architecture}
    if model.context_length:
        info[f"{architecture}.context_length"] = model.context_length
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": entry["details"],
        "model_info": info,
        "capabilities": sorted(_capabilities(model.name, world)),
        "modified_at": entry["modified_at"],
    }


def find_virtual(name: str, world: World, caller: Caller) -> Virtual | None:
    """The virtual model of that name; None for another name.

    Raises UnknownModel where no model stands behind it, NotAllowed where none that the caller may use does.
    """
    if wish_of(name) is None:
        return None
    wanted = canonical(name or "auto").removesuffix(":latest")
    found = next((v for v in virtual_models(world, caller) if v.name == wanted), None)
    if found is not None:
        return found
    if caller.limited and any(v.name == wanted for v in virtual_models(world)):
        raise NotAllowed(
            f"{caller.name} may not use {wanted}",
            why="no model that this key may use stands behind it",
            hint="see the models at /v1/models or /api/tags",
        )
    raise unknown(name, world, caller)


def unknown(name: str, world: World, caller: Caller) -> UnknownModel:
    """The refusal, with the nearest of the names that the caller sees."""
    installed = (model for host in world.hosts for model in host.installed if sees(caller, model, world))
    return UnknownModel.named(name, [*(v.name for v in virtual_models(world, caller)), *installed])


async def resident(router: Router, caller: Caller) -> JsonObject:
    """``GET /api/ps``: what is in memory, as each host tells it; each name once, as in ``tags``."""
    world = await router.world()
    found: list[Any] = []
    for provider, host in zip(router.providers, world.hosts, strict=True):
        if isinstance(provider, OllamaProvider) and host.reachable:
            try:
                told = await provider.ask("GET", "/api/ps")
            except ProviderError:
                continue
            models = told.get("models") if isinstance(told, dict) else None
            found += models if isinstance(models, list) else []
        elif host.kind != "ollama":
            found += [
                {
                    "name": canonical(model.name),
                    "model": canonical(model.name),
                    "size": model.size_bytes,
                    "digest": _digest(model.name),
                    "details": {},
                    "expires_at": model.expires_at or "9999-12-31T00:00:00Z",
                    "size_vram": model.vram_bytes,
                    "context_length": model.context_length or 0,
                }
                for model in host.resident.values()
            ]
    entries: dict[str, Any] = {}
    for entry in found:
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and sees(caller, name, world):
            entries.setdefault(canonical(name), entry)
    return {"models": list(entries.values())}


async def openai_models(router: Router, caller: Caller) -> list[JsonObject]:
    """Entries of ``GET /v1/models``."""
    world = await router.world()
    names: dict[str, str] = {}
    for host in world.hosts:
        for model in host.installed if host.reachable else ():
            if sees(caller, model, world):
                names.setdefault(canonical(model), model)
    return [
        *(_openai_model(v.name, "llm-router", v.context_tokens) for v in virtual_models(world, caller)),
        *(_openai_model(name, "library", None) for name in names.values()),
    ]


async def openai_model(router: Router, name: str, caller: Caller) -> JsonObject:
    """``GET /v1/models/{id}``. Raises UnknownModel, or NotAllowed."""
    world = await router.world()
    virtual = find_virtual(name, world, caller)
    if virtual is not None:
        return _openai_model(virtual.name, "llm-router", virtual.context_tokens)
    caller.may_use(name)
    for host in world.hosts:
        model = host.find_installed(name)
        if model is not None:
            _require_sight(caller, model.name, world)
            return _openai_model(model.name, "library", model.context_length)
    raise unknown(name, world, caller)


def _openai_model(name: str, owner: str, context_tokens: int | None) -> JsonObject:
    told: JsonObject = {"id": name, "object": "model", "created": 1767225600, "owned_by": owner}
    return told | ({"context_length": context_tokens} if context_tokens else {})


def anthropic_model(model: JsonObject) -> JsonObject:
    """An entry of that list as Anthropic's clients read it."""
    name = model["id"]
    return {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}


def anthropic_models(models: Sequence[JsonObject]) -> JsonObject:
    """The same list as Anthropic's clients read it."""
    data: list[Any] = [anthropic_model(model) for model in models]
    ids = [entry["id"] for entry in data]
    return {
        "data": data,
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }


async def version(router: Router) -> str:
    """The version of the first Ollama that answers, since clients choose what to send by it."""
    hosts = await router.hosts()
    return next((h.version for h in hosts if h.kind == "ollama" and h.reachable and h.version), "0.33.0")
