"""``/v1/responses``: items become messages, pieces become items."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.gateway.wires.golden import (
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
from llm_router.errors import InvalidRequest, StreamBroken
from llm_router.request import ToolCall

PATH = "/v1/responses"
BODY: dict[str, Any] = {"model": "auto", "input": "hi"}
TOOL = {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
OTHER = {"type": "function", "name": "g", "parameters": {}}
FUNCTION = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
TOKEN: Any = {"token": "fo", "logprob": -0.5}
FULL_TOKEN: Any = {"bytes": [102, 111], "top_logprobs": [], **TOKEN}


def messages(*items: Any) -> Any:
    return to_ollama(PATH, {"input": list(items)})["messages"]


def test_the_least() -> None:
    assert to_ollama(PATH, BODY) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "truncate": False,
        "options": {"num_ctx": 4096},
    }


def test_every_field() -> None:
    body = BODY | {
        "instructions": "s",
        "max_output_tokens": 5,
        "temperature": 0.1,
        "top_p": 0.5,
        "reasoning": {"effort": "minimal", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True}},
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "user": "u",
        "store": False,
        "metadata": {"a": "b"},
        "new": 1,
    }
    assert to_ollama(PATH, body) == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}],
        "stream": True,
        "truncate": False,
        "options": {"num_predict": 5, "temperature": 0.1, "top_p": 0.5, "num_ctx": 4096},
        "format": SCHEMA,
        "think": False,
        "logprobs": True,
        "top_logprobs": 2,
        "new": 1,
    }
    assert asked(PATH, body).request.session_id == "u"
    sent = to_openai(PATH, body)
    expected = {
        "max_tokens": 5,
        "temperature": 0.1,
        "top_p": 0.5,
        "logprobs": True,
        "top_logprobs": 2,
        "new": 1,
    }
    assert {name: sent[name] for name in expected} == expected
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("given", "told"),
    [({"type": "text"}, None), ({"type": "json_object"}, "json"), ({"type": "json_schema"}, "json")],
)
def test_forms(given: Any, told: Any) -> None:
    assert to_ollama(PATH, BODY | {"text": {"format": given}}).get("format") == told


@pytest.mark.parametrize(
    "field", [{"previous_response_id": "resp_1"}, {"conversation": "c"}, {"background": True}]
)
def test_nothing_is_remembered(field: Any) -> None:
    with pytest.raises(InvalidRequest, match="nothing of an earlier response"):
        asked(PATH, BODY | field)


def allowed(mode: str) -> Any:
    return {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": "f"}]}


class TestTools:
    def test_which_are_offered(self) -> None:
        other = {"type": "function", "function": {"name": "g", "description": "", "parameters": {}}}
        for choice, offered, must in (
            (None, [FUNCTION, other], False),
            ("required", [FUNCTION, other], True),
            ({"type": "function", "name": "f"}, [FUNCTION], True),
            (allowed("auto"), [FUNCTION], False),
            (allowed("required"), [FUNCTION], True),
            ("none", None, False),
        ):
            body = BODY | {"tools": [TOOL, OTHER], "tool_choice": choice}
            assert to_ollama(PATH, body).get("tools") == offered
            assert to_openai(PATH, body).get("tool_choice") == ("required" if must else None)

    def test_a_choice_of_what_is_not_there_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="tool_choice"):
            asked(PATH, BODY | {"tools": [TOOL], "tool_choice": {"type": "function", "name": "nope"}})

    def test_openais_own_are_left_out_beside_functions(self) -> None:
        theirs = [{"type": "web_search"}, {"type": "custom", "name": "patch", "format": {"type": "text"}}]
        body = BODY | {"tools": [*theirs, TOOL], "tool_choice": "auto"}
        assert to_ollama(PATH, body)["tools"] == [FUNCTION]
        assert whole(asked(PATH, body), Delta("four"))["tools"] == [TOOL]
        with pytest.raises(InvalidRequest, match="tool_choice"):
            asked(PATH, body | {"tool_choice": {"type": "web_search"}})

    def test_openais_own_are_refused_alone(self) -> None:
        with pytest.raises(InvalidRequest, match="web_search"):
            asked(PATH, BODY | {"tools": [{"type": "web_search"}]})


class TestItems:
    def test_messages(self) -> None:
        assert messages(
            {"role": "developer", "content": "d"},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "look"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
                ],
            },
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "status": "completed",
                "content": [{"type": "output_text", "text": "a dog", "annotations": []}],
            },
            {"role": "user", "content": "sure?"},
        ) == [
            {"role": "system", "content": "d"},
            {"role": "user", "content": "look", "images": [PNG]},
            {"role": "assistant", "content": "a dog"},
            {"role": "user", "content": "sure?"},
        ]

    def test_calls_of_one_turn_are_one_message(self) -> None:
        """Templates of models break on two messages of the assistant, or on a result without its call."""
        found = messages(
            {"role": "user", "content": "hi"},
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"role": "assistant", "content": "I look"},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": ""},
            {"type": "function_call_output", "call_id": "c2", "output": "two"},
            {
                "type": "function_call_output",
                "call_id": "c1",
                "output": [
                    {"type": "input_text", "text": "one"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
                ],
            },
        )
        assert found[1:] == [
            {
                "role": "assistant",
                "content": "I look",
                "thinking": "hm",
                "tool_calls": [
                    {"function": {"name": "f", "arguments": {"a": 1}}, "id": "c1"},
                    {"function": {"name": "g", "arguments": {}}, "id": "c2"},
                ],
            },
            {"role": "tool", "content": "two", "tool_name": "g", "tool_call_id": "c2"},
            {"role": "tool", "content": "one", "tool_name": "f", "tool_call_id": "c1"},
            {"role": "user", "content": "", "images": [PNG]},
        ]

    def test_a_new_turn_of_calls_is_a_new_message(self) -> None:
        call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
        result = {"type": "function_call_output", "call_id": "c", "output": "x"}
        found = messages({"role": "user", "content": "hi"}, call, result, call, result)
        assert [m["role"] for m in found] == ["user", "assistant", "tool", "assistant", "tool"]

    @pytest.mark.parametrize(
        "item",
        [
            {"type": "item_reference", "id": "x"},
            {"type": "computer_call_output", "call_id": "c", "output": {}},
            {"role": "tool", "content": "x"},
            {"role": "user", "content": [{"type": "input_file", "file_id": "f"}]},
            {"role": "user", "content": [{"type": "input_image", "file_id": "f"}]},
            {"role": "user", "content": [{"type": "input_image", "image_url": "http://x/a.png"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "[]"},
        ],
    )
    def test_others_are_refused(self, item: Any) -> None:
        with pytest.raises(InvalidRequest):
            asked(PATH, {"input": [{"role": "user", "content": "hi"}, item]})


class TestReply:
    def test_each_kind_of_piece(self) -> None:
        found = events(
            streamed(
                asked(PATH, BODY | {"stream": True}),
                Delta(thinking="hm"),
                Delta("fo", logprobs=(TOKEN,)),
                Delta("ur"),
                Delta(tool_calls=(ToolCall("f", {"a": 1}, "c1"), ToolCall("g", {}))),
            )
        )
        reader: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
        for event in found:
            reader.validate_python(event)
        assert [event["sequence_number"] for event in found] == list(range(len(found)))
        assert [(e["type"].removeprefix("response."), e.get("output_index")) for e in found] == [
            ("created", None),
            ("in_progress", None),
            ("output_item.added", 0),
            ("reasoning_summary_part.added", 0),
            ("reasoning_summary_text.delta", 0),
            ("reasoning_summary_text.done", 0),
            ("reasoning_summary_part.done", 0),
            ("output_item.done", 0),
            ("output_item.added", 1),
            ("content_part.added", 1),
            ("output_text.delta", 1),
            ("output_text.delta", 1),
            ("output_text.done", 1),
            ("content_part.done", 1),
            ("output_item.done", 1),
            *(
                (kind, place)
                for place in (2, 3)
                for kind in (
                    "output_item.added",
                    "function_call_arguments.delta",
                    "function_call_arguments.done",
                    "output_item.done",
                )
            ),
            ("completed", None),
        ]
        last = found[-1]["response"]
        assert [item["type"] for item in last["output"]] == [
            "reasoning",
            "message",
            "function_call",
            "function_call",
        ]
        assert last["output"][1]["content"] == [
            {"type": "output_text", "text": "four", "annotations": [], "logprobs": [FULL_TOKEN]}
        ]
        assert last["output"][2]["call_id"] == "c1"
        assert last["output"][2]["arguments"] == '{"a":1}'
        assert last["usage"]["total_tokens"] == 12
        assert last["router"] == ROUTER
        ids = [item["id"] for item in last["output"]]
        assert len(set(ids)) == len(ids)

    def test_whole_is_as_the_end_of_a_stream(self) -> None:
        pieces = (
            Delta(thinking="hm"),
            Delta("four", logprobs=(TOKEN,)),
            Delta(tool_calls=(ToolCall("f", {}, "c"),)),
        )
        told = whole(asked(PATH, BODY), *pieces)
        Response.model_validate(told)
        assert told == events(streamed(asked(PATH, BODY), *pieces))[-1]["response"]

    def test_what_was_asked_is_told_back(self) -> None:
        text = {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True}}
        body = BODY | {
            "text": text,
            "tools": [TOOL],
            "instructions": "s",
            "metadata": {"a": "b"},
            "user": "u",
        }
        told = whole(asked(PATH, body), Delta("{}"))
        Response.model_validate(told)
        assert told["text"] == text
        assert told["tools"] == [TOOL]
        assert (told["instructions"], told["metadata"], told["user"]) == ("s", {"a": "b"}, "u")
        assert told["store"] is False

    def test_a_short_answer_is_incomplete(self) -> None:
        last = events(streamed(asked(PATH, BODY), Delta("fo"), reason="length"))[-1]
        assert last["type"] == "response.incomplete"
        assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}

    def test_what_was_cut_off_is_incomplete_and_what_came_before_it_is_not(self) -> None:
        for pieces, told in (
            ((Delta("fo"),), ["incomplete"]),
            ((Delta(thinking="hm"), Delta("fo")), [None, "incomplete"]),
            ((Delta(thinking="hm"),), [None]),
            ((), ["incomplete"]),
            ((Delta("four"), Delta(tool_calls=(ToolCall("f", {}, "c"),))), ["completed", "completed"]),
        ):
            found = events(streamed(asked(PATH, BODY), *pieces, reason="length"))
            done = [event["item"].get("status") for event in found if event["type"].endswith("item.done")]
            assert done == told
            again = whole(asked(PATH, BODY), *pieces, reason="length")
            Response.model_validate(again)
            assert again["output"] == found[-1]["response"]["output"]

    def test_calls_without_an_id_get_one_that_no_other_reply_has(self) -> None:
        calls = Delta(tool_calls=(ToolCall("f", {}), ToolCall("f", {})))
        told = whole(asked(PATH, BODY), calls)["output"]
        assert [item["call_id"] for item in told] == ["call_r10", "call_r11"]
        assert told == events(streamed(asked(PATH, BODY), calls))[-1]["response"]["output"]

    def test_broken(self) -> None:
        renderer = asked(PATH, BODY).renderer
        renderer.begin(TOLD)
        renderer.piece(Delta("fo"))
        last = events(renderer.broken(StreamBroken("m: broke off"), TOLD))[-1]
        assert last["type"] == "response.failed"
        assert last["response"]["error"] == {"code": "server_error", "message": "m: broke off"}
        assert last["response"]["output"][0]["content"][0]["text"] == "fo"
