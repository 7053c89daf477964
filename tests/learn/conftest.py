"""Cases of our own, and how a file of them is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from llm_router.fleet import Fleet, load_fleet

WriteCases = Callable[..., str]


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return load_fleet()


@pytest.fixture
def write_cases(tmp_path: Path) -> WriteCases:
    """Writes lines (objects, or text as it is) into a file and returns its path."""

    def write(*lines: Mapping[str, Any] | str, name: str = "cases.jsonl") -> str:
        path = tmp_path / name
        written = (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
        path.write_text("\n".join(written) + "\n", encoding="utf-8")
        return str(path)

    return write
