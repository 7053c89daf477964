"""Bodies of OpenAI and Ollama become the same request."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.bodies import request_from_body, request_from_json
from llm_router.errors import InvalidRequest, LLMRouterError
from llm_router.request import ApiKind, Json, JsonObject

PNG64 = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 64).decode()


def test_an_openai_chat_keeps_the_whole_conversation() -> None:
    request = request_from_body(
        {
            "model": "auto",
            "messages": [
                {"role": "developer", "content": "be brief"},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
            ],
            "max_completion_tokens": 7,
            "temperature": 0.5,
            "stop": "END",
            "user": "u1",
        }
    )
    assert [m.role for m in request.messages] == ["system", "user", "assistant", "tool"]
    assert request.messages[1].text == "hi\nthere"
    assert request.messages[2].tool_calls[0].arguments == {"a": 1}
    assert request.messages[3].tool_call_id == "c1"
    assert request.options == {"num_predict": 7, "temperature": 0.5, "stop": ["END"]}
    assert request.model is None
    assert request.session_id == "u1"
    assert request.task == "hi\nthere"


def test_an_ollama_chat_and_an_openai_chat_with_the_same_picture_are_alike() -> None:
    ollama = request_from_body({"messages": [{"role": "user", "content": "what?", "images": [PNG64]}]})
    openai = request_from_body(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "what?"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG64}"}},
                    ],
                }
            ]
        }
    )
    assert ollama.images == openai.images
    assert ollama.images[0].media_type == "image/png"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"format": "json"}, "json"),
        ({"format": {"type": "object"}}, {"type": "object"}),
        ({"response_format": {"type": "json_object"}}, "json"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}},
            {"type": "array"},
        ),
        ({"response_format": {"type": "text"}}, None),
        ({}, None),
    ],
)
def test_the_answers_format_is_read_from_either_api(body: JsonObject, wanted: object) -> None:
    request = request_from_body({"messages": [{"role": "user", "content": "x"}], **body})
    assert request.response_format == wanted


def test_generate_and_completions_become_a_prompt() -> None:
    request = request_from_body(
        {"prompt": "def f(", "suffix": "return 1", "system": "code", "raw": True, "options": {"num_ctx": 99}}
    )
    assert request.kind is ApiKind.GENERATE
    assert (request.task, request.suffix, request.raw) == ("def f(", "return 1", True)
    assert request.messages[0].role == "system"


@pytest.mark.parametrize("value", ["one", ["one", "two"]])
def test_embedding_bodies_of_both_apis(value: object) -> None:
    request = request_from_json(json.dumps({"input": value, "dimensions": 64}))
    assert request.kind is ApiKind.EMBEDDING
    assert request.inputs == ((value,) if isinstance(value, str) else tuple(value))  # type: ignore[arg-type]
    assert request.dimensions == 64


def test_tools_of_both_shapes_and_the_old_functions_field() -> None:
    tool: JsonObject = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    request = request_from_body(
        {"messages": [{"role": "user", "content": "x"}], "tools": [tool], "functions": [{"name": "g"}]}
    )
    assert [t.name for t in request.tools] == ["f", "g"]


def test_reasoning_effort_becomes_thinking() -> None:
    chat: JsonObject = {"messages": [{"role": "user", "content": "x"}]}
    assert request_from_body({**chat, "reasoning_effort": "none"}).think is False
    assert request_from_body({**chat, "reasoning_effort": "minimal"}).think is False
    assert request_from_body({**chat, "reasoning_effort": "high"}).think == "high"
    assert request_from_body({**chat, "reasoning_effort": "xhigh"}).think == "high"
    assert request_from_body({**chat, "reasoning_effort": "ultra"}).think == "high"
    assert request_from_body({**chat, "think": "max"}).think == "high"
    assert request_from_body({**chat, "think": True}).think is True
    assert request_from_body(chat).think is None


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("{", "not JSON"),
        ("[]", "the body"),
        ("{}", "asks nothing"),
        ('{"messages": []}', "no entry"),
        ('{"messages": [{"role": "user", "content": "  "}]}', "empty"),
        ('{"messages": [{"role": "wizard", "content": "x"}]}', "wizard"),
        ('{"messages": "hello"}', "messages"),
        ('{"messages": [{"role": "user", "content": 3}]}', "messages[0].content"),
        ('{"input": [1, 2, 3]}', "token numbers"),
        ('{"input": ""}', "nothing to embed"),
        ('{"prompt": "x", "images": ["!!!"]}', "base64"),
        ('{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]}',
         "never fetches"),
        ('{"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}]}',
         "arguments of the tool call"),
        ('{"prompt": "x", "reasoning_effort": "a lot"}', "a lot"),
        ('{"prompt": "x", "format": "yaml"}', "yaml"),
        ('{"prompt": "x", "response_format": {"type": "xml"}}', "xml"),
        ('{"prompt": ["a", "b"]}', "2 prompts"),
        ('{"prompt": "\\ud800"}', "surrogate"),
        ('{"prompt": "x", "max_tokens": 1.5}', "max_tokens"),
        ('{"prompt": "x", "options": {"num_predict": "12"}}', "num_predict"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_error_that_names_the_place(body: str, part: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_from_json(body)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_body_that_asks_nothing_is_told_what_to_send_and_not_what_to_read() -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_from_json(b'{"foo": 1}')
    assert caught.value.hint == "send messages, prompt or input, as OpenAI's or Ollama's API takes them"


@given(st.binary(max_size=200))
def test_any_bytes_give_a_request_or_one_of_our_errors(data: bytes) -> None:
    with contextlib.suppress(LLMRouterError):
        request_from_json(data)


plain_values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
json_values: st.SearchStrategy[object] = st.deferred(
    lambda: (
        plain_values
        | st.lists(json_values, max_size=3)
        | st.dictionaries(st.text(max_size=8), json_values, max_size=3)
    )
)
field_names = st.sampled_from(
    [
        "messages",
        "prompt",
        "input",
        "model",
        "tools",
        "options",
        "format",
        "response_format",
        "images",
        "stop",
    ]
)


@given(st.dictionaries(field_names, json_values, max_size=5))
def test_any_json_in_the_known_fields_gives_a_request_or_one_of_our_errors(body: dict[str, object]) -> None:
    with contextlib.suppress(LLMRouterError):
        request_from_json(json.dumps(body))


def test_whole_numbers_may_be_written_as_floats() -> None:
    request = request_from_json('{"prompt": ["x"], "max_tokens": 1e3, "seed": 7.0}')
    assert request.task == "x"
    assert request.options == {"num_predict": 1000, "seed": 7}
    assert all(type(value) is int for value in request.options.values())


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"logprobs": 5}, {"logprobs": True, "top_logprobs": 5}),
        ({"logprobs": 0}, {"logprobs": True}),
        ({"logprobs": False}, {"logprobs": False}),
    ],
)
def test_log_probabilities_are_asked_for_as_either_api_says(body: JsonObject, options: JsonObject) -> None:
    assert request_from_body({"prompt": "x", **body}).options == options


@pytest.mark.parametrize(("choice", "offered"), [("none", 0), ("auto", 2), ("required", 2)])
def test_a_caller_who_chooses_no_tool_offers_none(choice: str, offered: int) -> None:
    tools: list[Json] = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
    body: JsonObject = {"prompt": "x", "tools": tools, "tool_choice": choice}
    assert len(request_from_body(body).tools) == offered
