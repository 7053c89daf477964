"""A fleet that was read and checked: every name in it resolves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from llm_router.errors import UnknownCategory, UnknownModel
from llm_router.fleet.schema import Category, Machine, Model, StandIn
from llm_router.names import canonical


@dataclass(frozen=True)
class Fleet:
    """Models by tag and categories by name, in the order of the files.

    ``origins`` says for each model and category which file it comes from, for ``config show`` and errors.
    """

    name: str
    models: Mapping[str, Model]
    categories: Mapping[str, Category]
    default_category: str
    machine: Machine
    router: str | None = None
    baseline: str | None = None
    stand_in: StandIn | None = None
    origins: Mapping[str, str] | None = None

    @cached_property
    def _by_canonical(self) -> Mapping[str, str]:
        return {canonical(tag): tag for tag in self.models}

    @cached_property
    def reserved(self) -> tuple[str, ...]:
        """Small models that everything else depends on, which nothing may push out of the memory: Mission
        Control and the embedders."""
        embedders = [
            c.models[0].model for c in self.categories.values() if c.requires.capability == "embedding"
        ]
        router = [self.router] if self.router is not None and self.router in self.models else []
        return tuple(dict.fromkeys([*router, *embedders]))

    def find(self, name: str) -> str | None:
        """The fleet's own spelling of a model name (``phi4:latest`` → ``phi4``), or None."""
        return self._by_canonical.get(canonical(name))

    def model(self, name: str) -> Model:
        """Raises UnknownModel with the nearest name."""
        tag = self.find(name)
        if tag is None:
            raise UnknownModel.named(name, self.models)
        return self.models[tag]

    def category(self, name: str) -> Category:
        """Raises UnknownCategory with the nearest name."""
        try:
            return self.categories[name]
        except KeyError:
            raise UnknownCategory.named(name, self.categories) from None

    def choice_for(self, category: str) -> str:
        """The fleet's choice: the first model of the category that is not deprecated."""
        choices = self.category(category).models
        for choice in choices:
            if not self.models[choice.model].deprecated:
                return choice.model
        return choices[0].model

    @cached_property
    def categories_needing(self) -> Mapping[str, tuple[str, ...]]:
        """Category names by the capability each of them requires (``"vision"`` → …)."""
        found: dict[str, list[str]] = {}
        for name, category in self.categories.items():
            if category.requires.capability:
                found.setdefault(category.requires.capability, []).append(name)
        return {capability: tuple(names) for capability, names in found.items()}
