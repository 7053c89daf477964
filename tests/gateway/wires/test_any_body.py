"""Whatever bytes come as a body: a wire understands them or says what is wrong, and never fails otherwise."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llm_router.bodies import request_from_json
from llm_router.errors import LLMRouterError
from llm_router.gateway.wires import endpoints
from llm_router.gateway.wires.base import Asked, Endpoint, Preload

ENDPOINTS = {endpoint.path: endpoint for endpoint in endpoints()}
PNG = "iVBORw0KGgoAAAANSUhEUg=="

TALK: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": PNG}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "4", "images": [PNG]},
    {"role": "user", "content": "What's 2+2?"},
]
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}
OPENAI: dict[str, Any] = {
    "model": "auto",
    "stream": True,
    "stream_options": {"include_usage": True},
    "n": 1,
    "temperature": 0.5,
    "top_p": 0.5,
    "max_tokens": 3,
    "max_completion_tokens": 3,
    "seed": 1,
    "stop": ["a"],
    "logprobs": True,
    "top_logprobs": 2,
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "reasoning_effort": "low",
    "user": "u",
}
WHOLE: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": OPENAI | {"messages": TALK},
    "/v1/completions": OPENAI | {"prompt": "Once", "suffix": "end", "logprobs": 2},
    "/v1/embeddings": {"model": "auto", "input": ["a"], "dimensions": 3, "encoding_format": "base64"},
    "/api/embed": {"model": "auto", "input": ["a"], "truncate": True, "options": {"num_ctx": 3}},
    "/api/embeddings": {"model": "auto", "prompt": "a", "options": {}},
    "/api/chat": {
        "model": "auto",
        "messages": [{"role": "user", "content": "hi", "images": [PNG], "thinking": "t"}],
        "format": {"type": "object"},
        "options": {"temperature": 1, "num_predict": 3, "stop": ["a"]},
        "think": "high",
        "keep_alive": "5m",
        "stream": False,
        "tools": OPENAI["tools"],
    },
    "/api/generate": {
        "model": "auto",
        "prompt": "hi",
        "system": "s",
        "suffix": "e",
        "images": [PNG],
        "raw": True,
        "context": [1],
        "template": "t",
        "format": "json",
        "options": {"num_ctx": 5},
    },
    "/v1/messages": {
        "model": "auto",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "hi"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                    {"type": "document", "title": "d", "source": {"type": "text", "data": "x"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "t", "signature": ""},
                    {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "4"}]}
                ],
            },
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stop_sequences": ["a"],
        "temperature": 0.1,
        "top_k": 3,
        "metadata": {"user_id": "u"},
        "stream": True,
    },
    "/v1/responses": {
        "model": "auto",
        "instructions": "s",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c", "output": "4"},
        ],
        "tools": [{"type": "function", **FUNCTION}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}},
        "reasoning": {"effort": "low"},
        "max_output_tokens": 5,
        "metadata": {"a": "b"},
        "stream": True,
    },
}
WHOLE["/v1/messages/count_tokens"] = WHOLE["/v1/messages"]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(["", " ", "auto", "json", "text", "function", "tool", "http://x/a.png", "data:,", PNG])
    | st.sampled_from([2**63, -(2**63) - 1, 10**30, 1e300, -0.0])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "content", "name", "function", "source", "role", "a"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to every value inside, and to itself."""
    found = [way]
    if isinstance(value, dict):
        for name, inner in value.items():
            found += places(inner, (*way, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            found += places(inner, (*way, place))
    return found


def changed(value: Any, way: tuple[Any, ...], other: Any) -> Any:
    if not way:
        return other
    if isinstance(value, dict):
        return {**value, way[0]: changed(value[way[0]], way[1:], other)}
    return [changed(v, way[1:], other) if n == way[0] else v for n, v in enumerate(value)]


def read(endpoint: Endpoint, data: bytes) -> Asked | Preload | None:
    """What the wire makes of it, up to the end that servers see; None where it said what is wrong."""
    try:
        asked = endpoint.parse(data)
        if isinstance(asked, Asked):
            asked.request.estimate()
            if asked.request.body is not None:
                msgspec.json.encode(asked.request.body.fields)
            if endpoint.direct is not None:
                endpoint.direct(asked)
    except LLMRouterError as error:
        assert str(error)
        assert error.http_status < 500
        return None
    return asked


@pytest.mark.parametrize("path", WHOLE)
def test_the_whole_body_is_understood(path: str) -> None:
    assert isinstance(read(ENDPOINTS[path], msgspec.json.encode(WHOLE[path])), Asked)


@pytest.mark.parametrize("path", WHOLE)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_in_any_place(path: str, data: st.DataObject) -> None:
    body: Any = WHOLE[path]
    for _ in range(data.draw(st.integers(1, 2))):
        body = changed(body, data.draw(st.sampled_from(places(body))), data.draw(VALUES))
    read(ENDPOINTS[path], msgspec.json.encode(body))


@pytest.mark.parametrize("path", WHOLE)
@settings(max_examples=60, deadline=None)
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b'"\\ud800"')
@given(data=st.binary(max_size=60) | VALUES.map(msgspec.json.encode))
def test_any_bytes(path: str, data: bytes) -> None:
    read(ENDPOINTS[path], data)


ODD = {
    "half a surrogate pair": b'"\\ud800"',
    "no UTF-8": b'"\xff"',
    "a number beyond all bounds": b"1e999",
    "a number of 5,000 digits": b"9" * 5000,
    "300 lists": b"[" * 300 + b"]" * 300,
    "100,000 lists": b"[" * 100_000 + b"]" * 100_000,
    "5,000 objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "a list that does not end": b"[" * 50,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("path", WHOLE)
def test_odd_json_where_nobody_looks(path: str, odd: str) -> None:
    """Fields without a name here are passed over at first, and read when a server is to get them."""
    body = msgspec.json.encode(WHOLE[path])[:-1] + b',"unknown":' + ODD[odd] + b"}"
    read(ENDPOINTS[path], body)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/api/embeddings"])
def test_odd_json_beside_a_model_to_load(path: str, odd: str) -> None:
    read(ENDPOINTS[path], b'{"model":"mistral:7b","unknown":' + ODD[odd] + b"}")


@pytest.mark.parametrize("odd", ODD)
def test_odd_json_in_what_a_tool_was_given(odd: str) -> None:
    arguments = ODD[odd].decode("latin-1")
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    for path, body in (
        ("/v1/chat/completions", {"messages": [TALK[-1], called]}),
        (
            "/v1/responses",
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments}]},
        ),
    ):
        read(ENDPOINTS[path], msgspec.json.encode(body))


