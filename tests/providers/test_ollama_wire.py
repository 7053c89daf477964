"""Ollama's bodies, golden: exactly what is sent and how what comes is read."""

from __future__ import annotations

import msgspec
import pytest

from llm_router.answer import Delta, Usage
from llm_router.fleet.schema import Quirks
from llm_router.hosts.snapshot import InstalledModel
from llm_router.providers import ollama_wire as wire
from llm_router.providers.base import ChatCall, EmbedCall
from llm_router.request import ApiKind, Image, JsonObject, Message, RouteRequest, Tool, ToolCall

PICTURE = Image("image/png", "iVBORw0KGgo=")
TOOL = Tool("weather", "of a city", {"type": "object"})


def test_a_plain_chat_sends_the_least() -> None:
    assert wire.chat_body(ChatCall("phi4", RouteRequest.from_text("hello"))) == {
        "model": "phi4",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "truncate": False,
        "options": {},
    }


def test_a_full_chat_sends_everything_in_its_place() -> None:
    request = RouteRequest(
        messages=(
            Message("system", "be brief"),
            Message("user", "look", (PICTURE,)),
            Message("assistant", "", tool_calls=(ToolCall("weather", {"city": "Lyon"}, "c1"),)),
            Message("tool", "rain", tool_name="weather", tool_call_id="c1"),
        ),
        tools=(TOOL,),
        response_format={"type": "object"},
        options={"temperature": 0, "num_predict": 5, "logprobs": True, "top_logprobs": 2, "seed": None},
    )
    assert wire.chat_body(ChatCall("qwen2.5:14b", request, num_ctx=8192, think=False)) == {
        "model": "qwen2.5:14b",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "look", "images": ["iVBORw0KGgo="]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Lyon"}}, "id": "c1"}],
            },
            {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "c1"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "description": "of a city", "parameters": {"type": "object"}},
            }
        ],
        "stream": True,
        "truncate": False,
        "options": {"temperature": 0, "num_predict": 5, "num_ctx": 8192},
        "logprobs": True,
        "top_logprobs": 2,
        "format": {"type": "object"},
        "think": False,
    }


def test_keep_alive_is_never_sent() -> None:
    call = ChatCall("phi4", RouteRequest.from_text("hello"), num_ctx=4096)
    assert "keep_alive" not in wire.chat_body(call)
    assert "keep_alive" not in wire.generate_body(call)
    assert "keep_alive" not in wire.embed_task(EmbedCall("nomic-embed-text", ("a",)))[1]


def test_generate_keeps_a_raw_prompt_as_it_is() -> None:
    request = RouteRequest(
        (Message("system", "be brief"), Message("user", "def f(", (PICTURE,))),
        kind=ApiKind.GENERATE,
        suffix="return x",
        raw=True,
        response_format="json",
    )
    assert wire.generate_body(ChatCall("codellama", request)) == {
        "model": "codellama",
        "prompt": "def f(",
        "system": "be brief",
        "images": ["iVBORw0KGgo="],
        "suffix": "return x",
        "raw": True,
        "stream": True,
        "truncate": False,
        "options": {},
        "format": "json",
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([("system", "S"), ("user", "U")], [("user", "S\n\nU")]),
        ([("system", "S"), ("system", "T"), ("user", "U")], [("user", "S\n\nT\n\nU")]),
        (
            [("system", "S"), ("assistant", "A"), ("user", "U")],
            [("assistant", "A"), ("user", "S\n\nU")],
        ),
        ([("system", "S")], [("user", "S")]),
        ([("user", "U")], [("user", "U")]),
    ],
)
def test_a_model_without_a_system_role_gets_it_in_the_first_user_message(
    before: list[tuple[str, str]], after: list[tuple[str, str]]
) -> None:
    messages = tuple(Message(role, text) for role, text in before)
    call = ChatCall("gemma2:9b", RouteRequest(messages), quirks=Quirks(system_role=False))
    sent = wire.chat_body(call)["messages"]
    assert sent == [{"role": role, "content": text} for role, text in after]


