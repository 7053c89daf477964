"""``/v1/messages``: blocks become messages, pieces become blocks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter
from tests.gateway.wires.golden import (
    ENDPOINTS,
    PNG,
    ROUTER,
    SCHEMA,
    TOLD,
    asked,
    events,
    streamed,
    to_ollama,
    to_openai,
    whole,
)

from llm_router.answer import Delta
from llm_router.errors import HostBusy, InvalidRequest, NoModelAvailable, StreamBroken
from llm_router.request import ToolCall

PATH = "/v1/messages"
TALK: Any = [{"role": "user", "content": "hi"}]
BODY: dict[str, Any] = {"model": "auto", "max_tokens": 5, "messages": TALK}
TOOL = {"name": "f", "description": "d", "input_schema": SCHEMA}
OTHER = {"name": "g", "input_schema": {}}
FUNCTION = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}


def messages(*given: Any) -> Any:
    return to_ollama(PATH, BODY | {"messages": list(given)})["messages"]


def test_the_least() -> None:
    assert to_ollama(PATH, BODY) == {
        "model": "m",
        "messages": TALK,
        "stream": True,
        "truncate": False,
        "options": {"num_predict": 5, "num_ctx": 4096},
    }


@pytest.mark.parametrize(
    ("field", "value", "name", "told"),
    [
        ("temperature", 0.1, "temperature", 0.1),
        ("top_p", 0.5, "top_p", 0.5),
        ("top_k", 3, "top_k", 3),
        ("stop_sequences", ["A"], "stop", ["A"]),
        ("max_tokens", 9, "num_predict", 9),
    ],
)
def test_options(field: str, value: Any, name: str, told: Any) -> None:
    assert to_ollama(PATH, BODY | {field: value})["options"][name] == told
    theirs = "max_tokens" if name == "num_predict" else name
    assert to_openai(PATH, BODY | {field: value})[theirs] == told


@pytest.mark.parametrize("value", [None, 0, -1, "5", 1.5])
def test_max_tokens_must_be_there(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="max_tokens"):
        asked(PATH, BODY | {"max_tokens": value})


@pytest.mark.parametrize(
    "system", ["a\nb", [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {}}]]
)
def test_system(system: Any) -> None:
    sent = to_ollama(PATH, BODY | {"system": system})
    assert sent["messages"] == [{"role": "system", "content": "a\nb"}, *TALK]


@pytest.mark.parametrize(
    ("given", "think"),
    [
        ({}, ...),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ({"thinking": {"type": "adaptive"}}, True),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"output_config": {"effort": "max"}}, ...),
    ],
)
def test_thinking(given: Any, think: Any) -> None:
    assert to_ollama(PATH, BODY | given).get("think", ...) == think


def test_a_schema_for_the_answer() -> None:
    body = BODY | {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
    assert to_ollama(PATH, body)["format"] == SCHEMA
    assert to_openai(PATH, body)["response_format"]["json_schema"]["schema"] == SCHEMA
    with pytest.raises(InvalidRequest, match=r"output_config\.format"):
        asked(PATH, BODY | {"output_config": {"format": {"type": "xml"}}})


def test_who_calls_and_unknown_fields() -> None:
    body = BODY | {"metadata": {"user_id": "u"}, "new": [1]}
    assert asked(PATH, body).request.session_id == "u"
    assert to_ollama(PATH, body)["new"] == [1]
    assert "metadata" not in to_ollama(PATH, body)


class TestTools:
    def test_which_are_offered(self) -> None:
        other = {"type": "function", "function": {"name": "g", "description": "", "parameters": {}}}
        for choice, offered, must in (
            (None, [FUNCTION, other], False),
            ({"type": "auto"}, [FUNCTION, other], False),
            ({"type": "any", "disable_parallel_tool_use": True}, [FUNCTION, other], True),
            ({"type": "tool", "name": "f"}, [FUNCTION], True),
            ({"type": "none"}, None, False),
        ):
            body = BODY | {"tools": [TOOL, OTHER], "tool_choice": choice}
            assert to_ollama(PATH, body).get("tools") == offered
            sent = to_openai(PATH, body)
            assert sent.get("tools") == offered
            assert sent.get("tool_choice") == ("required" if must else None)

    def test_a_choice_of_what_is_not_there_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="tool_choice"):
            asked(PATH, BODY | {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "nope"}})

    def test_tools_of_anthropics_own_are_left_out_beside_others(self) -> None:
        theirs = {"type": "web_search_20250305", "name": "web_search"}
        assert to_ollama(PATH, BODY | {"tools": [theirs, TOOL]})["tools"] == [FUNCTION]
        with pytest.raises(InvalidRequest, match="tool_choice"):
            asked(
                PATH,
                BODY | {"tools": [theirs, TOOL], "tool_choice": {"type": "tool", "name": "web_search"}},
            )

    def test_tools_of_anthropics_own_are_refused_alone(self) -> None:
        with pytest.raises(InvalidRequest, match="web_search"):
            asked(PATH, BODY | {"tools": [{"type": "web_search_20250305", "name": "web_search"}]})


class TestBlocks:
    def test_text_and_images(self) -> None:
        said = [{"type": "text", "text": "look"}, IMAGE, {"type": "text", "text": "here"}]
        assert messages({"role": "user", "content": said}) == [
            {"role": "user", "content": "look\nhere", "images": [PNG]}
        ]

    @pytest.mark.parametrize(
        "source",
        [
            {"type": "text", "media_type": "text/plain", "data": "words"},
            {"type": "content", "content": "words"},
            {"type": "content", "content": [{"type": "text", "text": "words"}]},
        ],
    )
    def test_documents(self, source: Any) -> None:
        block = {"type": "document", "title": "T", "source": source}
        assert messages({"role": "user", "content": [block]}) == [{"role": "user", "content": "T\nwords"}]

    def test_a_turn_with_tools(self) -> None:
        used = [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "I look"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
        ]
        results = [
            {"type": "tool_result", "tool_use_id": "t2", "is_error": True, "content": "broken"},
            {
                "type": "tool_result",
                "tool_use_id": "t1",
                "content": [{"type": "text", "text": "4"}, IMAGE],
            },
            {"type": "tool_result", "tool_use_id": "t1"},
            {"type": "text", "text": "go on"},
        ]
        found = messages(*TALK, {"role": "assistant", "content": used}, {"role": "user", "content": results})
        assert found[1:] == [
            {
                "role": "assistant",
                "content": "I look",
                "thinking": "hm",
                "tool_calls": [
                    {"function": {"name": "f", "arguments": {"a": 1}}, "id": "t1"},
                    {"function": {"name": "g", "arguments": {}}, "id": "t2"},
                ],
            },
            {"role": "tool", "content": "broken", "tool_name": "g", "tool_call_id": "t2"},
            {"role": "tool", "content": "4", "tool_name": "f", "tool_call_id": "t1"},
            {"role": "tool", "content": "", "tool_name": "f", "tool_call_id": "t1"},
            {"role": "user", "content": "go on", "images": [PNG]},
        ]

    @pytest.mark.parametrize(
        "block",
        [
            {"type": "image", "source": {"type": "url", "url": "http://x/a.png"}},
            {"type": "image", "source": {"type": "file", "file_id": "f"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "x"}},
            {"type": "video"},
            {"type": "image"},
            {"type": "image", "source": "http://x/a.png"},
            {"type": "search_result", "source": "s", "title": "t", "content": "words"},
            {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "search_result"}]},
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "video"}]},
            {"type": "tool_result", "tool_use_id": "t", "content": [3]},
        ],
    )
    def test_others_are_refused(self, block: Any) -> None:
        with pytest.raises(InvalidRequest):
            asked(PATH, BODY | {"messages": [{"role": "user", "content": [block]}]})

    @pytest.mark.parametrize("role", ["developer", "tool", ""])
    def test_other_roles(self, role: str) -> None:
        with pytest.raises(InvalidRequest, match="role"):
            asked(PATH, BODY | {"messages": [{"role": role, "content": "x"}]})

    def test_what_was_found(self) -> None:
        found = {
            "type": "search_result",
            "source": "notes/oslo.md",
            "title": "Oslo",
            "content": [{"type": "text", "text": "It rains."}, {"type": "text", "text": "Often."}],
            "citations": {"enabled": True},
        }
        told = "Oslo\nnotes/oslo.md\nIt rains.\nOften."
        assert messages({"role": "user", "content": [found, {"type": "text", "text": "Today?"}]}) == [
            {"role": "user", "content": f"{told}\nToday?"}
        ]
        used = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "t1", "content": [found]}
        turns = messages(
            *TALK, {"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}
        )
        assert turns[-1] == {"role": "tool", "content": told, "tool_name": "f", "tool_call_id": "t1"}

    @pytest.mark.parametrize("content", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
    def test_the_system_speaks_between_turns(self, content: Any) -> None:
        turns = [*TALK, {"role": "system", "content": content}]
        assert to_ollama(PATH, BODY | {"system": "s", "messages": turns})["messages"] == [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "hi"},
            {"role": "system", "content": "Be brief."},
        ]


class TestReply:
    def test_each_kind_of_piece(self) -> None:
        found = events(
            streamed(
                asked(PATH, BODY | {"stream": True}),
                Delta(thinking="h"),
                Delta(thinking="m"),
                Delta(),
                Delta("fo"),
                Delta("ur"),
                Delta(tool_calls=(ToolCall("f", {"a": 1}, "t1"), ToolCall("g", {}))),
            )
        )
        reader: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
        for event in found:
            reader.validate_python(event)
        assert found[0]["message"]["id"] == "msg_r1"
        assert found[0]["message"]["model"] == "m:7b"
        short = [
            (e["type"], e.get("index"), e.get("content_block", e.get("delta")))
            for e in found
            if e["type"].startswith("content")
        ]
        assert short == [
            ("content_block_start", 0, {"type": "thinking", "thinking": "", "signature": ""}),
            ("content_block_delta", 0, {"type": "thinking_delta", "thinking": "h"}),
            ("content_block_delta", 0, {"type": "thinking_delta", "thinking": "m"}),
            ("content_block_stop", 0, None),
            ("content_block_start", 1, {"type": "text", "text": ""}),
            ("content_block_delta", 1, {"type": "text_delta", "text": "fo"}),
            ("content_block_delta", 1, {"type": "text_delta", "text": "ur"}),
            ("content_block_stop", 1, None),
            ("content_block_start", 2, {"type": "tool_use", "id": "t1", "name": "f", "input": {}}),
            ("content_block_delta", 2, {"type": "input_json_delta", "partial_json": '{"a":1}'}),
            ("content_block_stop", 2, None),
            ("content_block_start", 3, {"type": "tool_use", "id": "toolu_r11", "name": "g", "input": {}}),
            ("content_block_delta", 3, {"type": "input_json_delta", "partial_json": "{}"}),
            ("content_block_stop", 3, None),
        ]
        assert found[-2]["delta"]["stop_reason"] == "tool_use"
        assert found[-2]["usage"]["output_tokens"] == 3
        assert found[-2]["router"] == ROUTER
        assert found[-1] == {"type": "message_stop"}

    def test_an_answer_without_a_word_has_a_text(self) -> None:
        found = events(streamed(asked(PATH, BODY), reason="length"))
        assert [e["type"] for e in found] == [
            "message_start",
            "content_block_start",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        assert found[-2]["delta"]["stop_reason"] == "max_tokens"

    def test_whole(self) -> None:
        pieces = (Delta(thinking="hm"), Delta("four"), Delta(tool_calls=(ToolCall("f", {"a": 1}, "t1"),)))
        told = whole(asked(PATH, BODY), *pieces)
        Message.model_validate(told)
        assert told["content"] == [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "four"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        ]
        assert told["stop_reason"] == "tool_use"
        assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"]) == (9, 3)
        assert told["router"] == ROUTER

    def test_calls_without_an_id_get_one_that_no_other_reply_has(self) -> None:
        calls = Delta(tool_calls=(ToolCall("f", {}), ToolCall("f", {})))
        ids = [block["id"] for block in whole(asked(PATH, BODY), calls)["content"]]
        assert ids == ["toolu_r10", "toolu_r11"]
        found = events(streamed(asked(PATH, BODY), calls))
        blocks = [event["content_block"] for event in found if event["type"] == "content_block_start"]
        assert [block["id"] for block in blocks] == ids

    def test_broken(self) -> None:
        found = events(asked(PATH, BODY).renderer.broken(StreamBroken("m: broke off"), TOLD))
        assert found == [{"type": "error", "error": {"type": "api_error", "message": "m: broke off"}}]

    @pytest.mark.parametrize(
        ("error", "status", "kind"),
        [
            (InvalidRequest("x"), 400, "invalid_request_error"),
            (NoModelAvailable("x"), 503, "overloaded_error"),
            (NoModelAvailable("x"), 400, "invalid_request_error"),
            (HostBusy("x"), 503, "overloaded_error"),
            (StreamBroken("x"), 502, "api_error"),
        ],
    )
    def test_errors(self, error: Any, status: int, kind: str) -> None:
        told = msgspec.json.decode(ENDPOINTS[PATH].error(error, status, "q1"))
        assert told == {"type": "error", "error": {"type": kind, "message": "x"}, "request_id": "q1"}


def test_counting() -> None:
    endpoint = ENDPOINTS["/v1/messages/count_tokens"]
    assert endpoint.direct is not None
    few = msgspec.json.decode(endpoint.direct(asked(endpoint.path, {"messages": TALK})))
    many = msgspec.json.decode(
        endpoint.direct(asked(endpoint.path, {"messages": TALK, "tools": [TOOL], "system": "Be brief."}))
    )
    assert 0 < few["input_tokens"] < many["input_tokens"]
