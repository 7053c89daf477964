"""What was true of a host at one moment, as values that can be handed to the policy, kept and replayed.

A snapshot is advisory: other programs load and unload models too. It ranks candidates; the host itself has
the last word when a model is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

from llm_router.hosts.speeds import ModelSpeeds
from llm_router.names import canonical

HostKind = Literal["ollama", "openai", "embedded"]

_FOREIGN = (
    "HTML",
    "redirects",
    "something else",
    "speak",
    "not JSON",
    "no answer of a model server",
    "cannot be read",
)
"""Words in a snapshot's problem that mean: a program answers there, and it is no model server."""

_FOR_EVER_YEAR = 2200
"""An Ollama host that keeps a model without an end tells a time some 290 years ahead."""

_OFTEN_TLS = ("speak HTTP", "HTTPS server", "closed without an answer")
"""Words of a problem that a server with a certificate causes where it is asked without one."""


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model on a host's disk. ``capabilities`` is None where the host does not tell.

    ``size_bytes`` is 0 where unknown, ``context_length`` None. ``params`` is the host's text, e.g. ``7.2B``.
    ``expert_share`` is the share of its experts that one token uses, ``vocab_size`` its number of tokens.
    ``remote_host`` is the server on the internet that this host would pass requests on to; empty where it
    answers them itself.
    """

    name: str
    size_bytes: int = 0
    capabilities: frozenset[str] | None = None
    context_length: int | None = None
    architecture: str = ""
    params: str = ""
    quantization: str = ""
    digest: str = ""
    kv_kib_per_token: float | None = None
    licence: str = ""
    expert_share: float | None = None
    vocab_size: int | None = None
    remote_host: str = ""


@dataclass(frozen=True, slots=True)
class ResidentModel:
    """A model in a host's memory: bytes it fills there and the context it was loaded with, in tokens."""

    name: str
    size_bytes: int = 0
    vram_bytes: int = 0
    context_length: int | None = None
    expires_at: str = ""

    @property
    def size_gb(self) -> float:
        return self.size_bytes / 1e9

    @property
    def for_ever(self) -> bool:
        """Whether its host keeps it without an end."""
        until = self._until
        return until is not None and until.year >= _FOR_EVER_YEAR

    def lasts(self, until: datetime) -> bool:
        """Whether its host would keep it at least until then, asked nothing; False where it does not tell."""
        told = self._until
        return told is not None and told >= until

    @property
    def _until(self) -> datetime | None:
        try:
            told = datetime.fromisoformat(self.expires_at)
        except ValueError:
            return None
        return told if told.tzinfo else told.replace(tzinfo=UTC)


