"""One module per endpoint family: a body becomes a request, pieces of an answer become the wire's bytes."""

from __future__ import annotations

from llm_router.gateway.wires.base import Endpoint


def endpoints() -> tuple[Endpoint, ...]:
    """Every path that answers a task."""
    from llm_router.gateway.wires import anthropic, completions, embeddings, ollama, openai, responses

    return (
        *ollama.endpoints(),
        openai.ENDPOINT,
        completions.ENDPOINT,
        responses.ENDPOINT,
        *embeddings.ENDPOINTS,
        anthropic.ENDPOINT,
        anthropic.COUNT_ENDPOINT,
    )
