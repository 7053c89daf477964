"""What is drawn has the stated shares and lengths, and the seed decides it all; what is read is checked."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from llm_router.errors import InvalidRequest, UnknownCategory
from llm_router.fleet import load_fleet
from llm_router.fleet.fleet import Fleet
from llm_router.simulate import traces
from llm_router.simulate.mix import MIXED_DAY, OUTPUT_SPREAD, PAUSE_S, Kind
from llm_router.simulate.traces import Task, at_rate, from_records, parsed, rate_of, synthetic, written


@pytest.fixture(scope="module")
def shipped() -> Fleet:
    return load_fleet()


@pytest.fixture(scope="module")
def many(shipped: Fleet) -> tuple[Task, ...]:
    return synthetic(shipped, MIXED_DAY, rate_per_s=0.5, seed=7, requests=30_000)


def test_the_mix_covers_the_shipped_fleet_and_its_shares_are_a_whole(shipped: Fleet) -> None:
    assert set(MIXED_DAY) == set(shipped.categories)
    assert sum(kind.share for kind in MIXED_DAY.values()) == pytest.approx(1.0)


def test_the_page_shows_the_mix_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "simulation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) % \|(.+)\|$", page, re.MULTILINE)
    told = {}
    for name, share, rest in rows:
        median, spread, most, turns, more = (cell.strip().replace(",", "") for cell in rest.split("|"))
        told[name] = Kind(
            round(float(share) / 100, 6), int(median), float(spread), int(most), float(turns), int(more or 60)
        )
    assert told == dict(MIXED_DAY)
    assert f"σ {OUTPUT_SPREAD:g}" in page
    assert f"{PAUSE_S:g} s on average" in page


def test_shares_are_those_of_the_mix(many: tuple[Task, ...]) -> None:
    counted = Counter(task.category for task in many)
    for name, kind in MIXED_DAY.items():
        assert counted[name] / len(many) == pytest.approx(kind.share, rel=0.25), name


def test_lengths_are_those_of_the_mix(many: tuple[Task, ...], shipped: Fleet) -> None:
    for name, kind in MIXED_DAY.items():
        own = [task for task in many if task.category == name]
        first = [task.prompt_tokens for task in own if task.turn == 0]
        assert statistics.median(first) == pytest.approx(kind.prompt_tokens, rel=0.2), name
        mean = shipped.categories[name].output_tokens
        assert statistics.fmean(task.output_tokens for task in own) == pytest.approx(mean, rel=0.15), name
        assert max(task.prompt_tokens for task in own) <= kind.most_tokens


def test_conversations_stay_in_a_category_and_grow(many: tuple[Task, ...]) -> None:
    talks: dict[str, list[Task]] = {}
    for task in many:
        talks.setdefault(task.conversation, []).append(task)
    longer = [talk for talk in talks.values() if len(talk) > 1]
    assert len(longer) > 1000
    for talk in longer:
        assert len({task.category for task in talk}) == 1
        assert [task.turn for task in talk] == list(range(talk[0].turn, talk[0].turn + len(talk)))
        for before, after in pairwise(talk):
            assert after.at_s > before.at_s
            assert after.prompt_tokens > before.prompt_tokens + before.output_tokens
    turns = Counter(talk[0].category for talk in longer)
    assert turns["simple_chat"] and not turns["max_reasoning"]


@pytest.mark.parametrize(("arrivals", "off"), [("poisson", 0.05), ("bursty", 0.25)])
def test_tasks_come_at_the_rate_in_order(shipped: Fleet, arrivals: traces.Arrivals, off: float) -> None:
    tasks = synthetic(shipped, MIXED_DAY, rate_per_s=0.2, seed=3, requests=40_000, arrivals=arrivals)
    assert len(tasks) == 40_000
    assert [task.at_s for task in tasks] == sorted(task.at_s for task in tasks)
    assert rate_of(tasks) == pytest.approx(0.2, rel=off)


def test_bursts_are_bursts(shipped: Fleet) -> None:
    def spread(arrivals: traces.Arrivals) -> float:
        tasks = synthetic(shipped, MIXED_DAY, rate_per_s=0.2, seed=3, hours=100, arrivals=arrivals)
        per_window = Counter(int(task.at_s // 300) for task in tasks)
        counts = [per_window[window] for window in range(1200)]
        return statistics.variance(counts) / statistics.fmean(counts)

    assert spread("bursty") > 3 * spread("poisson")


def test_hours_end_the_day(shipped: Fleet) -> None:
    tasks = synthetic(shipped, MIXED_DAY, rate_per_s=0.05, seed=1, hours=10)
    assert tasks[-1].at_s < 36_000
    assert len(tasks) == pytest.approx(1800, rel=0.15)


def test_the_seed_decides_everything(shipped: Fleet) -> None:
    def drawn(seed: int) -> tuple[Task, ...]:
        return synthetic(shipped, MIXED_DAY, rate_per_s=0.05, seed=seed, requests=200)

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_other_rates_bring_the_same_first_turns_closer_together(shipped: Fleet) -> None:
    def begun(rate_per_s: float) -> list[tuple[float, str, int]]:
        tasks = synthetic(shipped, MIXED_DAY, rate_per_s=rate_per_s, seed=1, requests=300)
        begin = [task for task in tasks if task.turn == 0][:100]
        return [(round(task.at_s * rate_per_s, 6), task.category, task.prompt_tokens) for task in begin]

    assert begun(0.01) == begun(0.02)


def test_a_fleet_without_any_of_the_mix_is_told_so(round_fleet: Fleet) -> None:
    with pytest.raises(InvalidRequest, match="none of the categories"):
        synthetic(round_fleet, MIXED_DAY, rate_per_s=1, seed=1, requests=1)


def test_hard_tasks_are_thought_about_longer() -> None:
    easy, hard = (
        Task(at_s=0, category="x", prompt_tokens=1, output_tokens=1, difficulty=d) for d in (0.0, 1.0)
    )
    assert (easy.thinking_tokens(1000), hard.thinking_tokens(1000)) == (500, 1500)


# ── files and records ────────────────────────────────────────────────────────────────────────────────────


def test_a_trace_comes_back_as_it_was_written(shipped: Fleet) -> None:
    tasks = synthetic(shipped, MIXED_DAY, rate_per_s=0.05, seed=1, requests=100)
    assert parsed(written(tasks), shipped) == tasks


def test_lines_may_leave_out_what_has_a_default_and_come_in_any_order(shipped: Fleet) -> None:
    lines = (
        b'{"at_s": 9, "category": "simple_chat", "prompt_tokens": 40, "output_tokens": 80}\n\n'
        b'{"at_s": 1.5, "category": "embeddings", "prompt_tokens": 30, "output_tokens": 0}\n'
    )
    assert [task.category for task in parsed(lines, shipped)] == ["embeddings", "simple_chat"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"nonsense", "line 2"),
        (b'{"at_s": 0, "category": "simple_chat", "prompt_tokens": 1}', "output_tokens"),
        (
            b'{"at_s": 0, "category": "simple_chat", "prompt_tokens": 0, "output_tokens": 1}',
            "1 token",
        ),
        (b'{"at_s": -1, "category": "simple_chat", "prompt_tokens": 1, "output_tokens": 1}', "0 or more"),
        (b'{"at_s": 0, "category": "simple_chat", "prompt_tokens": 1, "output_tokens": 1, "x": 1}', "x"),
        (b"\xff\xfe", "line 2"),
    ],
)
def test_a_line_that_is_no_task_is_named(shipped: Fleet, line: bytes, told: str) -> None:
    good = b'{"at_s": 0, "category": "simple_chat", "prompt_tokens": 1, "output_tokens": 1}\n'
    with pytest.raises(InvalidRequest, match=told):
        parsed(good + line, shipped)


def test_an_unknown_category_is_told_with_the_nearest(shipped: Fleet) -> None:
    with pytest.raises(UnknownCategory, match="simple_chat"):
        parsed(b'{"at_s": 0, "category": "simple_chats", "prompt_tokens": 1, "output_tokens": 1}', shipped)


def test_an_empty_trace_is_refused(shipped: Fleet) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        parsed(b"\n\n", shipped)


def test_records_become_tasks_without_what_the_model_thought(shipped: Fleet) -> None:
    def row(at_ns: int, **more: object) -> dict[str, object]:
        base: dict[str, object] = {
            "at_ns": at_ns,
            "category": "structured_data",
            "status": 200,
            "prompt_tokens": 500,
            "output_tokens": 350,
            "model": "qwen2.5:14b",
        }
        return base | more

    start = 1_800_000_000_000_000_000
    rows = [
        row(start + 3_000_000_000, model="gpt-oss:20b", output_tokens=900),
        row(start),
        row(start + 1, status=502),
        row(start + 2, prompt_tokens=None),
        row(start + 3, category="of another fleet"),
        row(start + 4_500_000_000, category="embeddings", output_tokens=None, model="nomic-embed-text"),
    ]
    tasks = from_records(rows, shipped)  # type: ignore[arg-type]
    thinking = shipped.models["gpt-oss:20b"].thinking_tokens
    assert [(t.at_s, t.category, t.prompt_tokens, t.output_tokens) for t in tasks] == [
        (0.0, "structured_data", 500, 350),
        (3.0, "structured_data", 500, 900 - thinking),
        (4.5, "embeddings", 500, 0),
    ]


def test_a_trace_at_another_rate_keeps_its_rhythm() -> None:
    random = Random(1)
    tasks = tuple(
        Task(at_s=at_s, category="x", prompt_tokens=1, output_tokens=1)
        for at_s in sorted(random.uniform(0, 1000) for _ in range(50))
    )
    faster = at_rate(tasks, 0.5)
    assert rate_of(faster) == pytest.approx(0.5)
    factor = faster[0].at_s / tasks[0].at_s
    assert [task.at_s * factor for task in tasks] == pytest.approx([task.at_s for task in faster])
