"""What the gateway itself refuses, before the router is asked. Each says what to do instead."""

from __future__ import annotations

from llm_router.errors import LLMRouterError


class Refused(LLMRouterError):
    """Base. ``retry_after_s`` is told to the client where coming back later makes sense."""

    code = "refused"
    http_status = 400

    def __init__(
        self, what: str, *, why: str | None = None, hint: str | None = None, retry_after_s: int | None = None
    ) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(what, why=why, hint=hint)


class NotHere(Refused):
    code = "not_found"
    http_status = 404


class WrongMethod(Refused):
    """``allowed`` is what the path takes."""

    code = "method_not_allowed"
    http_status = 405

    def __init__(self, method: str, path: str, allowed: tuple[str, ...]) -> None:
        self.allowed = allowed
        super().__init__(
            f"{path} takes no {method}", why=f"it takes {', '.join(allowed)}", hint=f"use {allowed[0]}"
        )


class NoKey(Refused):
    code = "no_key"
    http_status = 401


class NotAllowed(Refused):
    code = "not_allowed"
    http_status = 403


class NoWords(Refused):
    """A task on a path of answers, sent to a name that stands for embedders alone."""

    code = "only_vectors"

    def __init__(self, category: str) -> None:
        super().__init__(
            f"auto:{category} gives vectors, and here an answer in words is expected",
            why="only models that embed texts stand behind this name",
            hint="send the text as input to /v1/embeddings or /api/embed; or choose auto for an answer",
        )


class TooLarge(Refused):
    code = "too_large"
    http_status = 413


class TooMany(Refused):
    """A limit of this caller's key."""

    code = "too_many_requests"
    http_status = 429


class Overloaded(Refused):
    """The gateway's own bound."""

    code = "overloaded"
    http_status = 503


class Failed(Refused):
    """A mistake inside the gateway. What it was stands in its log, not in the reply."""

    code = "internal"
    http_status = 500

    def __init__(self) -> None:
        super().__init__(
            "the gateway failed", why="a mistake of its own", hint="its log tells more under the request's id"
        )
