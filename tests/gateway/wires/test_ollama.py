"""``/api/chat`` and ``/api/generate``: what a server of the same API gets and says goes through as it is."""

from __future__ import annotations

from typing import Any

import msgspec
import ollama
import pytest
from tests.gateway.wires.golden import (
    ENDPOINTS,
    PNG,
    ROUTER,
    SCHEMA,
    TOLD,
    answer,
    asked,
    lines,
    streamed,
    to_ollama,
    to_openai,
    whole,
)

from llm_router.answer import Delta
from llm_router.errors import InvalidRequest, StreamBroken
from llm_router.fleet.schema import Quirks, ReasoningMarkers
from llm_router.gateway.wires.base import Preload
from llm_router.request import ToolCall

CHAT, GENERATE = "/api/chat", "/api/generate"
TALK: Any = [{"role": "user", "content": "hi"}]
MARKED = Quirks(reasoning_markers=ReasoningMarkers(thinking_start="<t>", answer_start="</t>"))
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}

FIELDS = [
    ("format", "json"),
    ("format", SCHEMA),
    ("logprobs", True),
    ("top_logprobs", 3),
    ("truncate", True),
    ("_debug_render_only", True),
    ("new", {"a": [1]}),
]


@pytest.mark.parametrize(("field", "value"), FIELDS)
@pytest.mark.parametrize("path", [CHAT, GENERATE])
def test_fields_go_through(path: str, field: str, value: Any) -> None:
    body = {"model": "auto", field: value} | ({"messages": TALK} if path == CHAT else {"prompt": "hi"})
    expected = {"truncate": False} | body | {"model": "m", "stream": True, "options": {"num_ctx": 4096}}
    assert to_ollama(path, body) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("raw", True),
        ("suffix", "end"),
        ("system", "s"),
        ("template", "{{ .Prompt }}"),
        ("context", [1, 2]),
        ("images", [PNG]),
    ],
)
def test_fields_of_generate_alone(field: str, value: Any) -> None:
    body = {"prompt": "hi", field: value}
    assert to_ollama(GENERATE, body)[field] == value
    assert to_ollama(GENERATE, body, quirks=MARKED)[field] == value  # the body is written anew


@pytest.mark.parametrize(
    ("given", "sent"), [(True, True), (False, False), ("low", "low"), ("high", "high"), ("max", "high")]
)
@pytest.mark.parametrize("quirks", [Quirks(), MARKED])
def test_thinking(given: Any, sent: Any, quirks: Quirks) -> None:
    body = {"messages": TALK, "think": given}
    assert to_ollama(CHAT, body, quirks=quirks)["think"] == sent
    assert "think" not in to_ollama(CHAT, body, quirks=quirks, think=None)  # a model that cannot


def test_options_but_those_that_would_load_the_model_anew() -> None:
    options = {"temperature": 0.1, "mirostat": 1, "num_ctx": 9, "num_gpu": 1, "num_batch": 8, "future": "x"}
    expected = {"temperature": 0.1, "mirostat": 1, "future": "x", "num_ctx": 4096}
    body: dict[str, Any] = {"messages": TALK, "options": options, "shift": False}
    for quirks in (Quirks(), MARKED):
        sent = to_ollama(CHAT, body, quirks=quirks)
        assert sent["options"] == expected
        assert "shift" not in sent


@pytest.mark.parametrize("quirks", [Quirks(), MARKED])
def test_keep_alive_is_the_callers_where_the_model_is(quirks: Quirks) -> None:
    body = {"messages": TALK, "keep_alive": "1h"}
    assert "keep_alive" not in to_ollama(CHAT, body | {"model": "auto"}, quirks=quirks)
    assert to_ollama(CHAT, body | {"model": "x"}, quirks=quirks)["keep_alive"] == "1h"


def test_a_conversation_written_anew_says_the_same() -> None:
    messages: Any = [
        {"role": "user", "content": "look", "images": [PNG]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "4", "tool_name": "f"},
    ]
    body = {"messages": messages, "tools": [TOOL], "format": "json"}
    for quirks in (Quirks(), MARKED):
        sent = to_ollama(CHAT, body, quirks=quirks)
        assert sent["messages"] == messages
        assert sent["tools"] == [TOOL]
        assert sent["format"] == "json"


@pytest.mark.parametrize("quirks", [Quirks(), MARKED, Quirks(system_role=False)])
def test_a_role_that_only_some_template_knows_goes_through(quirks: Quirks) -> None:
    messages = [{"role": "control", "content": "thinking"}, *TALK]
    found = asked(CHAT, {"messages": messages}).request
    assert (found.task, found.asking.role) == ("hi", "user")
    assert to_ollama(CHAT, {"messages": messages}, quirks=quirks)["messages"] == messages
    assert to_openai(CHAT, {"messages": messages})["messages"] == messages
    loud = asked(CHAT, {"messages": [{"role": "User", "content": "hi"}]}).request
    assert loud.messages[0].role == "user"
    for path, role in (("/v1/chat/completions", "control"), (CHAT, "")):
        with pytest.raises(InvalidRequest, match="role"):
            asked(path, {"messages": [{"role": role, "content": "thinking"}, *TALK]})


