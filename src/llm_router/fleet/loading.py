"""Reads fleet files: the shipped one, then the user's over it, then checks that every name resolves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from llm_router import strict_yaml
from llm_router.errors import ConfigError, nearest
from llm_router.fleet.fleet import Fleet
from llm_router.fleet.schema import Category, FleetFile, Machine, Model, StandIn
from llm_router.names import SCRIPT_LANGUAGES, canonical, is_cloud
from llm_router.strict_yaml import Document

SHIPPED = "dgx-spark"
"""Name of the fleet that comes with the package and that user files extend unless they say ``none``."""

_VERSION = re.compile(r"v?\d+(\.\d+)*")

_TOP_LEVEL = tuple(FleetFile.__struct_fields__)
_TEXTS = ("name", "description", "extends", "router", "baseline", "default_category")
_MAPPINGS = ("machine", "models", "categories")
_KEYS = {"models": "size_gb: and params:", "categories": "description: and models:"}
"""Keys that every entry of a section needs, to show what one looks like."""


def shipped_fleet_text(name: str = SHIPPED) -> str:
    """The shipped fleet file as text."""
    return resources.files("llm_router.data").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def load_fleet(paths: Sequence[Path] = (), *, allow_cloud: bool = False) -> Fleet:
    """The shipped fleet with the given files over it, in order.

    The first file may say ``extends: none`` to start empty. ``machine`` and every model or category of a
    later file are laid over the earlier ones key by key; a list (``models`` of a category) is replaced as a
    whole, and so is ``stand_in``. A file without any entry, or with nothing but comments, changes nothing.
    Names of models on the internet are taken only with ``allow_cloud`` (``policy.allow_cloud``). Raises
    ConfigError with file and line for anything that cannot be meant.
    """
    documents = [strict_yaml.read(path) for path in paths]
    for document in documents:
        _check_top(document)
    for document in documents[1:]:
        if _extends(document) is None:
            raise document.error(
                "extends: none in a later file",
                "extends",
                why=f"it would drop what {documents[0].path} defines",
                hint="only the first fleet file may start empty",
            )
    if not documents or _extends(documents[0]) is not None:
        documents.insert(0, strict_yaml.parse(shipped_fleet_text(), f"{SHIPPED}.yaml (shipped)"))
    return _build(documents, allow_cloud=allow_cloud)


def _extends(document: Document) -> str | None:
    value = document.values.get("extends", SHIPPED)
    if value in (None, "none"):
        return None
    if value != SHIPPED:
        raise document.error(
            f"extends: unknown fleet {value!r}",
            "extends",
            hint=nearest(str(value), (SHIPPED, "none")) or f"known: {SHIPPED}, none",
        )
    return SHIPPED


def _check_top(document: Document) -> None:
    if not isinstance(document.values, dict):
        raise document.error(
            "a fleet file is a mapping",
            why="found a list or a text",
            hint="begin with models: or categories:",
        )
    for key, value in document.values.items():
        if key not in _TOP_LEVEL:
            raise document.error(
                f"unknown key {str(key)!r}",
                str(key),
                hint=nearest(str(key), _TOP_LEVEL) or f"known keys: {', '.join(_TOP_LEVEL)}",
            )
        if value is None:
            continue
        if key in _TEXTS and not isinstance(value, str):
            single = isinstance(value, bool | int | float)
            hint = "put the value in quotes" if single else "write one text after the colon"
            raise document.error(f"{key} must be a text", key, hint=hint)
        if key in _MAPPINGS and not isinstance(value, dict):
            raise document.error(
                f"{key} must be a mapping", key, hint="write one entry per line: name, colon, value"
            )
    if document.values.get("version", 1) != 1:
        raise document.error(
            f"version {document.values['version']!r} is not known",
            "version",
            hint="this release reads version 1",
        )


class _Layers:
    """Raw entries of one section, merged over the files, each remembering the file it was last set in."""

    def __init__(self, documents: Iterable[Document], section: str) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self.documents: dict[str, Document] = {}
        self.section = section
        for document in documents:
            for name, values in (document.values.get(section) or {}).items():
                self._lay(document, str(name), values)

    def _lay(self, document: Document, name: str, values: object) -> None:
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise document.error(
                f"{self.section}.{name} must be a mapping",
                self.section,
                name,
                hint=f"write its keys below it, indented, such as {_KEYS[self.section]}",
            )
        if not name.isprintable() or name != name.strip() or not name:
            raise document.error(
                f"{self.section}: {name!r} is no name",
                self.section,
                name,
                why="it is empty, has blanks around it or characters that cannot be seen",
                hint="give the entry a name that can be typed",
            )
        self.entries[name] = _merged(self.entries.get(name, {}), values)
        self.documents[name] = replace(document, below=self.documents.get(name))


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _build(documents: Sequence[Document], *, allow_cloud: bool) -> Fleet:
    models_raw, categories_raw = _Layers(documents, "models"), _Layers(documents, "categories")
    models = _models(models_raw)
    if not allow_cloud:
        _refuse_cloud(models, models_raw.documents)
    categories = {
        name: strict_yaml.convert(categories_raw.documents[name], entry, Category, "categories", name)
        for name, entry in categories_raw.entries.items()
    }
    _check_categories(models, categories, categories_raw.documents)
    last = documents[-1]
    if not categories:
        raise last.error("the fleet has no categories", hint="extend the shipped fleet: remove extends: none")
    stand_in, stand_in_doc = _last_value(documents, "stand_in")
    return Fleet(
        name=str(_last_value(documents, "name")[0] or "fleet"),
        models=models,
        categories=categories,
        default_category=_default_category(documents, categories),
        machine=_machine(documents),
        router=_named_model(documents, "router", models),
        baseline=_named_model(documents, "baseline", models),
        stand_in=strict_yaml.convert(stand_in_doc, stand_in, StandIn, "stand_in")
        if stand_in is not None
        else None,
        origins={n: d.path for raw in (models_raw, categories_raw) for n, d in raw.documents.items()},
    )


def _machine(documents: Sequence[Document]) -> Machine:
    values: dict[str, Any] = {}
    top: Document | None = None
    for document in documents:
        values = _merged(values, document.values.get("machine") or {})
        top = replace(document, below=top)
    return strict_yaml.convert(top or documents[-1], values, Machine, "machine")


def _models(raw: _Layers) -> dict[str, Model]:
    models: dict[str, Model] = {}
    seen: dict[str, str] = {}
    for tag, entry in raw.entries.items():
        document = raw.documents[tag]
        _check_name(document, tag, seen)
        model = strict_yaml.convert(document, entry, Model, "models", tag)
        _check_model(document, tag, model)
        seen[canonical(tag)] = tag
        models[tag] = model
    return models


def _check_name(document: Document, tag: str, seen: Mapping[str, str]) -> None:
    if canonical(tag) in seen:
        raise document.error(
            f"model {tag!r} is the same as {seen[canonical(tag)]!r}",
            "models",
            tag,
            why="a name without a tag means :latest",
            hint=f"write {seen[canonical(tag)]!r} to change that entry",
        )


def _refuse_cloud(models: Mapping[str, Model], documents: Mapping[str, Document]) -> None:
    for tag, model in models.items():
        if is_cloud(tag):
            raise documents[tag].error(
                f"model {tag!r} would be answered on the internet",
                "models",
                tag,
                why="policy.allow_cloud is off",
                hint="remove the entry, or set policy.allow_cloud",
            )
        if model.pull and is_cloud(model.pull):
            raise documents[tag].error(
                f"models.{tag}.pull: {model.pull!r} would be answered on the internet",
                "models",
                tag,
                "pull",
                why="policy.allow_cloud is off",
                hint="name a local model, or set policy.allow_cloud",
            )


def _check_model(document: Document, tag: str, model: Model) -> None:
    for key in ("minimum", "below") if model.ollama else ():
        version = getattr(model.ollama, key)
        if version is not None and not _VERSION.match(version):
            raise document.error(
                f"models.{tag}.ollama.{key}: {version!r} is no version",
                "models",
                tag,
                "ollama",
                key,
                hint="write it in numbers, such as '0.30.0'",
            )
    if model.num_ctx and model.num_ctx > model.context_length:
        laid = ("models", tag, "context_length") in document.lines
        raise document.error(
            f"models.{tag}.num_ctx: {model.num_ctx} is more than its context_length {model.context_length}",
            "models",
            tag,
            "context_length" if laid and ("models", tag, "num_ctx") not in document.lines else "num_ctx",
            hint=f"set num_ctx to {model.context_length} or less",
        )


def _check_categories(
    models: dict[str, Model], categories: dict[str, Category], documents: dict[str, Document]
) -> None:
    for name, category in categories.items():
        _check_language(name, category, documents[name])
        used: set[str] = set()
        for index, choice in enumerate(category.models):
            where = ("categories", name, "models", index)
            if choice.model not in models:
                raise documents[name].error(
                    f"category {name!r} names the model {choice.model!r}",
                    *where,
                    why="no such model is defined",
                    hint=_nearest_model(choice.model, models),
                )
            if choice.model in used:
                raise documents[name].error(
                    f"category {name!r} names the model {choice.model!r} twice",
                    *where,
                    hint="keep one of them",
                )
            used.add(choice.model)


def _check_language(name: str, category: Category, document: Document) -> None:
    code = category.requires.language
    if code is not None and code not in SCRIPT_LANGUAGES:
        raise document.error(
            f"category {name!r} requires the language {code!r}",
            *("categories", name, "requires", "language"),
            why="only languages that their script gives away can be told apart",
            hint=f"known codes: {', '.join(SCRIPT_LANGUAGES)}; for others write examples instead",
        )


def _last_value(documents: Sequence[Document], key: str) -> tuple[Any, Document]:
    for document in reversed(documents):
        if document.values.get(key) is not None:
            return document.values[key], document
    return None, documents[-1]


def _nearest_model(name: str, models: Mapping[str, Model]) -> str:
    for tag in models:
        if canonical(tag) == canonical(name):
            return f"it is listed as {tag!r}; use that spelling"
    return nearest(name, models) or "add it under models:"


def _named_model(documents: Sequence[Document], key: str, models: dict[str, Model]) -> str | None:
    value, document = _last_value(documents, key)
    if value is None or value in models:
        return value if value is None else str(value)
    raise document.error(
        f"{key} names the model {value!r}",
        key,
        why="no such model is defined",
        hint=_nearest_model(str(value), models),
    )


def _default_category(documents: Sequence[Document], categories: dict[str, Category]) -> str:
    value, document = _last_value(documents, "default_category")
    if value is None:
        return next(iter(categories))
    if value not in categories:
        raise document.error(
            f"default_category names {value!r}",
            "default_category",
            why="no such category is defined",
            hint=nearest(str(value), categories) or f"known: {', '.join(categories)}",
        )
    return str(value)


__all__ = ["SHIPPED", "ConfigError", "load_fleet", "shipped_fleet_text"]
