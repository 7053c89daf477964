"""How a decision reads: to the letter at a width of 100 columns, and that it survives every other width."""

from __future__ import annotations

import io
import re
from textwrap import dedent
from typing import Any, Literal

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console

from llm_router.cli import wording
from llm_router.cli.render import decision_block
from llm_router.decision import (
    Candidate,
    Classification,
    Decision,
    Estimate,
    Evidence,
    Ranking,
    Rejection,
    Savings,
)

UNREACHABLE = "no answer from spark-1 at http://spark-1:11434: connection refused"


def candidate(model: str, *, load_s: float = 0.0, host: str = "spark-1", stand_in: bool = False) -> Candidate:
    return Candidate(
        model=model,
        host=host,
        served_as=model,
        quality=0.8,
        quality_source="prior",
        resident=not load_s,
        estimate=Estimate(load_s=load_s, prefill_s=1, decode_s=20, memory_gb=12, output_tokens=400),
        score=0.7,
        num_ctx=8192,
        stand_in=stand_in,
    )


def ranked(decision: Decision, **changes: Any) -> Decision:
    """The same decision with another ranking."""
    return replace(decision, ranking=replace(decision.ranking, **changes))


HEALTHY = Decision(
    classification=Classification(
        "structured_data",
        0.94,
        "encoder",
        {"structured_data": 0.94, "simple_chat": 0.06},
        evidence=(Evidence("words", "spoken for by “sql”, “average”"),),
        elapsed_ms=0.3,
    ),
    selected_model="qwen2.5:14b",
    ranking=Ranking(
        chain=(
            candidate("qwen2.5:14b"),
            candidate("gpt-oss:20b"),
            candidate("qwen2.5:72b", load_s=19.4),
        ),
        rejected=(
            Rejection("phi4", "not_installed", "not installed on spark-1", "spark-1"),
            Rejection("mistral:7b", "not_installed", "not installed on spark-1", "spark-1"),
            Rejection(
                "deepseek-v3", "memory", "needs 405 GB with its context, spark-1 can use 112 GB", "spark-1"
            ),
        ),
        planned=("qwen2.5:14b", "gpt-oss:20b", "qwen2.5:72b"),
        savings=Savings("qwen2.5:72b", 38.2, 84.4),
    ),
    reasons=(
        "structured_data, decided by the encoder: spoken for by “sql”, “average”",
        "qwen2.5:14b is the fleet's choice for structured_data",
        "3 of 6 candidates may take it",
        "resident on spark-1, no load",
    ),
    model_params="14B",
    model_size_gb=9.0,
    request_tokens=20,
)

STAND_IN = replace(
    ranked(
        HEALTHY,
        chain=(candidate("smollm2:135m", host="embedded", stand_in=True),),
        rejected=tuple(
            Rejection(model, "host_unreachable", UNREACHABLE, "spark-1") for model in HEALTHY.planned
        ),
    ),
    reasons=(
        *HEALTHY.reasons[:2],
        f"qwen2.5:14b is not reachable ({UNREACHABLE}), so the embedded smollm2:135m stands in",
    ),
)


def block(decision: Decision, *, width: int = 100, colour: bool = False) -> str:
    file = io.StringIO()
    system: Literal["standard"] | None = "standard" if colour else None
    console = Console(file=file, width=width, force_terminal=colour, color_system=system, highlight=False)
    decision_block(decision, console)
    return file.getvalue()


def test_a_decision_of_a_healthy_fleet() -> None:
    assert block(HEALTHY) == dedent("""\
        structured_data → qwen2.5:14b               confidence 0.94   decided by encoder in 0.3 ms
          why       spoken for by “sql”, “average”; qwen2.5:14b is the fleet's choice for structured_data; 3
                    of 6 candidates may take it; resident on spark-1, no load
          next      gpt-oss:20b (resident) → qwen2.5:72b (load ≈ 19 s)
          rejected  not installed on spark-1: phi4, mistral:7b
                    deepseek-v3: needs 405 GB with its context, spark-1 can use 112 GB
          saves     38 GB memory and ≈ 84 s against always using qwen2.5:72b
        """)


def test_a_decision_where_only_the_embedded_model_is_there() -> None:
    assert block(STAND_IN) == dedent("""\
        structured_data → qwen2.5:14b               confidence 0.94   decided by encoder in 0.3 ms
          here      qwen2.5:14b is not reachable here → answered by embedded smollm2:135m
          why       spoken for by “sql”, “average”; qwen2.5:14b is the fleet's choice for structured_data
          next      once reachable: qwen2.5:14b → gpt-oss:20b → qwen2.5:72b
          rejected  not reachable: qwen2.5:14b, gpt-oss:20b, qwen2.5:72b (no answer from spark-1 at
                    http://spark-1:11434: connection refused)
          saves     38 GB memory and ≈ 84 s against always using qwen2.5:72b (with qwen2.5:14b)
        """)


