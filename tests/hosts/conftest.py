"""The host that most tests here have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.days import box

from llm_router.testing.fake_ollama import FakeOllama


@pytest.fixture
def here() -> Iterator[FakeOllama]:
    """With 100 GiB and all of `HERE`; it runs in a thread of its own."""
    with box().in_thread() as server:
        yield server
