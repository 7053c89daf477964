"""What an answer does not say about itself: was the prompt cut, did another model answer, is it empty."""

from __future__ import annotations

from collections.abc import Sequence

from llm_router.answer import Final
from llm_router.names import same_model
from llm_router.providers.base import Provider
from llm_router.request import ApiKind, RouteRequest, ToolCall
from llm_router.tokens import TokenEstimate

MIN_TOKENS_TO_JUDGE = 200
"""Below this an estimate says too little about what the server should have counted."""


def truncation(estimate: TokenEstimate, final: Final, num_ctx: int | None) -> str | None:
    """A sentence where the server read clearly less than was sent.

    Ollama answers an over-long prompt with status 200 and about half a context of it, and the only trace is
    ``prompt_eval_count``. Judged is the lower bound of the estimate, so a doubtful case stays silent.
    """
    counted = final.usage.prompt_tokens
    if counted is None or estimate.low < MIN_TOKENS_TO_JUDGE or counted >= estimate.low * 0.9:
        return None
    told = f"the server read {counted:,} tokens of about {estimate.tokens:,}"
    if num_ctx and estimate.tokens > num_ctx * 0.9:
        return f"truncated: {told}; its context is {num_ctx:,}"
    return f"truncated: {told}"


def other_model(asked: str, final: Final) -> str | None:
    """A sentence where the server names another model than the one that was asked."""
    if not final.model or same_model(asked, final.model):
        return None
    return f"{final.model} answered although {asked} was asked"


def no_call(must_call: bool, tool_calls: Sequence[ToolCall]) -> str | None:
    """A sentence where a tool was to be called and none was: Ollama cannot hold a model to that."""
    return None if tool_calls or not must_call else "no tool was called although the request asks for a call"


def context(request: RouteRequest, model: str, host: Provider) -> str | None:
    """A sentence where a prompt came with the ``context`` of an earlier answer and may not go on with it.

    It holds numbers out of one model's vocabulary, in a form that only Ollama knows.
    """
    if request.kind is not ApiKind.GENERATE or not request.unknown.get("context"):
        return None
    if host.kind != "ollama":
        left_out = f"the context of the request was left out: {host.name} cannot go on with one"
        return f"{left_out}; send the whole prompt"
    if request.model is None:
        return f"the context of the request was read as one of {model}; name the model that gave it"
    return None
