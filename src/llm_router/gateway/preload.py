"""Bodies of Ollama's API without a task: load a model, or unload it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_router.errors import InvalidRequest
from llm_router.gateway.wires.base import Preload
from llm_router.gateway.wires.ollama import preloaded
from llm_router.names import is_auto
from llm_router.router import unloads

if TYPE_CHECKING:
    from llm_router.gateway.app import Visit


async def preload(visit: Visit, path: str, asked: Preload) -> None:
    """Replies as Ollama does. A virtual name has nothing to load: which model it is, the task will tell."""
    unload = unloads(asked.fields.get("keep_alive"))
    if not is_auto(asked.model):
        visit.caller.may_use(asked.model)
        await visit.router.preload(asked.model, keep_alive=asked.fields.get("keep_alive"))
    elif not asked.model:
        raise InvalidRequest(
            "the body asks nothing",
            why="it has neither a task nor the name of a model to load",
            hint="send messages or a prompt, or name the model",
        )
    done_reason = "unload" if unload else "load"
    visit.reply(200, preloaded(path, asked.model, done_reason))
