"""What a request itself demands of a model, whatever category it was put into."""

from __future__ import annotations

from llm_router.fleet.schema import Category
from llm_router.request import ApiKind, RouteRequest
from llm_router.tokens import TokenizerFamily, estimate_tokens


class Demand:
    """One request, put into a category, as the gates and the estimates see it: worked out once per decision.

    ``capabilities`` are those a model must have, hardest first. ``embeds`` says whether vectors are wanted,
    ``cuts`` that a server which can cut what is too long for a model's context may do so.
    """

    __slots__ = (
        "_most_tokens",
        "_paced_tokens",
        "_tokens",
        "capabilities",
        "category",
        "cuts",
        "embeds",
        "images",
        "output_limit",
        "request",
    )

    def __init__(self, request: RouteRequest, category: Category | None, *, cuts: bool = False) -> None:
        self.request = request
        self.category = category
        self.cuts = cuts
        self.embeds = is_embedding_task(request, category)
        self.images = len(request.images)
        self.capabilities = _capabilities(request, embeds=self.embeds)
        self.output_limit = request.output_limit_tokens
        self._most_tokens: dict[TokenizerFamily, int] = {}
        self._paced_tokens: dict[TokenizerFamily, int] = {}
        self._tokens: dict[TokenizerFamily, int] = {}

    def tokens(self, family: TokenizerFamily) -> int:
        """What must be read, as estimated for the family."""
        tokens = self._tokens.get(family)
        if tokens is None:
            tokens = self._tokens[family] = self.request.estimate(family).tokens
        return tokens

    def paced_tokens(self, family: TokenizerFamily) -> int:
        """The same in steps of a few percent, for estimates of time: lengths themselves are not known better,
        and requests of one step share what follows from it."""
        paced = self._paced_tokens.get(family)
        if paced is None:
            tokens = self.tokens(family)
            step = 1 << max(3, tokens.bit_length() - 5)
            paced = self._paced_tokens[family] = -(-tokens // step) * step
        return paced

    def most_tokens(self, family: TokenizerFamily) -> int:
        """Upper bound of what must fit the context at once: of several texts to embed, the longest."""
        most = self._most_tokens.get(family)
        if most is None:
            most = self._most_tokens[family] = self._counted(family)
        return most

    def _counted(self, family: TokenizerFamily) -> int:
        if self.embeds:
            texts = self.request.inputs or (self.request.prompt,)
            return max(estimate_tokens(text, family).high for text in texts)
        return self.request.estimate(family).high


def is_embedding_task(request: RouteRequest, category: Category | None) -> bool:
    """Whether vectors are wanted: by the API that was called, or by words ("embed this sentence").

    Words to a model that was asked for by name are its own to answer.
    """
    if request.kind is ApiKind.EMBEDDING:
        return True
    if request.model is not None:
        return False
    wanted = category is not None and category.requires.capability == "embedding"
    return wanted and not request.images and not request.tools


def _capabilities(request: RouteRequest, *, embeds: bool) -> tuple[str, ...]:
    if embeds:
        return ("embedding",)
    if request.suffix and request.kind is ApiKind.GENERATE:
        return ("completion", "vision", "insert") if request.images else ("completion", "insert")
    if not request.images:
        return ("completion", "tools") if request.tools else ("completion",)
    return ("completion", "vision", "tools") if request.tools else ("completion", "vision")
