"""Vectors on three paths."""

from __future__ import annotations

import base64
import struct
from typing import Any, cast

import msgspec
import ollama
import pytest
from openai.types import CreateEmbeddingResponse
from tests.gateway.wires.golden import ROUTER, TOLD, asked, to_ollama, to_openai

from llm_router.answer import EmbeddingAnswer
from llm_router.errors import InvalidRequest

OPENAI, EMBED, ONE = "/v1/embeddings", "/api/embed", "/api/embeddings"
VECTORS = EmbeddingAnswer(
    ((0.5, -1.0), (0.25, 2.0)),
    cast("Any", None),
    "m:7b",
    "h",
    (),
    prompt_tokens=4,
    load_s=0.25,
    elapsed_s=1.5,
)


def told(path: str, body: dict[str, Any]) -> Any:
    return msgspec.json.decode(asked(path, body).renderer.vectors(VECTORS, TOLD))


def test_openais_fields() -> None:
    body = {"model": "auto", "input": ["a", "b"], "dimensions": 2, "encoding_format": "base64", "new": 1}
    assert to_ollama(OPENAI, body) == {
        "model": "m",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 2,
        "options": {"num_ctx": 4096},
        "new": 1,
    }
    assert to_openai(OPENAI, body) == {
        "model": "m",
        "input": ["a", "b"],
        "dimensions": 2,
        "encoding_format": "float",
        "new": 1,
    }


@pytest.mark.parametrize(("path", "field"), [(EMBED, "input"), (ONE, "prompt")])
def test_ollamas_fields(path: str, field: str) -> None:
    body = {"model": "x", field: "a", "keep_alive": "1h", "options": {"num_gpu": 1, "seed": 2}, "new": 1}
    expected = {
        "model": "m",
        "options": {"seed": 2, "num_ctx": 4096},
        "keep_alive": "1h",
        "new": 1,
    }
    expected |= {"input": ["a"], "truncate": True} if path == EMBED else {"prompt": "a"}
    assert to_ollama(path, body) == expected
    assert "keep_alive" not in to_ollama(path, body | {"model": "auto"})
    assert to_openai(path, body) == {"model": "m", "input": ["a"], "encoding_format": "float", "new": 1}


@pytest.mark.parametrize(
    ("path", "given", "sent"),
    [
        (EMBED, {}, True),
        (EMBED, {"truncate": None}, True),
        (EMBED, {"truncate": True}, True),
        (EMBED, {"truncate": False}, False),
        (OPENAI, {}, False),
        (OPENAI, {"truncate": True}, True),
    ],
)
def test_long_texts_are_cut_by_default_on_ollamas_path_alone(path: str, given: Any, sent: bool) -> None:
    assert asked(path, {"input": "a"} | given).request.truncate is sent
    assert to_ollama(path, {"input": "a"} | given)["truncate"] is sent


@pytest.mark.parametrize("value", [[1, 2], [[1], [2]], [""], ["a", 1], 3, {}])
def test_what_cannot_be_embedded(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        asked(OPENAI, {"model": "auto", "input": value})


@pytest.mark.parametrize("value", ["hex", 3, [], {}])
def test_other_encodings(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="encoding_format"):
        asked(OPENAI, {"input": "a", "encoding_format": value})


def test_openais_reply() -> None:
    found = told(OPENAI, {"input": ["a", "b"]})
    CreateEmbeddingResponse.model_validate(found)
    assert [entry["embedding"] for entry in found["data"]] == [[0.5, -1.0], [0.25, 2.0]]
    assert [entry["index"] for entry in found["data"]] == [0, 1]
    assert found["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert found["router"] == ROUTER
    packed = told(OPENAI, {"input": "a", "encoding_format": "base64"})["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == (0.5, -1.0)


def test_ollamas_replies() -> None:
    found = told(EMBED, {"input": ["a", "b"]})
    ollama.EmbedResponse.model_validate(found)
    assert found == {
        "model": "m:7b",
        "embeddings": [[0.5, -1.0], [0.25, 2.0]],
        "total_duration": 1_500_000_000,
        "load_duration": 250_000_000,
        "prompt_eval_count": 4,
        "router": ROUTER,
    }
    one = told(ONE, {"prompt": "a"})
    ollama.EmbeddingsResponse.model_validate(one)
    assert one["embedding"] == [0.5, -1.0]