@dataclass(frozen=True)
class HostSnapshot:
    """One host. ``usable_memory_gb`` is None where nobody said; ``problem`` says why it is not reachable.

    ``hint`` says what a person can do about a host that cannot answer, where that is known.

    ``unusable`` holds models that this host was seen to be unable to load, with its reason, and
    ``unhealthy`` models that failed repeatedly a moment ago, with how often. ``speeds`` is what was measured
    of its models, by their canonical names there. ``parallel`` is how many requests of one model
    it answers at once, as the settings say: each has a KV cache of its own.
    """

    name: str
    kind: HostKind
    url: str
    reachable: bool
    version: str = ""
    problem: str = ""
    hint: str = ""
    installed: Mapping[str, InstalledModel] = field(default_factory=dict)
    resident: Mapping[str, ResidentModel] = field(default_factory=dict)
    usable_memory_gb: float | None = None
    unusable: Mapping[str, str] = field(default_factory=dict)
    unhealthy: Mapping[str, str] = field(default_factory=dict)
    served_names: Mapping[str, str] = field(default_factory=dict)
    taken_at_s: float = 0.0
    speeds: Mapping[str, ModelSpeeds] = field(default_factory=dict)
    parallel: int = 1

    def usable_gb(self, otherwise_gb: float) -> float:
        """GB of memory that models may fill; ``otherwise_gb``, of the fleet's machine, where nobody said."""
        return otherwise_gb if self.usable_memory_gb is None else self.usable_memory_gb

    @property
    def is_foreign(self) -> bool:
        """Whether a program answers at the address that is no model server."""
        return any(word in self.problem for word in _FOREIGN)

    @property
    def way_out(self) -> str:
        """What to do about a host that does not answer, by what was found at its address."""
        if self.hint:
            return self.hint
        if "certificate" in self.problem:
            return "trust its certificate with SSL_CERT_FILE=FILE, or give the address with http://"
        if "secure connection" in self.problem:
            return "give the address with http:// where the server has no certificate"
        if self.url.startswith("http://") and any(words in self.problem for words in _OFTEN_TLS):
            return "check address and port, and give it with https:// where the server has a certificate"
        if self.is_foreign:
            usual = "; Ollama listens on 11434 unless told otherwise" if self.kind == "ollama" else ""
            return f"check address and port, and a proxy in between{usual}"
        if self.kind == "ollama":
            return "start it with: ollama serve; or set OLLAMA_HOST to its address"
        return "start it, or correct its url in the settings"

    @cached_property
    def _installed_by_name(self) -> Mapping[str, InstalledModel]:
        return {canonical(name): model for name, model in self.installed.items()}

    @cached_property
    def _resident_by_name(self) -> Mapping[str, ResidentModel]:
        return {canonical(name): model for name, model in self.resident.items()}

    @cached_property
    def resident_gb(self) -> Mapping[str, float]:
        """GB that each model fills in memory, by canonical name and in its order."""
        return {name: model.size_gb for name, model in sorted(self._resident_by_name.items())}

    @cached_property
    def _served_by_name(self) -> Mapping[str, str]:
        return {canonical(name): served for name, served in self.served_names.items()}

    def served_as(self, model: str) -> str:
        """The name to ask this host for, where the configuration maps it; else the model's own name."""
        return self._served_by_name.get(canonical(model), model) if self.served_names else model

    def find_installed(self, model: str) -> InstalledModel | None:
        return self._installed_by_name.get(canonical(self.served_as(model)))

    def find_resident(self, model: str) -> ResidentModel | None:
        return self._resident_by_name.get(canonical(self.served_as(model)))

    def find_speeds(self, model: str) -> ModelSpeeds | None:
        """What was measured of it here; None where nothing was."""
        return self.speeds.get(canonical(self.served_as(model))) if self.speeds else None

    def load_s(self, name: str, prior_s: float) -> float:
        """Seconds of a load of one of its models, by its canonical name here: the prior, corrected by what
        was measured."""
        speeds = self.speeds.get(name)
        if speeds is None:
            return prior_s
        known = self._load_s.get((name, prior_s))
        if known is None:
            known = self._load_s[name, prior_s] = speeds.load_from(prior_s)
        return known

    @cached_property
    def _load_s(self) -> dict[tuple[str, float], float]:
        return {}

    def alike(self, other: HostSnapshot) -> bool:
        """Whether a decision would come out the same: all but when each was taken, and when models leave."""
        return self._lasting == other._lasting

    @cached_property
    def _lasting(self) -> HostSnapshot:
        resident = {name: replace(model, expires_at="") for name, model in self.resident.items()}
        return replace(self, resident=resident, taken_at_s=0.0)

    def with_lessons(
        self,
        unusable: Mapping[str, str],
        unhealthy: Mapping[str, str],
        speeds: Mapping[str, ModelSpeeds],
    ) -> HostSnapshot:
        """With what was learned of its models meanwhile, beside what the host itself told."""
        return replace(
            self,
            unusable={**self.unusable, **unusable},
            unhealthy={**self.unhealthy, **unhealthy},
            speeds=speeds,
        )


def unreachable(name: str, kind: HostKind, url: str, problem: str, hint: str = "") -> HostSnapshot:
    """The snapshot of a host that did not answer."""
    return HostSnapshot(name=name, kind=kind, url=url, reachable=False, problem=problem, hint=hint)
