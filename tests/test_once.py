"""A property that is worked out once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from llm_router.once import once


@dataclass(frozen=True)
class Text:
    words: str

    @once
    def letters(self) -> list[str]:
        """Its letters."""
        if not self.words:
            raise ValueError
        return sorted(self.words)


def test_each_object_has_its_own_and_works_it_out_once() -> None:
    first, second = Text("ba"), Text("dc")
    assert first.letters == ["a", "b"]
    assert first.letters is first.letters
    assert second.letters == ["c", "d"]
    assert first == Text("ba")


def test_what_fails_is_tried_again() -> None:
    nothing = Text("")
    for _ in range(2):
        with pytest.raises(ValueError):
            _ = nothing.letters


def test_the_class_tells_what_it_is() -> None:
    assert Text.letters.__doc__ == "Its letters."
