"""Which model, who is next, why not the others. Pure: values in, values out."""

from llm_router.policy.decide import World, decide
from llm_router.policy.settings import PolicySettings

__all__ = ["PolicySettings", "World", "decide"]
