"""The settings of docs/guides/clients.md, as the tests of the clients take them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "clients.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:11435"
"""Where the page has the gateway."""


def blocks(language: str, heading: str | None = None) -> list[tuple[str, str]]:
    """(heading, code) of every block of a language, under one heading or all of them."""
    found = []
    for section in PAGE.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        if heading in {None, title}:
            found += [(title, code) for code in re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)]
    return found
