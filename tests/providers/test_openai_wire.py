"""OpenAI bodies, golden: exactly what is sent and how what comes is read."""

from __future__ import annotations

import msgspec
import pytest

from llm_router.answer import Delta, Usage
from llm_router.fleet.schema import Quirks
from llm_router.providers import openai_wire as wire
from llm_router.providers.base import ChatCall, EmbedCall
from llm_router.request import ApiKind, Image, Json, JsonObject, Message, RouteRequest, Tool, ToolCall

PICTURE = Image("image/png", "iVBORw0KGgo=")


def test_a_plain_chat_sends_the_least() -> None:
    assert wire.chat_body(ChatCall("m", RouteRequest.from_text("hello"), num_ctx=8192)) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("logprobs", [None, False])
def test_alternatives_are_asked_for_only_beside_logprobs(logprobs: bool | None) -> None:
    request = RouteRequest.from_text("hello", options={"logprobs": logprobs, "top_logprobs": 3})
    for body in (wire.chat_body(ChatCall("m", request)), wire.completion_body(ChatCall("m", request))):
        assert "top_logprobs" not in body


def test_options_go_by_the_names_of_these_servers() -> None:
    options: JsonObject = {
        "temperature": 0,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "repeat_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
        "seed": 7,
        "stop": ["END"],
        "num_predict": 5,
        "logprobs": True,
        "top_logprobs": 2,
        "num_ctx": 4096,
        "num_gpu": 99,
        "mirostat": 1,
    }
    body = wire.chat_body(ChatCall("m", RouteRequest.from_text("hello", options=options)))
    sent = {key: value for key, value in body.items() if key not in ("model", "messages", "stream")}
    assert sent == {
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "repeat_penalty": 1.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
        "seed": 7,
        "stop": ["END"],
        "max_tokens": 5,
        "logprobs": True,
        "top_logprobs": 2,
    }


def test_no_limit_is_no_max_tokens() -> None:
    body = wire.chat_body(ChatCall("m", RouteRequest.from_text("hello", options={"num_predict": -1})))
    assert "max_tokens" not in body


def test_a_conversation_with_images_and_tools() -> None:
    messages = (
        Message("system", "be brief"),
        Message("user", "look", (PICTURE,)),
        Message("assistant", "", tool_calls=(ToolCall("weather", {"city": "Lyon"}, "c1"),)),
        Message("tool", "rain", tool_call_id="c1"),
    )
    body = wire.chat_body(ChatCall("m", RouteRequest(messages, tools=(Tool("weather"),))))
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            ],
        },
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Lyon"}'},
                }
            ],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "c1"},
    ]
    assert body["tools"] == [
        {"type": "function", "function": {"name": "weather", "description": "", "parameters": {}}}
    ]


def test_tool_results_without_an_id_find_the_call_they_answer() -> None:
    calls = (ToolCall("time", {}), ToolCall("weather", {}), ToolCall("weather", {}))
    messages = (
        Message("user", "both"),
        Message("assistant", "", tool_calls=calls),
        Message("tool", "rain", tool_name="weather"),
        Message("tool", "noon", tool_name="time"),
        Message("tool", "sun", tool_name="weather"),
    )
    sent = wire.chat_body(ChatCall("m", RouteRequest(messages)))["messages"]
    assert isinstance(sent, list)
    assert [m["tool_call_id"] for m in sent if isinstance(m, dict) and m["role"] == "tool"] == [
        "call_1_1",
        "call_1_0",
        "call_1_2",
    ]


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ("json", {"type": "json_object"}),
        (
            {"type": "object"},
            {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}},
            },
        ),
    ],
)
def test_response_formats(wanted: Json, sent: Json) -> None:
    request = RouteRequest((Message("user", "x"),), response_format=wanted)  # type: ignore[arg-type]
    assert wire.chat_body(ChatCall("m", request))["response_format"] == sent


def test_thinking_is_a_level_or_a_switch_of_the_template() -> None:
    request = RouteRequest.from_text("hello")
    assert wire.chat_body(ChatCall("m", request, think="low"))["reasoning_effort"] == "low"
    off = wire.chat_body(ChatCall("m", request, think=False))
    assert off["chat_template_kwargs"] == {"enable_thinking": False}
    assert "reasoning_effort" not in off


def test_the_system_role_is_folded_where_the_model_has_none() -> None:
    request = RouteRequest.from_text("hello", system="be brief")
    body = wire.chat_body(ChatCall("m", request, quirks=Quirks(system_role=False)))
    assert body["messages"] == [{"role": "user", "content": "be brief\n\nhello"}]


def test_a_raw_prompt_is_completed_and_other_prompts_are_a_chat() -> None:
    raw = RouteRequest(
        (Message("user", "def f("),),
        kind=ApiKind.GENERATE,
        suffix="return x",
        options={"num_predict": 5, "logprobs": True, "top_logprobs": 3},
    )
    assert wire.completes_text(ChatCall("m", raw))
    assert wire.completion_body(ChatCall("m", raw)) == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "prompt": "def f(",
        "suffix": "return x",
        "max_tokens": 5,
        "logprobs": 3,
    }
    plain = RouteRequest((Message("user", "hello"),), kind=ApiKind.GENERATE)
    assert not wire.completes_text(ChatCall("m", plain))


