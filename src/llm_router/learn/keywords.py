"""A keyword router as it is commonly written: a list of substrings per category, most hits win.

It is here to be compared with, faults included: ``api`` is inside "capital", and Korean has no entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

KEYWORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "max_vision": ("chart", "ocr", "scan", "invoice", "receipt", "table in", "in detail", "document image"),
    "fast_vision": ("image", "picture", "photo", "caption", "screenshot"),
    "hybrid_reasoner": ("diagram", "figure", "puzzle", "geometry", "flowchart", "plot"),
    "max_reasoning": ("prove", "proof", "theorem", "contradiction", "induction", "derive", "integer"),
    "max_reasoning_moe": ("putnam", "imo", "olympiad", "research-level", "formal proof", "lemma"),
    "efficient_reasoning": (
        "how many",
        "how much",
        "calculate",
        "percent",
        "average",
        "step by step",
        "solve",
    ),
    "max_rag": ("documents", "sources", "citations", "cite", "compare the", "knowledge base", "papers"),
    "fast_rag": ("context:", "passage", "according to", "based on the", "document", "article"),
    "long_context": ("entire", "whole book", "full text", "transcript", "codebase", "chapter"),
    "agentic_tool_use": (
        "tool",
        "api",
        "function call",
        "book a",
        "schedule",
        "search the web",
        "send an email",
    ),
    "structured_data": (
        "json",
        "sql",
        "csv",
        "schema",
        "extract",
        "table",
        "regex",
        "function",
        "yaml",
        "xml",
    ),
    "max_quality_general": (
        "architecture",
        "design",
        "refactor",
        "implement",
        "expert",
        "production",
        "review",
    ),
    "default_general": ("write", "explain", "story", "essay", "draft", "email", "blog", "ideas", "role"),
    "efficient_general": ("what is", "who", "when", "where", "summarize", "rewrite", "translate", "define"),
    "instruction_following": ("exactly", "words", "sentences", "bullet", "must", "do not use", "format"),
    "simple_chat": ("hi", "hello", "hey", "thanks", "how are you", "good morning", "bye", "joke"),
    "korean_multilingual": ("korean", "한국어", "번역"),
    "embeddings": ("embed", "vector", "similarity"),
}
"""Lower-case substrings by category of the shipped fleet; a category of yours has none."""


def hits(text: str) -> dict[str, float]:
    """How many of each category's keywords occur in a text; categories without a hit are left out."""
    lower = text.lower()
    found = {name: sum(word in lower for word in words) for name, words in KEYWORDS.items()}
    return {name: float(count) for name, count in found.items() if count}
