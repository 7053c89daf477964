"""What exists: models, categories, and their facts, read from YAML files."""

from llm_router.fleet.fleet import Fleet
from llm_router.fleet.loading import load_fleet
from llm_router.fleet.schema import Category, Choice, Model

__all__ = ["Category", "Choice", "Fleet", "Model", "load_fleet"]