def test_embedding_asks_for_numbers() -> None:
    assert wire.embed_body(EmbedCall("e", ("a", "b"), num_ctx=512, dimensions=8)) == {
        "model": "e",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 8,
    }


def test_vectors_come_in_the_order_of_the_texts() -> None:
    reply: JsonObject = {
        "data": [{"index": 1, "embedding": [0, 1.0]}, {"index": 0, "embedding": [1.0, 0]}],
        "usage": {"prompt_tokens": 4},
    }
    assert wire.vectors(reply) == (((1.0, 0.0), (0.0, 1.0)), 4)


def event(text: str) -> wire.Event:
    return msgspec.json.decode(text, type=wire.Event)


@pytest.mark.parametrize(
    ("choice", "delta"),
    [
        ('{"delta":{"content":"hi"}}', Delta("hi")),
        ('{"delta":{"role":"assistant","content":null}}', Delta()),
        ('{"delta":{"reasoning_content":"hm"}}', Delta(thinking="hm")),
        ('{"delta":{"content":"","reasoning":"hm"}}', Delta(thinking="hm")),
        ('{"text":"hi"}', Delta("hi")),
        (
            '{"delta":{"content":"hi"},"logprobs":{"content":[{"token":"hi"}]}}',
            Delta("hi", logprobs=({"token": "hi"},)),
        ),
    ],
)
def test_an_event_becomes_a_piece(choice: str, delta: Delta) -> None:
    read = event('{"choices":[' + choice + "]}").choice
    assert read is not None
    assert wire.delta(read) == delta


def tool_calls(*pieces: str) -> tuple[ToolCall, ...]:
    calls = wire.ToolCalls()
    for piece in pieces:
        choice = event('{"choices":[{"delta":{"tool_calls":[' + piece + "]}}]}").choice
        assert choice is not None
        calls.feed(choice)
    return calls.whole()


def test_tool_calls_are_put_together_by_their_index() -> None:
    assert tool_calls(
        '{"index":1,"id":"b","function":{"name":"time","arguments":""}}',
        '{"index":0,"id":"a","function":{"name":"weather","arguments":"{\\"ci"}}',
        '{"index":0,"function":{"arguments":"ty\\":\\"Lyon\\"}"}}',
        '{"index":1,"function":{"arguments":"{}"}}',
    ) == (ToolCall("weather", {"city": "Lyon"}, "a"), ToolCall("time", {}, "b"))


def test_tool_calls_without_an_index_begin_with_a_name() -> None:
    assert tool_calls(
        '{"id":"a","function":{"name":"weather","arguments":"{\\"city\\":"}}',
        '{"function":{"arguments":"\\"Lyon\\"}"}}',
        '{"id":"b","function":{"name":"time","arguments":{"zone":"UTC"}}}',
    ) == (ToolCall("weather", {"city": "Lyon"}, "a"), ToolCall("time", {"zone": "UTC"}, "b"))


def test_arguments_that_are_no_json_are_an_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        tool_calls('{"index":0,"function":{"name":"f","arguments":"{\\"a"}}')


def test_usage_takes_seconds_from_the_timings_of_llama_server() -> None:
    read = event(
        '{"usage":{"prompt_tokens":12,"completion_tokens":8},'
        '"timings":{"prompt_ms":250.0,"predicted_ms":400.0,"cache_n":0}}'
    )
    assert wire.usage(read.usage, read.timings) == Usage(12, 8, None, 0.25, 0.4)
    assert wire.usage(None, None) == Usage()


@pytest.mark.parametrize(
    ("models", "resident"),
    [
        ([{"id": "only", "owned_by": "someone"}], {"only"}),
        ([{"id": "a", "owned_by": "library"}, {"id": "b", "owned_by": "library"}], set()),
        ([{"id": "a", "owned_by": "vllm"}, {"id": "lora", "owned_by": "vllm"}], {"a", "lora"}),
        ([{"id": "a", "status": {"value": "loaded"}}, {"id": "b", "status": {"value": "unloaded"}}], {"a"}),
        ([{"id": "only", "status": {"value": "unloaded"}}], set()),
    ],
)
def test_which_models_are_resident(models: list[Json], resident: set[str]) -> None:
    installed, names = wire.installed({"object": "list", "data": models})
    assert names == resident
    assert all(model.capabilities is None for model in installed)


def test_the_context_comes_from_whoever_tells_it() -> None:
    (vllm,), _ = wire.installed({"data": [{"id": "a", "max_model_len": 32768}]})
    meta: JsonObject = {
        "n_ctx": 4096,
        "n_ctx_train": 8192,
        "n_params": 134515008,
        "size": 96,
        "ftype": "Q4_1",
    }
    (llama,), _ = wire.installed({"data": [{"id": "b", "meta": meta}]})
    assert vllm.context_length == 32768
    assert (llama.context_length, llama.params, llama.size_bytes) == (4096, "0.135B", 96)
    assert llama.quantization == "Q4_1"
