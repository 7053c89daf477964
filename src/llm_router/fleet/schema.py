"""The shape of a fleet file: what exists. Field by field, with units and bounds.

A fleet file is data that is reviewed like code: every model with what its owner states and what was
checked, every category with its models in order. ``docs/reference/fleet-file.md`` is written from here.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from llm_router.names import SCRIPT_LANGUAGES
from llm_router.tokens import TokenizerFamily

Capability = Literal["completion", "tools", "vision", "thinking", "embedding", "insert"]
Quality = Annotated[float, Meta(ge=0.0, le=1.0)]
Text = Annotated[str, Meta(min_length=1)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Tokens = Annotated[int, Meta(ge=128)]


ONE_PLACE = frozenset({"mllama", "qwen3vl", "qwen35", "lfm2", "nemotron_h"})
"""Architectures that Ollama 0.33 runs with one request at a time."""


class Licence(msgspec.Struct, frozen=True, kw_only=True):
    id: Annotated[Text, Meta(description="licence name, SPDX where there is one")]
    commercial: Annotated[bool, Meta(description="whether paid work is allowed under it")] = True
    note: str = ""


class OllamaVersions(msgspec.Struct, frozen=True, kw_only=True):
    """On which Ollama versions the model loads; outside of them it is listed and never chosen."""

    minimum: Annotated[str | None, Meta(description="first version that loads it")] = None
    below: Annotated[str | None, Meta(description="first version that no longer loads it")] = None
    why: Annotated[str, Meta(description="shown to people where the version does not fit")] = ""


class ReasoningMarkers(msgspec.Struct, frozen=True, kw_only=True):
    """Text that a model writes around its own reasoning, where the server does not split it off."""

    thinking_start: str = ""
    answer_start: Text
    answer_end: str = ""


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider must do differently for this model."""

    system_role: Annotated[
        bool, Meta(description="false: no system role, fold it into the first user message")
    ] = True
    max_images: Annotated[Count | None, Meta(description="images per request; None is no limit")] = None
    reasoning_markers: ReasoningMarkers | None = None
    thinks_always: Annotated[bool, Meta(description="thinking cannot be switched off")] = False
    query_prefix: Annotated[str, Meta(description="an embedder's prefix for search queries")] = ""
    document_prefix: Annotated[str, Meta(description="an embedder's prefix for documents")] = ""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model. ``size_gb`` and ``params`` are the owner's words; everything else was checked."""

    size_gb: Annotated[float, Meta(gt=0, le=5000, description="size in GB as the owner states it")]
    params: Annotated[Text, Meta(description="parameters as the owner states them, e.g. 70B")]
    specialization: str = ""
    when_to_use: str = ""
    speed: Annotated[str, Meta(description="the owner's word: very fast, fast, medium, slow, very slow")] = ""
    quality: Annotated[str, Meta(description="the owner's word: low, medium, high, highest")] = ""
    deprecated: Annotated[bool, Meta(description="true: listed and never chosen")] = False

    library_size_gb: Annotated[Positive | None, Meta(description="size of the published file in GB")] = None
    params_b: Annotated[Positive | None, Meta(description="parameters in billions")] = None
    active_params_b: Annotated[
        Positive | None, Meta(description="parameters read per token, in billions")
    ] = None
    quantization: str = ""
    architecture: Annotated[str, Meta(description="general.architecture of the GGUF file")] = ""
    context_length: Annotated[int, Meta(ge=128, description="longest context of the file, in tokens")] = 4096
    num_ctx: Annotated[Tokens | None, Meta(description="the one context size it is run with, in tokens")] = (
        None
    )
    kv_kib_per_token: Annotated[NotNegative | None, Meta(description="KV cache at f16, KiB per token")] = None
    capabilities: tuple[Capability, ...] = ("completion",)
    languages: Annotated[tuple[str, ...], Meta(description="ISO 639-1 codes its makers name")] = ("en",)
    licence: Licence | None = None
    ollama: OllamaVersions | None = None
    tokenizer: Annotated[
        TokenizerFamily, Meta(description="vocabulary: large (>= 100k) or small (about 32k)")
    ] = "large"
    decode_tokens_per_s: Annotated[Positive | None, Meta(description="answer speed on the fleet's host")] = (
        None
    )
    prefill_tokens_per_s: Annotated[
        Positive | None, Meta(description="reading speed on the fleet's host")
    ] = None
    thinking_tokens: Annotated[int, Meta(ge=0, description="tokens it usually thinks before it answers")] = 0
    pull: Annotated[
        str | None, Meta(description="name to pull; empty: not in the library; None: its own name")
    ] = None
    quirks: Quirks = Quirks()
    notes: Annotated[tuple[str, ...], Meta(description="risks and checked facts, a sentence each")] = ()

    @property
    def file_gb(self) -> float:
        """The published size where known, else the owner's; in GB."""
        return self.library_size_gb or self.size_gb

    @property
    def planned_num_ctx(self) -> int:
        return min(self.num_ctx or 8192, self.context_length)

    @property
    def memory_gb(self) -> float:
        """Weights and KV cache at the planned context, in GB; 131,072 bytes per token where KV is unknown."""
        return self.memory_gb_for(1)

    def memory_gb_for(self, parallel: int) -> float:
        """The same where a host answers so many requests of a model at once: each has a cache of its own."""
        kib = 128.0 if self.kv_kib_per_token is None else self.kv_kib_per_token
        return self.file_gb + kib * 1024 * self.planned_num_ctx * self.places(parallel) / 1e9

    def places(self, parallel: int) -> int:
        """How many requests Ollama lets it answer at once where OLLAMA_NUM_PARALLEL is ``parallel``.
        Embedders and some architectures have one place whatever is set (server/sched.go)."""
        alone = "completion" not in self.capabilities or self.architecture in ONE_PLACE
        return 1 if alone else max(parallel, 1)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A model that may serve a category, and how well: 1 is as good as this fleet could wish for."""

    model: Text
    quality: Quality
    source: Annotated[str, Meta(description="where the quality number comes from")] = ""


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What tasks of a category need besides what the request itself shows."""

    capability: Annotated[Capability | None, Meta(description="needed by every task of the category")] = None
    min_context_tokens: Annotated[int, Meta(ge=0)] = 0
    language: Annotated[
        str | None,
        Meta(
            description="tasks in this language belong here; it is told by its script: "
            + ", ".join(SCRIPT_LANGUAGES)
        ),
    ] = None


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of task. The first model is the owner's choice, the others are acceptable in this order."""

    description: Text
    models: Annotated[tuple[Choice, ...], Meta(min_length=1)]
    when_to_use: str = ""
    examples: tuple[str, ...] = ()
    requires: Requirements = Requirements()
    output_tokens: Annotated[int, Meta(ge=0, description="usual length of an answer, in tokens")] = 400
    patience: Annotated[
        Positive, Meta(description="how much less waiting counts here: 4 makes a second cost a quarter")
    ] = 1.0
    least_quality: Annotated[
        Quality, Meta(description="no model below this quality answers it, however long the others take")
    ] = 0.0


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The box the fleet's numbers are meant for; estimates start from it until speeds are measured."""

    name: str = "local"
    usable_memory_gb: Annotated[float, Meta(gt=0, description="GB that models may fill")] = 120.0
    load_gb_per_s: Annotated[float, Meta(gt=0, description="GB of model file read per second")] = 2.0
    load_overhead_s: Annotated[float, Meta(ge=0, description="seconds of every load besides reading")] = 2.0
    memory_gb_per_s: Annotated[float, Meta(gt=0, description="memory bandwidth, GB per second")] = 273.0
    source: str = ""


class StandIn(msgspec.Struct, frozen=True, kw_only=True):
    """The small model inside the embedded engine that answers where no host does."""

    name: Text
    model: Model


class FleetFile(msgspec.Struct, frozen=True, kw_only=True):
    """Top of a fleet file. In a user's file every section is optional and overlays what it extends."""

    version: Literal[1] = 1
    name: str = ""
    description: str = ""
    extends: Annotated[str | None, Meta(description="shipped fleet to start from; none: start empty")] = None
    machine: Machine | None = None
    router: Annotated[str | None, Meta(description="the model that classifies: Mission Control")] = None
    baseline: Annotated[str | None, Meta(description="the one model that savings are measured against")] = (
        None
    )
    default_category: str | None = None
    stand_in: StandIn | None = None
    models: dict[str, Model] = {}
    categories: dict[str, Category] = {}
