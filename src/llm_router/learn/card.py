"""The model card that is written beside the weights."""

from __future__ import annotations

from dataclasses import dataclass

from llm_router.learn.corpus import SEED


@dataclass(frozen=True, slots=True)
class CardFacts:
    """The figures of one training run; nothing in the card is typed by hand that a run can measure."""

    version: str
    size_bytes: int
    written: int
    copies: int
    per_category: dict[str, int]
    temperature: float
    accuracy: float
    acceptable: float
    log_loss: float
    recall: dict[str, float]
    heldout: dict[str, tuple[int, int]]


def card(facts: CardFacts) -> str:
    """The card as Markdown."""
    rows = []
    for name, count in facts.per_category.items():
        right, held = facts.heldout.get(name, (0, 0))
        rows.append(f"| {name} | {count} | {facts.recall.get(name, 0.0):.2f} | {right} of {held} |")
    table = "\n".join(rows)
    right = sum(pair[0] for pair in facts.heldout.values())
    held = sum(pair[1] for pair in facts.heldout.values())
    return f"""# Model card: embedded classifier {facts.version}

Says which of {len(facts.per_category)} kinds of work a text asks for, with calibrated probabilities.

- **Form**: hashed word, word-pair and letter n-grams (Hangul and CJK by characters) plus structural features,
  multinomial logistic regression, 8-bit weights, {facts.size_bytes / 1e6:.2f} MB. Numpy only at run time.
- **Licence**: Apache-2.0, like the rest of the project.
- **Data**: {facts.written} texts made of what was written for this project (`training/`, filled frames
  included), and {facts.copies} distorted copies of them (lower case, typing errors,
  "Please"). See `training/README.md`.
- **Made by**: `python -m llm_router.learn.train`, seed {SEED}; the same text gives the same bytes.
- **Calibration**: temperature {facts.temperature}, fitted in cross-validation on texts that the fit had
  not seen; it counts an answer by a neighbouring tier as acceptable. On other people's
  texts the confidence may be off.

| figure | value |
|---|---|
| cross-validation accuracy (5 folds, a text and its copy kept together) | {facts.accuracy:.3f} |
| the same, where a neighbouring tier that serves as well counts as right | {facts.acceptable:.3f} |
| cross-validation log loss | {facts.log_loss:.3f} |
| held-back texts answered right | {right} of {held} |

| category | training texts | recall in cross-validation | held back |
|---|---|---|---|
{table}

The held-back texts have the same author as the training text, and lines were added after looking at which of
them failed: read that figure as a regression test, not as an estimate for other people's requests.

## What it is bad at
- It has read a few thousand short texts and knows no facts: a request in words that it has never seen is
  decided by its form. Its probabilities are then spread out, which is the sign to ask a larger model.
- Borders that depend on difficulty (a word problem, a competition problem, a research problem) and on quality
  (a knowledge question, an explanation, an expert question) are soft, and so are its answers there.
- It cannot see attachments. "What is this?" is only a vision request because an image came with it; that
  belongs to the rules stage, which hands over the categories that are possible.
- English first. Korean is recognised well; Spanish, French, German, Japanese and Chinese are thin.
- Texts above 4,000 characters are read at their head, middle and tail only.
"""