def test_colour_adds_escape_codes_and_nothing_else() -> None:
    coloured = block(STAND_IN, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == block(STAND_IN)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    korean = Evidence("words", "“김치찌개 끓이는 법 좀 알려 줘” " * 6 + "김치찌개끓이는법" * 20)
    classification = replace(HEALTHY.classification, evidence=(korean,))
    for decision in (HEALTHY, STAND_IN, replace(HEALTHY, classification=classification)):
        lines = block(decision, width=width).splitlines()
        assert max(cell_len(line) for line in lines) <= width
        assert not [line for line in lines if line != line.rstrip()]


def test_what_a_task_says_cannot_steer_the_terminal() -> None:
    evil = Evidence("words", "“\x1b[2Jclear\x07\x9b31m” [bold]red[/bold] :smile:")
    text = block(replace(HEALTHY, classification=replace(HEALTHY.classification, evidence=(evil,))))
    assert "\x1b" not in text and "\x07" not in text and "\x9b" not in text
    assert "[bold]red[/bold] :smile:" in text


@pytest.mark.parametrize("feed", ["\n", "\r\n", "\n\n\t", "\u2028"])
def test_a_line_feed_in_the_evidence_does_not_break_the_block(feed: str) -> None:
    broken = Evidence("words", f"spoken for by “sql{feed}average”, “x”{feed}")
    whole = Evidence("words", "spoken for by “sql average”, “x”")
    told, expected = (
        block(
            replace(HEALTHY, classification=replace(HEALTHY.classification, evidence=(evidence,))), width=400
        )
        for evidence in (broken, whole)
    )
    assert told.splitlines()[1].replace(" ;", ";") == expected.splitlines()[1]
    assert len(told.splitlines()) == len(expected.splitlines())


def test_the_reason_of_a_stand_in_is_the_true_one() -> None:
    def reason(code: str, why: str) -> str | None:
        rejection = Rejection("qwen2.5:14b", code, why)  # type: ignore[arg-type]
        return wording.instead(ranked(STAND_IN, rejected=(rejection,)))

    ending = "→ answered by embedded smollm2:135m"
    assert reason("not_installed", "x") == f"qwen2.5:14b is not installed here {ending}"
    assert reason("deprecated", "x") == f"qwen2.5:14b is marked deprecated {ending}"
    assert reason("unhealthy", "x") == f"qwen2.5:14b is resting after failures {ending}"
    assert reason("memory", "needs 9 GB, a can use 4 GB") == (
        f"qwen2.5:14b needs 9 GB, a can use 4 GB {ending}"
    )


def test_another_model_of_the_fleet_is_named_with_the_reason() -> None:
    gone = Rejection("qwen2.5:14b", "not_installed", "not installed on spark-1")
    decision = ranked(HEALTHY, chain=HEALTHY.chain[1:], rejected=(gone,))
    assert wording.instead(decision) == "qwen2.5:14b is not installed here → answered by gpt-oss:20b"
    assert block(decision).startswith("structured_data → gpt-oss:20b ")


def test_nothing_that_can_answer_is_said_plainly() -> None:
    decision = ranked(STAND_IN, chain=())
    assert wording.instead(decision) == "qwen2.5:14b is not reachable here → nothing here can answer"


@pytest.mark.parametrize(
    ("memory_gb", "seconds", "told"),
    [
        (38.2, 84.4, ("saves", "38 GB memory and ≈ 84 s against always using big")),
        (-12.1, 3.0, ("saves", "≈ 3 s, costs 12 GB memory more, against always using big")),
        (4.0, -660.0, ("saves", "4 GB memory, costs ≈ 11 min more, against always using big")),
        (-12.1, -84.4, ("costs", "12 GB memory and ≈ 84 s more than always using big")),
        (0.2, -0.1, ("saves", "nothing against always using big")),
    ],
)
def test_savings_are_told_with_either_sign(memory_gb: float, seconds: float, told: tuple[str, str]) -> None:
    assert wording.savings(ranked(HEALTHY, savings=Savings("big", memory_gb, seconds))) == told


def test_the_only_candidate_says_that_nobody_follows() -> None:
    assert wording.following(ranked(HEALTHY, chain=HEALTHY.chain[:1])) == "no other model may take it"


def test_hosts_are_named_in_the_chain_where_there_are_several() -> None:
    decision = ranked(HEALTHY, chain=(HEALTHY.chain[0], candidate("phi4", host="spark-2", load_s=7)))
    assert wording.following(decision) == "phi4 (on spark-2, load ≈ 7 s)"


def test_a_long_group_is_cut_short_only_where_its_names_stand_above() -> None:
    gone = tuple(Rejection(m, "host_unreachable", UNREACHABLE) for m in ("a", "b", "c", "d"))
    full = ranked(STAND_IN, rejected=gone, planned=("a", "b", "c", "d"))
    assert "not reachable: a, b and 2 more (" in block(full)
    assert "not reachable: a, b, c, d (" in block(ranked(full, planned=("a", "b", "c")))
    assert "not reachable: a, b, c, d (" in block(ranked(full, chain=HEALTHY.chain))
