"""Stage 1, hard evidence: what the request carries decides, or says which categories are possible at all.

Nothing here reads for keywords; that traps every router that tries (``api`` is inside "capital", and word
boundaries do not exist in Korean).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from types import ModuleType
from typing import Final

from llm_router.classify.base import Verdict
from llm_router.classify.conversation import conversation_of, in_tool_loop
from llm_router.compiled import TEXT
from llm_router.decision import Evidence, StageName
from llm_router.fleet.fleet import Fleet
from llm_router.request import ApiKind, RouteRequest

SURE = 0.97
"""Confidence of a rule. Not 1: a request with tools attached may still only say thanks."""

SCRIPT_SHARE = 0.5
"""Share of one script among the letters of a task from which it tells the language."""

SYLLABLE_LETTERS = 2.5
"""What a character of a syllabic or logographic script counts in letters: Korean says in 4 what English says
in 10, and a short request around a pasted English text is a Korean request."""

_ENDS_LETTERS = 3
"""So many letters of one script at the beginning or the end tell the language: the request stands there."""

_END_CHARACTERS: Final = 200

_LEAST_SHARE = 0.03

_LETTERS = re.compile(r"[^\W\d_]")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_SAMPLE_CHARACTERS: Final = 4000
_SCRIPTS: Final[Mapping[str, re.Pattern[str]]] = {
    "ko": re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]"),
    "ja": re.compile("[\u3040-\u30ff\u31f0-\u31ff]"),
    "zh": re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"),
    "ru": re.compile("[\u0400-\u052f]"),
    "ar": re.compile("[\u0600-\u06ff\u0750-\u077f]"),
    "el": re.compile("[\u0370-\u03ff\u1f00-\u1fff]"),
    "he": re.compile("[\u0590-\u05ff]"),
    "hi": re.compile("[\u0900-\u097f]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
}
"""Where the letters of each script are; a text with kana is Japanese, however many Han characters it has."""
_SCRIPT_NAMES: Final[Mapping[str, str]] = {
    "ko": "Hangul",
    "ja": "kana and Han",
    "zh": "Han",
    "ru": "Cyrillic",
    "ar": "Arabic",
    "el": "Greek",
    "he": "Hebrew",
    "hi": "Devanagari",
    "th": "Thai",
}
_KANA_SHARE: Final = 0.1
_DOCUMENT_SHARE: Final = 0.5
_ANY_SCRIPT = re.compile(
    "[\u0370-\u052f\u0590-\u077f\u0900-\u097f\u0e00-\u0e7f\u1100-\u11ff\u1f00-\u1fff"
    "\u3040-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)
_LETTER: Final = 0x80
_COMPILED = TEXT.chosen()
_SYLLABIC: Final = frozenset({"ko", "ja", "zh"})


_NO_EVIDENCE = Verdict(note="no hard evidence")


class Rules:
    """Reads only evidence that cannot be mistaken; everything else is left to the next stage.

    Which categories an evidence belongs to is the fleet's data: ``requires.capability`` for images, tools
    and embedding calls, ``requires.language`` and ``requires.min_context_tokens`` for the other two.
    """

    name: StageName = "rules"

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._needing = fleet.categories_needing
        self._long = sorted(
            (
                (category.requires.min_context_tokens, name)
                for name, category in fleet.categories.items()
                if category.requires.min_context_tokens
            ),
            reverse=True,
        )
        self._languages = {
            category.requires.language: name
            for name, category in reversed(list(fleet.categories.items()))
            if category.requires.language
        }

        self.scripts_of_examples = frozenset(_scripts_of_examples(fleet))
        """Languages in whose script a category for any language has its examples: words must tell these."""

    def prepare(self) -> None:
        """Looks at a first text: the tables of prices and of scripts are made at first use."""
        request = RouteRequest.from_text("a first text, 첫 글")
        request.estimate()
        script_language(request.task)

    async def classify(
        self, request: RouteRequest, allowed: frozenset[str], before: Mapping[str, float]
    ) -> Verdict:
        return self.judge(request, allowed)

    def judge(self, request: RouteRequest, allowed: frozenset[str]) -> Verdict:
        """The same without waiting: this stage does no I/O."""
        verdict = (
            _embedding(self, request, allowed)
            or _tools(self, request, allowed)
            or _images(self, request, allowed)
        )
        if verdict is not None:
            return verdict
        if request.images:  # of an earlier turn
            return Verdict(note="words must tell whether an earlier picture is meant")
        return self.judge_words(request, allowed)

    def judge_words(self, request: RouteRequest, allowed: frozenset[str]) -> Verdict:
        """What holds for a task in words: its size, the form of the answer, its language."""
        return (
            _long_document(self, request, allowed)
            or _schema(self, request, allowed)
            or _language(self, request, allowed)
            or _NO_EVIDENCE
        )

    def needing(self, capability: str, allowed: frozenset[str]) -> tuple[str, ...]:
        return tuple(name for name in self._needing.get(capability, ()) if name in allowed)

    def longest(self, tokens: int, allowed: frozenset[str]) -> tuple[int, str] | None:
        """The category for the largest documents that a request of so many tokens reaches."""
        for least, name in self._long:
            if least <= tokens and name in allowed:
                return least, name
        return None

    def for_language(self, code: str, allowed: frozenset[str]) -> str | None:
        name = self._languages.get(code)
        return name if name in allowed else None


def script_language(text: str, *, in_python: bool = False) -> tuple[str, float]:
    """The language that the script of a text gives away, and the script's share of the letters, 0 to 1.

    A Korean, Japanese or Chinese character counts as the letters of a word that it stands for. Code fences do
    not count. ("", 0) where there are no letters or only those of scripts with many languages.
    ``in_python`` leaves aside what was compiled.
    """
    sampled = text[:_SAMPLE_CHARACTERS]
    if sampled.isascii():
        return "", 0.0
    prose = _CODE.sub(" ", sampled) if "```" in sampled else sampled
    letters, counts = _counted(prose, None if in_python else _COMPILED)
    if counts["ja"] >= _KANA_SHARE * (counts["ja"] + counts["zh"]) and counts["ja"]:
        counts["ja"] += counts["zh"]
        counts["zh"] = 0
    code = max(counts, key=counts.__getitem__)
    count = counts[code]
    if not count:
        return "", 0.0
    weighed = count * (SYLLABLE_LETTERS if code in _SYLLABIC else 1.0)
    return code, weighed / (weighed + letters - count)


def _counted(prose: str, compiled: ModuleType | None) -> tuple[int, dict[str, int]]:
    """How many letters there are, and how many of each script: its digits, its punctuation and its marks,
    which stand on letters, are none."""
    if compiled is None:
        of_any = "".join(_LETTERS.findall("".join(_ANY_SCRIPT.findall(prose))))
        counts = {code: len(script.findall(of_any)) for code, script in _SCRIPTS.items()}
        return len(_LETTERS.findall(prose)) if of_any else 0, counts
    letters, beyond_plane, found = compiled.scripts(prose, _kinds())
    if beyond_plane:
        letters += len(_LETTERS.findall("".join([one for one in prose if one > "\uffff"])))
    return letters, dict(zip(_SCRIPTS, found, strict=True))


@cache
def _kinds() -> bytes:
    """Of each letter of the basic plane: that it is one, and the number of its script. All others are 0."""
    scripts, kinds = bytearray(0x10000), bytearray(0x10000)
    for number, script in enumerate(_SCRIPTS.values(), start=1):
        spans = script.pattern[1:-1]
        for first, last in zip(map(ord, spans[::3]), map(ord, spans[2::3]), strict=True):
            scripts[first : last + 1] = bytes([number]) * (last + 1 - first)
    letters = bytes(kind | _LETTER for kind in range(256))
    plane = array("I", range(len(kinds))).tobytes().decode("utf-32", "surrogatepass")
    for run in re.finditer(f"{_LETTERS.pattern}+", plane):
        kinds[run.start() : run.end()] = scripts[run.start() : run.end()].translate(letters)
    return bytes(kinds)


def asks_in(code: str, text: str) -> bool:
    """Whether a text begins or ends in the script of a language, code fences aside."""
    prose = _CODE.sub(" ", text) if "```" in text else text
    script = _SCRIPTS[code]
    first = [letter[0] for letter in islice(_LETTERS.finditer(prose), _ENDS_LETTERS)]
    return any(
        len(end) == _ENDS_LETTERS and all(map(script.match, end)) for end in (first, _last_letters(prose))
    )


def _last_letters(prose: str) -> list[str]:
    """As many as tell a language; of a long text only its end is looked at where that has them."""
    letters = _LETTERS.findall(prose[-_END_CHARACTERS:])
    if len(letters) < _ENDS_LETTERS:
        letters = _LETTERS.findall(prose)
    return letters[-_ENDS_LETTERS:]


def _scripts_of_examples(fleet: Fleet) -> Iterator[str]:
    for category in fleet.categories.values():
        told = [script_language(text) for text in category.examples]
        for code in {code for code, share in told if share >= SCRIPT_SHARE}:
            most = sum(found == code and share >= SCRIPT_SHARE for found, share in told) * 2 >= len(told)
            if most and category.requires.language != code:
                yield code


def _certain(category: str, allowed: frozenset[str], evidence: Evidence) -> Verdict:
    others = allowed - {category}
    share = (1 - SURE) / len(others) if others else 0.0
    probabilities = dict.fromkeys(sorted(others), share) | {category: SURE if others else 1.0}
    return Verdict(probabilities=probabilities, evidence=(evidence,))


def _among(names: tuple[str, ...], allowed: frozenset[str], evidence: Evidence) -> Verdict | None:
    """One fitting category decides; several bind the next stage to them; none leaves the evidence unused."""
    if not names:
        return None
    if len(names) == 1:
        return _certain(names[0], allowed, evidence)
    return Verdict(allowed=frozenset(names), evidence=(evidence,))


def _embedding(rules: Rules, request: RouteRequest, allowed: frozenset[str]) -> Verdict | None:
    if request.kind is not ApiKind.EMBEDDING:
        return None
    return _among(
        rules.needing("embedding", allowed),
        allowed,
        Evidence("embedding_api", "the embedding API was called"),
    )


def _images(rules: Rules, request: RouteRequest, allowed: frozenset[str]) -> Verdict | None:
    """Pictures that come with the task. Whether one of an earlier turn is still meant, words must tell."""
    count = conversation_of(request).pictures if request.images else 0
    if not count:
        return None
    text = "an image is attached" if count == 1 else f"{count} images are attached"
    return _among(rules.needing("vision", allowed), allowed, Evidence("images", text))


def _tools(rules: Rules, request: RouteRequest, allowed: frozenset[str]) -> Verdict | None:
    count = len(request.tools)
    if not count and not in_tool_loop(request):
        return None
    text = "a tool is attached" if count == 1 else f"{count} tools are attached"
    if not count:
        text = "a tool has just answered"
    names = rules.needing("tools", allowed)
    if request.images and conversation_of(request).pictures:
        # only a model with both will do, and it may be listed for either
        names += tuple(name for name in rules.needing("vision", allowed) if name not in names)
        text += ", and an image"
    elif request.images:
        text += "; pictures of earlier turns are not sent along"
    return _among(names, allowed, Evidence("tools", text))


def _long_document(rules: Rules, request: RouteRequest, allowed: frozenset[str]) -> Verdict | None:
    tokens = request.estimate().tokens
    found = rules.longest(tokens, allowed)
    if found is None or not _one_text(request):
        return None
    return _certain(
        found[1], allowed, Evidence("size", f"about {tokens:,} tokens, {found[0]:,} or more count as long")
    )


def _one_text(request: RouteRequest) -> bool:
    """Whether most of the request is one text; a long talk of short turns is no long document."""
    sizes = [len(text) for text in request.texts]
    return max(sizes, default=0) >= _DOCUMENT_SHARE * sum(sizes)


def _schema(rules: Rules, request: RouteRequest, allowed: frozenset[str]) -> Verdict | None:
    if not request.wants_schema or "structured_data" not in allowed:
        return None
    return _certain("structured_data", allowed, Evidence("schema", "an answer by JSON schema is requested"))


def _language(rules: Rules, request: RouteRequest, allowed: frozenset[str]) -> Verdict | None:
    code, share = script_language(request.task)
    category = rules.for_language(code, allowed)
    if category is None or code in rules.scripts_of_examples:
        return None
    if share < SCRIPT_SHARE and (share < _LEAST_SHARE or not asks_in(code, request.task)):
        return None
    told = f"{share:.0%} of the letters are {_SCRIPT_NAMES[code]}"
    if share < SCRIPT_SHARE:
        told += ", and the request is in it"
    return _certain(category, allowed, Evidence("language", told))
