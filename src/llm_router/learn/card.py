"""The model card that is written beside the weights."""

from __future__ import annotations

from dataclasses import dataclass

from llm_router.learn.corpus import SEED
from llm_router.learn.figures import CategoryFigures, Figures
from llm_router.learn.train import LENIENCY, Trained


@dataclass(frozen=True, slots=True)
class Unseen:
    """Figures on cases of others, each answered by weights that had not seen its source."""

    figures: Figures
    per_category: tuple[CategoryFigures, ...]


@dataclass(frozen=True, slots=True)
class CardFacts:
    """The figures of one training run; nothing in the card is typed by hand that a run can measure."""

    version: str
    size_bytes: int
    keys: int
    written: int
    copies: int
    cases: int
    sources: int
    text_digest: str
    cases_digest: str
    per_category: dict[str, int]
    temperature: float
    picture_temperature: float
    sureness: tuple[float, float]
    trained: Trained
    heldout: dict[str, tuple[int, int]]
    unseen: Unseen | None


def card(facts: CardFacts) -> str:
    """The card as Markdown."""
    right, held = (sum(pair[i] for pair in facts.heldout.values()) for i in (0, 1))
    slope, offset = facts.sureness
    seen_how = "other sources" if facts.unseen else "other texts"
    return f"""# Model card: embedded classifier {facts.version}

Says which of {len(facts.per_category)} kinds of work a text asks for, how sure that is, and whether the text
can only be understood together with the message before it.

- **Form**: words, word pairs and words at both ends of a text ({facts.keys:,} keys), hashed letter groups
  (Hangul by syllables) and structural features; slips of the finger are mended first. Three multinomial
  logistic regressions (requests in words, requests with a picture, follow-ups) with 8-bit weights,
  {facts.size_bytes / 1e6:.2f} MB. At run time it needs numpy at most.
- **Licence**: Apache-2.0, like the rest of the project.
- **Data**: {facts.written:,} texts written for this project (`training/`, filled frames included; digest
  `{facts.text_digest}`).{_cases(facts)}
  {facts.copies:,} distorted copies (lower case, typing errors, "Please", an aside) count half.
- **Made by**: `llm-router train`, seed {SEED}; the same data give the same decisions, and on one machine
  the same bytes.
- **Answer**: the category that serves best, given the probabilities: a neighbour that also does the work
  counts {LENIENCY:g} of what its model is worth for it (`SERVES` in `learn/train.py`).
- **Calibration**: temperature {facts.temperature:g} ({facts.picture_temperature:g} with pictures),
  confidence by Platt scaling (slope {slope:g}, offset {offset:g}), fitted on answers to {seen_how} than each
  fit had seen. Confidence means: how likely the answer serves the task.
{_unseen(facts)}
## On what it was trained for
The held-back texts ({right} of {held} right) have the same authors as the training text: read that figure as
a regression test, not as an estimate for other people's requests.

| category | training texts | held-back texts answered right |
|---|---|---|
{_rows(facts)}

## What it is bad at
- It knows no facts: a request in words that it has never seen is decided by its form. Its probabilities are
  then spread out, which is the sign to ask a larger model.
- Borders that depend on difficulty (a word problem, a competition problem, a research problem) and on quality
  (a knowledge question, an explanation, an expert question) are soft, and so are its answers there.
- It cannot see attachments. Of a picture it knows only that it is there.
- English first. Korean is recognised well; Spanish, French, German, Japanese, Chinese and others are thinner.
- Of texts above 4,000 characters head, middle and tail are read; above 900 the words between the ends count
  less.
"""


def _cases(facts: CardFacts) -> str:
    if not facts.cases:
        return ""
    return (
        f"\n  {facts.cases:,} labelled cases of {facts.sources} public sources (digest"
        f" `{facts.cases_digest}`) were\n  a second input; their sentences are not part of the project, and"
        " keys of a single text are not kept."
    )


def _unseen(facts: CardFacts) -> str:
    if facts.unseen is None:
        trained = facts.trained
        return f"""
## On texts it has not seen
Cross-validation on the training text (a text and its copy kept together): {trained.accuracy:.3f} of the
likeliest categories are the labelled one, {trained.acceptable:.3f} of the answers are acceptable, calibration
error {trained.calibration_error:.3f}.
"""
    found = facts.unseen.figures
    rows = "\n".join(
        f"| {row.category} | {row.n} | {row.accept:.2f} | {row.recall:.2f} |"
        for row in facts.unseen.per_category
    )
    return f"""
## On sources it has not seen
Every figure is from weights that never saw the case's source (leave-sources-out: whole repositories at a
time), calibration included; hard evidence (pictures, tools, size, script) decides first, as in the router.
Form and settings of the model were chosen by these same figures, and the themes of some training texts after
looking at which kinds of cases failed, so expect somewhat less elsewhere.

| figure | value |
|---|---|
| cases | {found.n} |
| acceptable, mean over the categories | {_figure(found.accept)} |
| acceptable, cases that only words can tell | {_figure(found.text_only)} |
| the best answer | {_figure(found.primary)} |
| variants (typing errors, case, "Please") answered alike | {_figure(found.same)} |
| expected calibration error | {_figure(found.ece)} |

| category | cases | acceptable | the best answer |
|---|---|---|---|
{rows}
"""


def _figure(value: float | None) -> str:
    return "no case" if value is None else f"{value:.3f}"


def _rows(facts: CardFacts) -> str:
    return "\n".join(
        "| {} | {} | {} of {} |".format(name, count, *facts.heldout.get(name, (0, 0)))
        for name, count in facts.per_category.items()
    )
