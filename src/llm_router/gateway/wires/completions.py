"""OpenAI's older ``/v1/completions``: one prompt is continued, without a conversation around it."""

from __future__ import annotations

from typing import Any

import msgspec

from llm_router.answer import Answer, Delta, EmbeddingAnswer
from llm_router.bodies import KNOWN_FIELDS, request_from_json
from llm_router.errors import InvalidRequest, LLMRouterError
from llm_router.gateway.splice import with_member
from llm_router.gateway.wires.base import Asked, Endpoint, Told
from llm_router.gateway.wires.openai import DONE, FINGERPRINT, HEARTBEAT, raw_events, read_head, usage
from llm_router.gateway.wires.openai_errors import error_body, error_event
from llm_router.request import ApiKind, Json, JsonObject, SentBody

COMPLETIONS = "/v1/completions"
_encoder = msgspec.json.Encoder()


def _parse(data: bytes) -> Asked:
    head = read_head(data)
    stream = head.stream is True
    sent = SentBody(COMPLETIONS, data, stream=stream, known=KNOWN_FIELDS)
    request = request_from_json(data, sent=sent, kind=ApiKind.GENERATE)
    if request.kind is not ApiKind.GENERATE:
        raise InvalidRequest(
            "the body has no prompt",
            why="a completion continues one prompt",
            hint="send prompt, or the messages to /v1/chat/completions",
        )
    counted = head.stream_options is not None and head.stream_options.include_usage is True
    return Asked(request, stream, _Renderer(usage=counted))


class _Renderer:
    stream_type = "text/event-stream"
    heartbeat = HEARTBEAT

    def __init__(self, *, usage: bool) -> None:
        self._usage = usage
        self._told: Told | None = None
        self._offset = 0

    def begin(self, told: Told) -> bytes:
        self._told = told
        return b""

    def piece(self, piece: Delta) -> bytes:
        if piece.raw is not None:
            return b"data: %b\n\n" % piece.raw if piece.raw else b""
        if not piece.text and not piece.logprobs:
            return b""
        choice = self._choice(piece.text, None, piece.logprobs)
        return b"data: %b\n\n" % _encoder.encode(self._body(self._told, [choice]))

    def final(self, answer: Answer, told: Told) -> bytes:
        if answer.raw_end:
            return raw_events(answer.raw_end, told)
        last = self._body(told, [self._choice("", _reason(answer), ())])
        if not self._usage:
            return b"data: %b\n\n" % _encoder.encode(last | {"router": told.router}) + DONE
        counted = self._body(told, []) | {"usage": usage(answer.usage), "router": told.router}
        events = (_encoder.encode(last), _encoder.encode(counted))
        return b"".join([b"data: %b\n\n" % event for event in events]) + DONE

    def broken(self, error: LLMRouterError, told: Told) -> bytes:
        return error_event(error)

    def whole(self, answer: Answer, told: Told) -> bytes:
        if answer.raw_end:
            return with_member(answer.raw_end[-1], "router", told.router)
        choice = self._choice(answer.text, _reason(answer), answer.logprobs)
        body = self._body(told, [choice])
        return _encoder.encode(body | {"usage": usage(answer.usage), "router": told.router})

    def vectors(self, answer: EmbeddingAnswer, told: Told) -> bytes:
        raise NotImplementedError

    def _body(self, told: Told | None, choices: list[Json]) -> JsonObject:
        return {
            "id": f"cmpl-{told.reply_id if told else ''}",
            "object": "text_completion",
            "created": int(told.created_s) if told else 0,
            "model": told.model if told else "",
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }

    def _choice(self, text: str, reason: str | None, logprobs: tuple[Json, ...]) -> JsonObject:
        return {"text": text, "index": 0, "logprobs": self._logprobs(logprobs), "finish_reason": reason}

    def _logprobs(self, items: tuple[Json, ...]) -> JsonObject | None:
        """The older API keeps tokens, their logprobs, the alternatives and offsets in four lists."""
        if not items:
            return None
        tokens: list[Json] = []
        chosen: list[Json] = []
        top: list[Json] = []
        offsets: list[Json] = []
        for item in items:
            told: dict[str, Any] = item if isinstance(item, dict) else {}
            token = str(told.get("token", ""))
            tokens.append(token)
            chosen.append(told.get("logprob"))
            others = told.get("top_logprobs") or []
            top.append({str(other.get("token")): other.get("logprob") for other in others})
            offsets.append(self._offset)
            self._offset += len(token)
        return {"tokens": tokens, "token_logprobs": chosen, "top_logprobs": top, "text_offset": offsets}


def _reason(answer: Answer) -> str:
    return "length" if answer.done_reason == "length" else "stop"


ENDPOINT = Endpoint("openai", COMPLETIONS, _parse, error_body)