@pytest.mark.parametrize("extra", ["messages", "prompt", "input", "images", "suffix"])
@pytest.mark.parametrize("path", WHOLE)
def test_a_field_of_another_path_changes_nothing(path: str, extra: str) -> None:
    """The path says what is asked: a chat stays one although a body has an ``input`` beside its messages."""
    if extra in WHOLE[path]:
        return
    value: Any = TALK[-1:] if extra == "messages" else [PNG] if extra == "images" else "more"
    plain = read(ENDPOINTS[path], msgspec.json.encode(WHOLE[path]))
    asked = read(ENDPOINTS[path], msgspec.json.encode(WHOLE[path] | {extra: value}))
    assert isinstance(plain, Asked)
    assert isinstance(asked, Asked)
    assert asked.request.kind is plain.request.kind
    assert asked.request.task == plain.request.task


@settings(max_examples=150, deadline=None)
@given(body=st.sampled_from(list(WHOLE.values())), data=st.data())
def test_a_body_without_a_path(body: Any, data: st.DataObject) -> None:
    """As the dry run gets it."""
    body = changed(body, data.draw(st.sampled_from(places(body))), data.draw(VALUES))
    try:
        request_from_json(msgspec.json.encode(body))
    except LLMRouterError as error:
        assert str(error)
