"""Facts of a model from what a host tells of it, joined with what the shipped fleet knows of the same model.

Everything is read from the file's own metadata; a name says nothing about what a model can do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import get_args

import msgspec

from llm_router.fleet.schema import Capability, Licence, Model, OllamaVersions, Quirks
from llm_router.hosts.snapshot import InstalledModel
from llm_router.tokens import TokenizerFamily

THINKING_TOKENS = 1000
"""Prior for a thinking model nobody described; those of the shipped fleet think 500 to 3,000 tokens."""

CONTEXT_STEPS = (2048, 4096, 8192, 16384, 32768)
LARGE_VOCABULARY = 100_000
_LONG_TRAINED_CONTEXT = 100_000
_ALWAYS_ACTIVE_SHARE = 0.05
_GB_PER_BILLION = {
    "F32": 4.0,
    "F16": 2.0,
    "BF16": 2.0,
    "Q8": 1.07,
    "Q6": 0.83,
    "Q5": 0.7,
    "Q4": 0.6,
    "Q3": 0.48,
}
_NON_COMMERCIAL = re.compile(r"non-?\s?commercial|\bcc-by-nc|\bresearch only\b", re.IGNORECASE)
_KNOWN_LICENCES = {"apache license": "Apache-2.0", "apache-2.0": "Apache-2.0", "mit": "MIT"}
_LARGE_FAMILIES = ("qwen", "gemma", "gptoss", "commandr", "cohere", "deepseek", "glm", "llama4", "mllama")
"""Architectures whose published models all have a vocabulary of more than 100,000 tokens."""

_PARAMS = re.compile(r"([\d.,]+)\s*([KMBT])", re.IGNORECASE)
_BILLIONS = {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}


def params_b(text: str) -> float | None:
    """A host's words for the number of parameters, in billions.

    >>> params_b("134.52M")
    0.13452
    """
    found = _PARAMS.fullmatch(text.strip())
    if not found:
        return None
    try:
        number = float(found[1].replace(",", "")) * _BILLIONS[found[2].upper()]
    except ValueError:
        return None
    return round(number, 6) or None


def is_same_model(installed: InstalledModel, known: Model) -> bool:
    """Whether the file under a known name is that model: its size, its architecture, what it is for.

    Anybody can import any file under any name. Figures that nobody told do not count against it.
    """
    told = params_b(installed.params)
    if told and known.params_b and not 0.7 < told / known.params_b < 1.4:
        return False
    here, there = _plain(installed.architecture), _plain(known.architecture)
    if here and there and here != there:
        return False
    return installed.capabilities is None or (
        ("embedding" in installed.capabilities) == ("embedding" in known.capabilities)
    )


def observed_model(installed: InstalledModel, known: Model | None, relatives: Iterable[Model]) -> Model:
    """What is known of an installed model. ``num_ctx`` is left to the planner where ``known`` is None.

    ``known`` is the shipped fleet's entry of the same model; the host's size, context and capabilities win
    over it. ``relatives`` are shipped models; those of the same architecture lend what belongs to it.
    """
    billions = params_b(installed.params)
    size_gb = _size_gb(installed, billions)
    if known is None:
        return _unknown(installed, billions, size_gb, tuple(relatives))
    context_length = max(installed.context_length or known.context_length, 128)
    return msgspec.structs.replace(
        known,
        size_gb=size_gb if installed.size_bytes else known.file_gb,
        library_size_gb=None,
        params=installed.params or known.params,
        specialization="",
        when_to_use="",
        quantization=installed.quantization or known.quantization,
        architecture=installed.architecture or known.architecture,
        context_length=context_length,
        num_ctx=min(known.planned_num_ctx, context_length),
        capabilities=_capabilities(installed) or known.capabilities,
        ollama=known.ollama,
    )


def forbids_paid_work(licence: str) -> bool:
    """Whether the first line of a licence text says so; silence is no permission."""
    return _NON_COMMERCIAL.search(licence) is not None


def planned_num_ctx(model: Model, usable_gb: float) -> int:
    """The one context size to run a model with, in tokens.

    A model with a plan keeps it. Otherwise the largest of 2,048 to 32,768 tokens that the file has and whose
    KV cache takes at most 1 GB or a quarter of the weights, whichever is more (twice that for a model that
    thinks). Either way it is halved, down to 2,048, until weights and cache fit into ``usable_gb``.
    """
    num_ctx = model.num_ctx or _modest_num_ctx(model)
    while num_ctx > 2048 and model_with(model, num_ctx).memory_gb > usable_gb:
        num_ctx //= 2
    return max(min(num_ctx, model.context_length), 128)


def model_with(model: Model, num_ctx: int) -> Model:
    """The same model run with another context size."""
    return msgspec.structs.replace(model, num_ctx=min(num_ctx, model.context_length))


def kv_gb(model: Model) -> float:
    """The KV cache at the planned context, in GB."""
    return model.memory_gb - model.file_gb


def _modest_num_ctx(model: Model) -> int:
    allowed_gb = max(1.0, model.file_gb / 4) * (2 if "thinking" in model.capabilities else 1)
    steps = [step for step in CONTEXT_STEPS if step <= model.context_length]
    fitting = [step for step in steps if kv_gb(model_with(model, step)) <= allowed_gb]
    if fitting:
        return fitting[-1]
    return steps[0] if steps else model.context_length


def _unknown(
    installed: InstalledModel, billions: float | None, size_gb: float, relatives: tuple[Model, ...]
) -> Model:
    same_kind = [m for m in relatives if _plain(m.architecture) == _plain(installed.architecture) != ""]
    capabilities = _capabilities(installed) or _capabilities_by_architecture(installed)
    return Model(
        size_gb=size_gb,
        params=installed.params or "unknown",
        params_b=billions,
        active_params_b=_active_params_b(installed, billions),
        quantization=installed.quantization,
        architecture=installed.architecture,
        context_length=max(installed.context_length or 4096, 128),
        kv_kib_per_token=_kv_kib_per_token(installed, capabilities),
        capabilities=capabilities,
        languages=(),
        licence=_licence(installed.licence),
        ollama=_shared_versions(same_kind),
        tokenizer=_tokenizer(installed),
        thinking_tokens=THINKING_TOKENS if "thinking" in capabilities else 0,
        quirks=_shared_quirks(same_kind),
    )


def _plain(architecture: str) -> str:
    """Servers write one architecture as ``gptoss`` or ``gpt-oss``."""
    return re.sub(r"[^a-z0-9]", "", architecture.lower())


def _capabilities(installed: InstalledModel) -> tuple[Capability, ...]:
    if installed.capabilities is None:
        return ()
    return tuple(c for c in get_args(Capability) if c in installed.capabilities)


def _capabilities_by_architecture(installed: InstalledModel) -> tuple[Capability, ...]:
    """For servers that tell no capabilities: a BERT cannot answer, anything else can complete text."""
    return ("embedding",) if "bert" in installed.architecture.lower() else ("completion",)


def _size_gb(installed: InstalledModel, billions: float | None) -> float:
    if installed.size_bytes:
        return max(round(installed.size_bytes / 1e9, 3), 0.001)
    per_billion = next(
        (g for q, g in _GB_PER_BILLION.items() if installed.quantization.upper().startswith(q)), 0.6
    )
    return max(round((billions or 7.0) * per_billion, 3), 0.001)


def _active_params_b(installed: InstalledModel, billions: float | None) -> float | None:
    """Parameters per token of a mixture of experts: 5 % always, of the rest the share of its experts.

    For mixtral, gpt-oss and qwen3 mixtures this comes within a fifth of the published figures.
    """
    if not billions or not installed.expert_share:
        return None
    return round(billions * (_ALWAYS_ACTIVE_SHARE + (1 - _ALWAYS_ACTIVE_SHARE) * installed.expert_share), 2)


def _kv_kib_per_token(installed: InstalledModel, capabilities: tuple[Capability, ...]) -> float | None:
    if "completion" not in capabilities:
        return 0.0
    return round(installed.kv_kib_per_token, 1) if installed.kv_kib_per_token is not None else None


def _licence(text: str) -> Licence | None:
    if not text:
        return None
    for start, spdx in _KNOWN_LICENCES.items():
        if text.lower().startswith(start):
            return Licence(id=spdx)
    return Licence(
        id=text,
        commercial=not forbids_paid_work(text),
        note="only the first line of its text was read",
    )


def _tokenizer(installed: InstalledModel) -> TokenizerFamily:
    """The safe guess where the host does not tell is the small vocabulary: it counts more tokens."""
    if installed.vocab_size:
        return "large" if installed.vocab_size >= LARGE_VOCABULARY else "small"
    if _plain(installed.architecture).startswith(_LARGE_FAMILIES):
        return "large"
    return "large" if (installed.context_length or 0) >= _LONG_TRAINED_CONTEXT else "small"


def _shared_versions(same_kind: list[Model]) -> OllamaVersions | None:
    """Which servers can load an architecture is a fact of the architecture, where all its models agree."""
    found = {model.ollama for model in same_kind}
    return found.pop() if len(found) == 1 else None


def _shared_quirks(same_kind: list[Model]) -> Quirks:
    found = {model.quirks for model in same_kind}
    return found.pop() if len(found) == 1 else Quirks()