def test_embedding_asks_for_an_error_instead_of_a_cut() -> None:
    call = EmbedCall("nomic-embed-text", ("a", "b"), num_ctx=2048, dimensions=256)
    assert wire.embed_task(call)[1] == {
        "model": "nomic-embed-text",
        "input": ["a", "b"],
        "truncate": False,
        "options": {"num_ctx": 2048},
        "dimensions": 256,
    }


def line(text: str) -> wire.Line:
    return msgspec.json.decode(text, type=wire.Line)


def test_a_line_becomes_a_piece() -> None:
    read = line(
        '{"model":"m","message":{"role":"assistant","content":"hi","thinking":"hm","tool_calls":'
        '[{"id":"c1","function":{"index":0,"name":"f","arguments":{"a":1}}}]},"done":false,'
        '"logprobs":[{"token":"hi","logprob":-0.1}]}'
    )
    assert wire.delta(read) == Delta(
        "hi", "hm", (ToolCall("f", {"a": 1}, "c1"),), ({"token": "hi", "logprob": -0.1},)
    )


def test_a_line_of_generate_becomes_a_piece() -> None:
    assert wire.delta(line('{"model":"m","response":"hi","thinking":"hm"}')) == Delta("hi", "hm")


def test_the_last_line_tells_counts_and_seconds() -> None:
    read = line(
        '{"model":"m","done":true,"done_reason":"length","load_duration":1500000000,"prompt_eval_count":12,'
        '"prompt_eval_duration":250000000,"eval_count":8,"eval_duration":400000000}'
    )
    final = wire.final(read)
    assert (final.model, final.done_reason) == ("m", "length")
    assert final.usage == Usage(12, 8, 1.5, 0.25, 0.4)
    assert final.usage.tokens_per_s == pytest.approx(20.0)


def test_models_that_live_elsewhere_are_left_out() -> None:
    tags: JsonObject = {
        "models": [
            {
                "name": "phi4:latest",
                "size": 9_100_000_000,
                "digest": "ab",
                "details": {"parameter_size": "14.7B", "quantization_level": "Q4_K_M", "family": "phi3"},
            },
            {"name": "big:cloud", "remote_host": "somewhere"},
        ]
    }
    assert wire.installed(tags) == [
        InstalledModel("phi4:latest", 9_100_000_000, None, None, "phi3", "14.7B", "Q4_K_M", "ab")
    ]
    assert wire.installed({"models": None}) == []
    kept = wire.installed(tags, allow_cloud=True)
    told = [(model.name, model.remote_host) for model in kept]
    assert told == [("phi4:latest", ""), ("big:cloud", "somewhere")]
    assert wire.with_details(kept[1], {"capabilities": ["completion"]}).remote_host == "somewhere"


def test_show_adds_what_the_file_says() -> None:
    show: JsonObject = {
        "capabilities": ["completion", "tools"],
        "license": "Apache License\nVersion 2.0",
        "model_info": {
            "general.architecture": "llama",
            "llama.context_length": 131072,
            "llama.block_count": 32,
            "llama.embedding_length": 4096,
            "llama.attention.head_count": 32,
            "llama.attention.head_count_kv": 8,
        },
    }
    model = wire.with_details(InstalledModel("m"), show)
    assert model.capabilities == frozenset({"completion", "tools"})
    assert model.context_length == 131072
    assert model.kv_kib_per_token == pytest.approx(128.0)
    assert model.licence == "Apache License"


def test_resident_models_tell_their_memory_and_context() -> None:
    (model,) = wire.resident(
        {"models": [{"name": "m", "size": 5, "size_vram": 4, "context_length": 4096, "expires_at": "then"}]}
    )
    assert (model.name, model.size_bytes, model.vram_bytes, model.context_length) == ("m", 5, 4, 4096)
