"""Whether a text asks for vectors, or only speaks of them.

A reply to the first is a list of numbers, which nobody wants who asked for the second. Words alone cannot
tell ("embed me a joke", "vector art of a cat"): there must be something to embed, or an order to make them.
"""

from __future__ import annotations

import re

_SAMPLE_CHARS = 2000

_PAYLOAD = re.compile(
    r"[:\n“”„«「『\"]|(?<!\w)'[^']{4,}'|\w\(|->|→|"
    r"\b(?:this|these|those|that|following|below|above|each|every|all|both|attached)\b|"
    r"\b(?:the|my|our|his|her|their|a|an|one|two|three|\d+)\s+(?:\w+\s+){0,3}?"
    r"(?:sentences?|texts?|paragraphs?|passages?|phrases?|words?|lines?|strings?|documents?|docs?|titles?|names?|"
    r"descriptions?|reviews?|questions?|quer(?:y|ies)|articles?|notes?|files?|rows?|chunks?|faqs?|abstracts?|"
    r"tickets?|messages?|e?-?mails?|snippets?|entries|entry|captions?|comments?|answers?|posts?|headlines?)\b",
    re.IGNORECASE,
)
"""Something that is to be embedded: quoted, after a colon, on the next line, or pointed at."""

_ORDER = re.compile(
    r"\b(?:generate|create|compute|calculate|make|get|give|produce|build|need|want|return|extract|convert|turn|"
    r"transform|map|fetch|provide|output|send|obtain|derive|run|embed|vectori[sz]e|encode)\b"
    r"(?:\W+\w+){0,6}?\W+(?:embeddings?|vectors?|representations?|vectori[sz]ed|vectori[sz]ation)\b|"
    r"\b(?:embeddings?|vectors?|representations?)\s+(?:for|of|from|please|pls|plz|out of)\b|"
    r"^\W*(?:please\s+|pls\s+|can you\s+|could you\s+)?(?:re-?)?(?:embed|vectori[sz]e)\s+"
    r"(?!me\b|us\b|an?\b)\w|"
    r"\b(?:erzeuge?|erstelle?|berechne?|gib|wandle|génère|générer|calcule|calculer|crée|transforme|convierte|"
    r"genera|"
    r"calcula|crea|dame|gere|transforma|converti)\b.{0,60}?"
    r"\b(?:embeddings?|vektor\w*|vecteurs?|vectores?|vettor\w)\b",
    re.IGNORECASE,
)
"""An order to make them."""

_OTHER_SCRIPT = re.compile("[^\x00-\u024f\u2000-\u206f]")
_ABOUT = re.compile(
    r"^\W*(?!what(?:'s|\s+is|\s+would)\s+(?:be\s+)?(?:the|an?)\s+(?:embedding|vector)s?\s+(?:of|for)\b)"
    r"(?!(?:what|how)\b[^.?!]*\b(?:this|these|following)\b)"
    r"(?:what|why|how|which|when|where|who|is|are|was|does|do|did|should|explain|describe|compare|define|"
    r"tell me about|difference|write|implement|debug|fix|draw|design|paint|was ist|wie|warum|qué|cómo|"
    r"por qué|c'est quoi|pourquoi|comment)\b",
    re.IGNORECASE,
)
"""How texts begin that are about vectors, or want something else made."""


def asks_for_vectors(text: str) -> bool:
    """Whether a text may be answered with vectors.

    >>> asks_for_vectors("embed this sentence: the cat sat"), asks_for_vectors("vector art of a cat")
    (True, False)
    """
    sample = text[:_SAMPLE_CHARS]
    if _OTHER_SCRIPT.search(sample):
        return True  # Korean, Japanese and Chinese have other forms; the encoder alone decides
    if _ABOUT.match(sample):
        return False
    return bool(_PAYLOAD.search(sample) or _ORDER.search(sample))
