"""Keeps a model's own reasoning apart from its answer where the server left both in one text."""

from __future__ import annotations

from llm_router.fleet.schema import ReasoningMarkers

THINK_TAGS = ReasoningMarkers(thinking_start="<think>", answer_start="</think>")


class ReasoningSplitter:
    """Fed with the pieces of a stream, tells which part is thinking and which is the answer.

    A marker may be cut anywhere between two pieces, so text that could still become one is held back until
    the next piece, or until ``finish``. Where the text does not begin with ``thinking_start`` it is all
    answer, unless the markers name none: then everything before ``answer_start`` is thinking.
    """

    def __init__(self, markers: ReasoningMarkers = THINK_TAGS) -> None:
        self._markers = markers
        self._held = ""
        self._state = "start" if markers.thinking_start else "thinking"

    def feed(self, text: str) -> tuple[str, str]:
        """(thinking, answer) that are certain by now."""
        self._held += text
        thinking = ""
        if self._state == "start":
            self._begin()
        if self._state == "thinking":
            thinking = self._until(self._markers.answer_start, "answer_lead")
        if self._state == "answer_lead":
            self._held = self._held.lstrip()
            if self._held:
                self._state = "answer"
        return thinking, self._answer() if self._state == "answer" else ""

    def finish(self) -> tuple[str, str]:
        """What was still held back when the stream ended."""
        held, self._held = self._held, ""
        if self._state == "after":
            return "", ""
        return (held, "") if self._state == "thinking" else ("", held)

    def _begin(self) -> None:
        start, seen = self._markers.thinking_start, self._held.lstrip()
        if seen.startswith(start):
            self._held = seen[len(start) :]
            self._state = "thinking"
        elif seen and not start.startswith(seen):
            self._state = "answer"

    def _answer(self) -> str:
        if not self._markers.answer_end:
            out, self._held = self._held, ""
            return out
        return self._until(self._markers.answer_end, "after")

    def _until(self, marker: str, then: str) -> str:
        before, found, after = self._held.partition(marker)
        if found:
            self._held, self._state = after, then
            return before
        keep = _overlap(self._held, marker)
        out, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return out


def _overlap(text: str, marker: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``marker``."""
    for size in range(min(len(text), len(marker) - 1), 0, -1):
        if marker.startswith(text[-size:]):
            return size
    return 0