def test_for_a_server_of_openais_api() -> None:
    body: dict[str, Any] = {
        "model": "auto",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "look", "images": [PNG]},
        ],
        "options": {"temperature": 0.1, "num_predict": 5, "stop": ["A"], "num_ctx": 9},
        "format": SCHEMA,
        "think": "low",
        "keep_alive": "5m",
        "tools": [TOOL],
        "new": 1,
    }
    assert to_openai(CHAT, body) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            },
        ],
        "temperature": 0.1,
        "max_tokens": 5,
        "stop": ["A"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
        },
        "reasoning_effort": "low",
        "tools": [TOOL],
        "new": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("stream", [None, True, False])
def test_it_streams_unless_told_not_to(stream: bool | None) -> None:
    assert asked(CHAT, {"messages": TALK, "stream": stream}).stream is (stream is not False)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"model": "x", "messages": []}),
        (CHAT, {"model": "x", "keep_alive": 0}),
        (GENERATE, {"model": "x", "prompt": ""}),
        ("/api/embed", {"model": "x", "input": []}),
        ("/api/embed", {"model": "x"}),
        ("/api/embeddings", {"model": "x", "prompt": ""}),
    ],
)
def test_without_a_task_a_model_is_loaded(path: str, body: Any) -> None:
    found = ENDPOINTS[path].parse(msgspec.json.encode(body))
    assert isinstance(found, Preload)
    assert (found.model, found.fields) == ("x", body)


@pytest.mark.parametrize("path", [CHAT, GENERATE])
def test_an_empty_body_is_told_in_ollamas_words(path: str) -> None:
    with pytest.raises(InvalidRequest, match="missing request body"):
        ENDPOINTS[path].parse(b"")


class TestReply:
    def test_raw_lines_go_through_byte_for_byte(self) -> None:
        found = asked(CHAT, {"messages": TALK})
        end = b'{"model":"x", "done":true,"odd": 1.50}'
        data = streamed(found, Delta("a", raw=b'{"odd":  1}'), Delta("b", raw=b""), raw_end=(end,))
        assert (
            data
            == b'{"odd":  1}\n{"model":"x", "done":true,"odd": 1.50,"router":'
            + msgspec.json.encode(ROUTER)
            + b"}\n"
        )

    def test_pieces_of_a_chat(self) -> None:
        data = streamed(
            asked(CHAT, {"messages": TALK}),
            Delta(thinking="hm"),
            Delta("four", logprobs=({"token": "four", "logprob": -0.5},)),
            Delta(),
            Delta(tool_calls=(ToolCall("f", {"a": 1}, "c1"),)),
            reason="length",
        )
        *pieces, last = lines(data)
        for line in (*pieces, last):
            ollama.ChatResponse.model_validate(line)
            assert line["model"] == "m:7b"
        assert [line["message"] for line in pieces] == [
            {"role": "assistant", "content": "", "thinking": "hm"},
            {"role": "assistant", "content": "four"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"index": 0, "name": "f", "arguments": {"a": 1}}, "id": "c1"}],
            },
        ]
        assert pieces[1]["logprobs"] == [{"token": "four", "logprob": -0.5}]
        expected = {
            "done": True,
            "done_reason": "length",
            "total_duration": 2_000_000_000,
            "load_duration": 500_000_000,
            "prompt_eval_count": 9,
            "prompt_eval_duration": 250_000_000,
            "eval_count": 3,
            "eval_duration": 1_000_000_000,
            "router": ROUTER,
            "message": {"role": "assistant", "content": ""},
        }
        assert {name: last[name] for name in expected} == expected
        assert not any(line["done"] for line in pieces)

    def test_pieces_of_generate(self) -> None:
        *pieces, last = lines(
            streamed(asked(GENERATE, {"prompt": "hi"}), Delta(thinking="hm"), Delta("four"))
        )
        for line in (*pieces, last):
            ollama.GenerateResponse.model_validate(line)
        assert [(line["response"], line.get("thinking")) for line in pieces] == [("", "hm"), ("four", None)]
        assert last["response"] == ""
        assert last["done_reason"] == "stop"

    def test_whole(self) -> None:
        pieces = (Delta(thinking="hm"), Delta("four"), Delta(tool_calls=(ToolCall("f", {"a": 1}),)))
        chat = whole(asked(CHAT, {"messages": TALK}), *pieces)
        ollama.ChatResponse.model_validate(chat)
        assert chat["message"] == {
            "role": "assistant",
            "content": "four",
            "thinking": "hm",
            "tool_calls": [{"function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
        }
        generate = whole(asked(GENERATE, {"prompt": "hi"}), *pieces)
        ollama.GenerateResponse.model_validate(generate)
        assert (generate["response"], generate["thinking"]) == ("four", "hm")
        assert chat["done"] is generate["done"] is True
        assert chat["router"] == generate["router"] == ROUTER

    def test_a_whole_reply_keeps_what_the_servers_last_line_has(self) -> None:
        end = msgspec.json.encode(
            {
                "model": "x",
                "message": {"role": "assistant", "content": "", "odd": 1},
                "done": True,
                "context": [1],
                "eval_count": 3,
            }
        )
        found = asked(CHAT, {"messages": TALK})
        told = msgspec.json.decode(
            found.renderer.whole(answer(Delta("fo"), Delta("ur"), raw_end=(end,)), TOLD)
        )
        assert told == {
            "model": "x",
            "message": {"role": "assistant", "content": "four", "odd": 1},
            "done": True,
            "context": [1],
            "eval_count": 3,
            "router": ROUTER,
        }

    def test_broken(self) -> None:
        found = asked(CHAT, {"messages": TALK}).renderer.broken(StreamBroken("m: broke off", hint="h"), TOLD)
        assert lines(found) == [{"error": "m: broke off; hint: h"}]
