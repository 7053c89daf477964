"""One module per endpoint family: a body becomes a request, pieces of an answer become the wire's bytes."""

from __future__ import annotations

from llm_router.gateway.wires.base import Endpoint


def endpoints() -> tuple[Endpoint, ...]:
    """Every path that answers a task."""
    from llm_router.gateway.wires import completions, embeddings, ollama, openai

    return (*ollama.endpoints(), openai.ENDPOINT, completions.ENDPOINT, *embeddings.ENDPOINTS)
