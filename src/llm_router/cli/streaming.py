"""The events of ``Router.stream`` as a person sees them: block, waiting line, answer, figures."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from llm_router.answer import Decided, Delta, Finished, StreamEvent, Switched
from llm_router.cli import output, wording
from llm_router.cli.progress import Elapsed
from llm_router.decision import Candidate

if TYPE_CHECKING:
    from rich.status import Status


class Talk:
    """Shows one stream after another. Only the answer's text goes to stdout, and not even that with ``text``
    False; ``quiet`` keeps everything else to itself, ``block`` False the decision alone.

    As a context manager it leaves the terminal as it found it, whatever happens.
    """

    def __init__(
        self, *, quiet: bool = False, block: bool = True, text: bool = True, show_thinking: bool = False
    ) -> None:
        self._quiet = quiet
        self._block = block and not quiet
        self._text = text
        self._show_thinking = show_thinking
        self._console = output.console(err=True)
        self._both_seen = sys.stdout.isatty() and self._console.is_terminal
        self._status: Status | None = None
        self._chain: tuple[Candidate, ...] = ()
        self._line_open = False
        self._thinking_open = False

    def __enter__(self) -> Self:
        if self._block:
            self._wait("deciding")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._still()
        self._end_thinking()
        self._end_line()

    def show(self, event: StreamEvent) -> None:
        if isinstance(event, Delta):
            self._piece(event)
        elif isinstance(event, Decided):
            self._decided(event)
        elif isinstance(event, Switched):
            self._switched(event)
        else:
            self._finished(event)

    def progress(self, sentence: str) -> None:
        """Told from another thread what takes long, such as a download."""
        if self._status is not None:
            self._status.update(sentence)
        else:
            output.say(sentence, dim=True)

    def _decided(self, event: Decided) -> None:
        self._still()
        answer = event.decision.answer
        if self._block:
            from llm_router.cli.render import decision_block, rule

            decision_block(event.decision, self._console)
            if self._both_seen and self._text and answer is not None:
                rule(self._console)
        elif self._quiet and answer is not None and answer.stand_in:
            output.say(wording.instead(event.decision) or "")  # whose answer it is, is never kept quiet
        self._chain = event.decision.chain
        if answer is not None:
            self._wait(*wording.waiting(answer))

    def _wait(self, text: str, more: str = "") -> None:
        if self._console.is_terminal and not self._quiet:
            self._still()
            self._status = self._console.status(Elapsed(text, more))
            self._status.start()
            output.on_talk(self._still)

    def _switched(self, event: Switched) -> None:
        self._still()
        output.warning(wording.switched(event.failed, event.next_model))
        following = (event.next_model, event.next_host)
        candidate = next((c for c in self._chain if (c.model, c.host) == following), None)
        self._wait(*wording.waiting(candidate) if candidate else (f"waiting for {event.next_model}",))

    def _piece(self, piece: Delta) -> None:
        if piece.thinking and self._show_thinking:
            self._still()
            self._thinking_open = True
            text = output.printable(piece.thinking)
            click.echo(click.style(text, dim=True), nl=False, err=True)
        elif piece.thinking and self._status is not None:
            self._status.update("thinking")
        if not piece.text or not self._text:
            return
        self._still()
        self._end_thinking()
        # A terminal obeys control characters, a file keeps every byte of the answer.
        text = output.printable(piece.text) if sys.stdout.isatty() else piece.text
        click.echo(text, nl=False, color=True)
        self._line_open = not piece.text.endswith("\n")

    def _finished(self, event: Finished) -> None:
        self._still()
        self._end_thinking()
        self._end_line()
        for warning in event.answer.warnings:
            output.warning(warning)
        if not self._quiet:
            from llm_router.cli.render import paragraph

            paragraph(wording.footer(event.answer), self._console, style="dim")

    def _still(self) -> None:
        if self._status is not None:
            output.on_talk(None)
            self._status.stop()
            self._status = None

    def _end_thinking(self) -> None:
        if self._thinking_open:
            self._thinking_open = False
            click.echo("\n", err=True)

    def _end_line(self) -> None:
        if self._line_open:
            self._line_open = False
            click.echo()
