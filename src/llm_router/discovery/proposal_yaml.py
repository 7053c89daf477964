"""Writes a proposed fleet as YAML with comments for the person who edits it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from llm_router.fleet.schema import Category, Model

if TYPE_CHECKING:
    from llm_router.discovery.propose import Proposal

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_NOT_PLAIN = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_WIDTH = 100
_ALWAYS = ("size_gb", "params", "context_length", "num_ctx", "capabilities", "languages", "tokenizer")


def as_yaml(proposal: Proposal) -> str:
    """The proposal as the text of a fleet file that ``load_fleet`` accepts."""
    lines = [*_header(proposal), "version: 1", "extends: none", "name: installed"]
    lines.append("description: " + _text("Models found on " + ", ".join(host.url for host in proposal.hosts)))
    lines += ["", *_machine(proposal), "", *_roles(proposal)]
    if proposal.stand_in is not None:
        lines += ["", "# Answers where no host does, inside the embedded engine (the optional part [local])."]
        lines += ["stand_in:", f"  name: {_text(proposal.stand_in.name)}", "  model:"]
        lines += _indented(_model(proposal.stand_in.model), 4)
    lines += ["", "models:"]
    for tag, model in proposal.models.items():
        lines += _model_block(tag, model, known=tag in proposal.known)
    lines += ["", *_comments(_left_out(proposal)), "categories:"]
    for name, category in proposal.categories.items():
        lines += _category(name, category)
    lines += _comments(_unserved(proposal))
    return "\n".join(lines).rstrip() + "\n"


def _header(proposal: Proposal) -> list[str]:
    when = f" on {proposal.made_on}" if proposal.made_on else ""
    told = [f"The models that were installed{when}, and which of them answers which kind of task."]
    for host in proposal.hosts:
        version = f", {host.kind} {host.version}" if host.version else f", {host.kind}"
        told.append(f"  read from {host.name} at {host.url}{version}: {len(host.installed)} models")
    told += [
        "",
        "How to edit",
        "  a category's models are asked from the first one down; move a model up to have it asked first",
        "  quality is 0 to 1 within a category and orders the substitutes; source says where it comes from;",
        "  a prior follows from size and abilities and was not measured on your tasks, so correct it",
        "  num_ctx is the one context a model is loaded with; another value makes the server load it again",
        "  a new category needs a description and, for the built-in classifier, five or more examples",
        "  after pulling or removing models: llm-router init --force writes this file anew, edits are lost",
        "",
        "How num_ctx was planned: the shipped plan where the model is known there; otherwise the largest of",
        "2,048 to 32,768 tokens whose KV cache takes at most 1 GB or a quarter of the weights (twice that",
        "for a model that thinks). Halved until it fits the memory; one model may get more, for long",
        "documents.",
    ]
    return list(_comments(told))


def _machine(proposal: Proposal) -> Iterator[str]:
    machine = proposal.machine
    yield from _comments(
        [
            f"Memory: {proposal.memory_source}.",
            "The speeds here and of known models are a DGX Spark's; elsewhere they still order models.",
        ]
    )
    yield "machine:"
    values = {k: v for k, v in msgspec.to_builtins(machine).items() if v not in ("", None)}
    yield from _indented(_mapping(values), 2)


def _roles(proposal: Proposal) -> Iterator[str]:
    if proposal.router is None:
        yield "# router: NAME   (no model of 0.5B to 4B that answers without thinking is installed)"
    else:
        yield f"router: {_text(proposal.router)} # sorts tasks where the built-in classifier is not sure"
    yield f"baseline: {_text(proposal.baseline)} # savings are measured against always using this model"
    yield f"default_category: {_text(proposal.default_category)}"


def _model_block(tag: str, model: Model, *, known: bool) -> Iterator[str]:
    origin = "facts of the shipped fleet and of the server" if known else "facts as the server tells them"
    yield f"  {_text(tag)}: # {origin}"
    yield from _indented(_model(model), 4)


def _model(model: Model) -> list[str]:
    defaults = Model(size_gb=1, params="1B")
    values: dict[str, Any] = {}
    for name, value in msgspec.to_builtins(model).items():
        default = msgspec.to_builtins(getattr(defaults, name))
        if name in _ALWAYS or value != default:
            values[name] = _without_defaults(value, getattr(model, name))
    values.pop("pull", None)
    return list(_mapping(values))


def _without_defaults(value: Any, origin: object) -> Any:
    """A nested struct without what is only its default."""
    if not isinstance(value, dict) or not isinstance(origin, msgspec.Struct):
        return value
    defaults = dict(
        zip(reversed(origin.__struct_fields__), reversed(origin.__struct_defaults__), strict=False)
    )
    kept = {}
    for key, inner in value.items():
        default = defaults.get(key, msgspec.NODEFAULT)
        if inner != (msgspec.to_builtins(default) if default is not msgspec.NODEFAULT else object()):
            kept[key] = _without_defaults(inner, getattr(origin, key))
    return kept


def _category(name: str, category: Category) -> Iterator[str]:
    yield f"  {_text(name)}:"
    yield f"    description: {_text(category.description)}"
    if category.when_to_use:
        yield f"    when_to_use: {_text(category.when_to_use)}"
    requires = _without_defaults(msgspec.to_builtins(category.requires), category.requires)
    if requires:
        yield f"    requires: {_flow(requires)}"
    yield f"    output_tokens: {category.output_tokens}"
    if category.patience != 1.0:
        yield f"    patience: {category.patience:g}"
    if category.least_quality:
        yield f"    least_quality: {category.least_quality:g}"
    if category.examples:
        yield "    examples:"
        yield from (f"      - {_text(example)}" for example in category.examples)
    yield "    models:"
    for choice in category.models:
        values = {k: v for k, v in msgspec.to_builtins(choice).items() if v != ""}
        yield f"      - {_flow(values)}"
    yield ""


def _left_out(proposal: Proposal) -> list[str]:
    if not proposal.left_out:
        return []
    return ["Installed and not used:"] + [f"  {tag}: {why}" for tag, why in proposal.left_out.items()]


def _unserved(proposal: Proposal) -> list[str]:
    if not proposal.unserved:
        return []
    return ["Left out, until a model for it is installed:"] + [
        f"  {name}: {why}" for name, why in proposal.unserved.items()
    ]


def _mapping(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        line = f"{_text(key)}: {_flow(value)}"
        if not isinstance(value, list) or len(line) <= _WIDTH:
            yield line
            continue
        yield f"{_text(key)}:"
        yield from (f"  - {_flow(item)}" for item in value)


def _flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(str(k))}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) and abs(value) < 1e5 else str(value)
    return "null" if value is None else _text(str(value))


def _text(text: str) -> str:
    """A text as YAML: plain where nothing can be misread, otherwise in double quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_PLAIN:
        return text
    dumped = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**9)
    return str(dumped).strip()


def _comments(lines: Iterable[str]) -> Iterator[str]:
    """Comment lines; a control character in a name must not end one and begin YAML."""
    for line in lines:
        clean = "".join(c if c.isprintable() else "?" for c in line)
        yield f"# {clean}".rstrip()


def _indented(lines: Iterable[str], width: int) -> list[str]:
    return [" " * width + line for line in lines]
