"""A list of numbers is an answer only to who asked for one."""

from __future__ import annotations

import pytest

from llm_router.classify.embedded import EncoderStage
from llm_router.classify.vectors import asks_for_vectors
from llm_router.fleet import load_fleet
from llm_router.request import RouteRequest

ASKS = (
    "embed this sentence: the ferry leaves at nine",
    "Generate embeddings for semantic search",
    "vectorise: garden hose, watering can",
    'please compute the embedding of "quiet street"',
    "turn these into vectors\nred chair\nblue chair",
    "what's the embedding of the phrase 'deep water'?",
    "I need vectors for all product titles so that I can cluster them",
    'model.encode("a tenor sax")',
    "Erzeuge Embeddings für die folgenden Sätze",
    "Convierte estas frases en vectores",
    "이 문장을 임베딩해 줘: 봄이 왔다",
)
SPEAKS = (
    "semantic search tutorial",
    "embed me a joke",
    "vector art of a cat",
    "vector databases compared",
    "what is an embedding?",
    "how do I choose an embedding model",
    "explain vectors to a child",
    "which vector database is cheapest",
    "is cosine similarity symmetric?",
)


@pytest.mark.parametrize("text", ASKS)
def test_a_request_for_vectors_is_one(text: str) -> None:
    assert asks_for_vectors(text)


@pytest.mark.parametrize("text", SPEAKS)
async def test_what_only_speaks_of_vectors_never_gets_them(text: str) -> None:
    fleet = load_fleet()
    verdict = await EncoderStage(fleet).classify(
        RouteRequest.from_text(text), frozenset(fleet.categories), {}
    )
    assert verdict.category != "embeddings"
    if verdict.allowed is not None:
        assert "embeddings" not in verdict.allowed
