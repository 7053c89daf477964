"""The locks of the clients: exact, without a registry, and of the versions that the page names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.clients.pages import PAGE

ROOT = Path(__file__).parents[2]
NODE = json.loads((ROOT / "tests" / "clients" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
PINNED = [path for path in NODE if path]


def keys_with_addresses(value: Any, key: str = "") -> set[str]:
    """The names of the fields that hold an address."""
    if isinstance(value, dict):
        return {found for name, inner in value.items() for found in keys_with_addresses(inner, name)}
    if isinstance(value, list):
        return {found for inner in value for found in keys_with_addresses(inner, key)}
    return {key} if isinstance(value, str) and "://" in value else set()


def test_the_lock_for_node_names_no_registry() -> None:
    assert all(NODE[path]["integrity"].startswith("sha512-") for path in PINNED)
    # Where a package's authors ask for support, no more.
    assert {name for path in PINNED for name in keys_with_addresses(NODE[path])} <= {"url", "funding"}
    assert not any("resolved" in NODE[path] for path in PINNED)


@pytest.mark.parametrize("client", ["litellm", "aider"])
def test_a_lock_for_python_has_hashes_and_names_no_registry(client: str) -> None:
    text = (ROOT / "requirements" / f"client-{client}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    pins = re.split(r"^(?=[a-z0-9])", text, flags=re.M)
    assert len(pins) > 50
    assert all("==" in pin and "--hash=sha256:" in pin for pin in pins if pin)


def test_the_page_names_the_versions_of_the_locks() -> None:
    names = {"`openai`": "openai", "`ollama`": "ollama", "Continue": "@continuedev/cli"}
    locked = {name: NODE[f"node_modules/{package}"]["version"] for name, package in names.items()}
    for name, package in {"LiteLLM": "litellm", "aider": "aider-chat"}.items():
        text = (ROOT / "requirements" / f"client-{package.split('-')[0]}.txt").read_text(encoding="utf-8")
        (locked[name],) = re.findall(rf"^{package}==(\S+)", text, re.M)
    for name, version in locked.items():
        assert re.search(rf"^\|.*{re.escape(name)} {re.escape(version)}\b", PAGE, re.M), f"{name} {version}"
