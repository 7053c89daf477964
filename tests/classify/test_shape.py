"""What a text looks like: marks at the heads of lines, however many lines there are."""

from __future__ import annotations

import pytest

from llm_router.classify.shape import NAMES, shape

MANY = 150_000
"""Lines. Work that grows with their square would take the better part of an hour and fail by never ending."""


def seen(text: str, *, in_python: bool = False) -> set[str]:
    values = shape(text, in_python=in_python)
    return {name for name, value in zip(NAMES, values, strict=True) if value}


@pytest.mark.parametrize("in_python", [False, True])
@pytest.mark.parametrize("blank", ["\n", "\n ", " \n\t", "\r\n", "\n#", "\n> ", "\n-", "\n*\n", "\x1c\n"])
@pytest.mark.parametrize("first", ["a", "é"])
def test_many_empty_lines_are_read_once(blank: str, first: str, in_python: bool) -> None:
    found = seen(first + blank * MANY + "b", in_python=in_python)
    assert "at least 60 lines" in found
    assert not any("passages" in name for name in found)


@pytest.mark.parametrize("in_python", [False, True])
@pytest.mark.parametrize("first", ["a", "é"])
@pytest.mark.parametrize("between", ["\n", "\n\n \n", "\n\t\x0b", "\n\u2003", "\r\n"])
def test_line_heads_are_found_after_empty_lines(between: str, first: str, in_python: bool) -> None:
    assert "bullet points" in seen(f"{first}{between}- item", in_python=in_python)
    assert "multiple-choice options" in seen(f"{first}{between}(b) item", in_python=in_python)
    assert "multiple-choice options" not in seen(f"{first} b) {between}item", in_python=in_python)
    for head in ("[1]", "Document 2", "> ## passage B", "- * source\n(3"):
        found = seen(f"{first}{between}{head} and so on", in_python=in_python)
        assert "at least 1 numbered passages" in found, head
        assert "at least 2 numbered passages" not in found


def test_numbered_passages_are_counted() -> None:
    text = "\n> \n".join(f"## Document [{n}]: words" for n in range(8))
    assert "at least 8 numbered passages" in seen(text)
    assert "at least 8 numbered passages" not in seen(text.replace("[7]", "seven"))
    assert not any("passages" in name for name in seen("see document 1\nin document 2"))
