"""What a request itself demands of a model, whatever category it was put into."""

from __future__ import annotations

from llm_router.fleet.schema import Category
from llm_router.request import ApiKind, RouteRequest


def is_embedding_task(request: RouteRequest, category: Category | None) -> bool:
    """Whether vectors are wanted: by the API that was called, or by words ("embed this sentence")."""
    if request.kind is ApiKind.EMBEDDING:
        return True
    wanted = category is not None and category.requires.capability == "embedding"
    return wanted and not request.images and not request.tools


def needed_capabilities(request: RouteRequest, category: Category | None) -> tuple[str, ...]:
    """The capabilities that a model must have, hardest first."""
    if is_embedding_task(request, category):
        return ("embedding",)
    needs = ["completion"]
    if request.images:
        needs.append("vision")
    if request.tools:
        needs.append("tools")
    return tuple(needs)
