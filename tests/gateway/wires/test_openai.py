"""``/v1/chat/completions``: each field to both kinds of servers, each kind of piece to its event."""

from __future__ import annotations

from typing import Any

import openai.types.chat as types
import pytest
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
from llm_router.fleet.schema import Quirks
from llm_router.request import ToolCall

PATH = "/v1/chat/completions"
TALK: Any = [{"role": "user", "content": "hi"}]
BODY: dict[str, Any] = {"model": "auto", "messages": TALK}
FOLD = Quirks(system_role=False)
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
OTHER = {"type": "function", "function": {"name": "g", "description": "", "parameters": {}}}

OPTIONS = [
    ("temperature", 0.1, "temperature", 0.1),
    ("top_p", 0.5, "top_p", 0.5),
    ("top_k", 3, "top_k", 3),
    ("min_p", 0.1, "min_p", 0.1),
    ("typical_p", 0.2, "typical_p", 0.2),
    ("seed", 7, "seed", 7),
    ("stop", "END", "stop", ["END"]),
    ("stop", ["A", "B"], "stop", ["A", "B"]),
    ("frequency_penalty", 0.3, "frequency_penalty", 0.3),
    ("presence_penalty", 0.2, "presence_penalty", 0.2),
    ("max_tokens", 5, "num_predict", 5),
    ("max_completion_tokens", 6, "num_predict", 6),
    ("repetition_penalty", 1.1, "repeat_penalty", 1.1),
]


@pytest.mark.parametrize(("field", "value", "name", "told"), OPTIONS)
def test_options_for_ollama(field: str, value: Any, name: str, told: Any) -> None:
    assert to_ollama(PATH, BODY | {field: value})["options"] == {name: told, "num_ctx": 4096}


@pytest.mark.parametrize(("field", "value", "name", "told"), OPTIONS)
def test_options_for_a_server_of_the_same_api_stay_as_they_are(
    field: str, value: Any, name: str, told: Any
) -> None:
    assert to_openai(PATH, BODY | {field: value}) == BODY | {field: value, "model": "m"}


def test_nothing_is_added_that_was_not_asked_for() -> None:
    assert to_ollama(PATH, BODY) == {
        "model": "m",
        "messages": TALK,
        "stream": True,
        "truncate": False,
        "options": {"num_ctx": 4096},
    }
    assert to_openai(PATH, BODY) == BODY | {"model": "m"}


def test_a_stream_of_such_a_server_counts_whatever_the_caller_asked() -> None:
    assert to_openai(PATH, BODY | {"stream": True})["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}, SCHEMA),
    ],
)
def test_the_form_of_the_answer(given: Any, told: Any) -> None:
    assert to_ollama(PATH, BODY | {"response_format": given}).get("format") == told
    assert to_openai(PATH, BODY | {"response_format": given})["response_format"] == given


def test_logprobs() -> None:
    body = to_ollama(PATH, BODY | {"logprobs": True, "top_logprobs": 2})
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, False),
        ({"reasoning_effort": "low"}, "low"),
        ({"reasoning_effort": "xhigh"}, "high"),
        ({"reasoning": {"effort": "medium"}}, "medium"),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, "high"),
        ({"reasoning": {"max_tokens": 5}}, ...),
    ],
)
def test_how_hard_to_think(given: Any, told: Any) -> None:
    assert to_ollama(PATH, BODY | given).get("think", ...) == told


def test_unknown_fields_reach_every_server() -> None:
    more = {"logit_bias": {"1": 2}, "new": [1, {"a": None}], "keep_alive": "5m", "service_tier": "auto"}
    sent = to_ollama(PATH, BODY | {"model": "x"} | more)
    assert {name: sent[name] for name in more} == more
    assert to_openai(PATH, BODY | more) == BODY | {"model": "m"} | more
    assert (
        to_openai(
            PATH, BODY | {"new": 1, "messages": [{"role": "system", "content": "s"}, *TALK]}, quirks=FOLD
        )["new"]
        == 1
    )


class TestMessages:
    def test_roles_and_parts(self) -> None:
        messages: Any = [
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {
                        "type": "image_url",
                        "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"},
                    },
                    {"type": "image_url", "image_url": PNG},
                ],
            },
        ]
        assert to_ollama(PATH, {"messages": messages})["messages"] == [
            {"role": "system", "content": "a\nb"},
            {"role": "user", "content": "look", "images": [PNG, PNG]},
        ]
        assert to_openai(PATH, {"messages": messages})["messages"] == messages

    def test_earlier_calls_thoughts_and_results(self) -> None:
        messages: Any = [
            *TALK,
            {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "hm"},
            {"role": "tool", "tool_call_id": "c1", "content": "4"},
            {"role": "assistant", "content": "4", "reasoning": "so"},
            {"role": "user", "content": "thanks"},
        ]
        assert to_ollama(PATH, {"messages": messages})["messages"][1:4] == [
            {
                "role": "assistant",
                "content": "",
                "thinking": "hm",
                "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}, "id": "c1"}],
            },
            {"role": "tool", "content": "4", "tool_name": "f", "tool_call_id": "c1"},
            {"role": "assistant", "content": "4", "thinking": "so"},
        ]

    def test_a_model_without_a_system_role_gets_its_words_in_the_users(self) -> None:
        messages: Any = [{"role": "developer", "content": "s"}, *TALK]
        expected = [{"role": "user", "content": "s\n\nhi"}]
        assert to_ollama(PATH, {"messages": messages}, quirks=FOLD)["messages"] == expected
        assert to_openai(PATH, {"messages": messages}, quirks=FOLD)["messages"] == expected

    @pytest.mark.parametrize("kind", ["input_audio", "file", "video_url"])
    def test_other_parts_are_refused(self, kind: str) -> None:
        with pytest.raises(InvalidRequest, match=kind):
            asked(PATH, {"messages": [{"role": "user", "content": [{"type": kind, kind: {}}]}]})


def allowed(mode: str) -> Any:
    named = {"type": "function", "function": {"name": "f"}}
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named]}}


class TestTools:
    def test_which_are_offered(self) -> None:
        both = BODY | {"tools": [TOOL, OTHER]}
        named = {"type": "function", "function": {"name": "f"}}
        for choice, offered, must in (
            (None, [TOOL, OTHER], False),
            ("auto", [TOOL, OTHER], False),
            ("required", [TOOL, OTHER], True),
            (named, [TOOL], True),
            ({"type": "auto"}, [TOOL, OTHER], False),
            (allowed("auto"), [TOOL], False),
            (allowed("required"), [TOOL], True),
            ("none", None, False),
        ):
            body = both | {"tool_choice": choice}
            assert to_ollama(PATH, body).get("tools") == offered
            assert asked(PATH, body).request.must_call is must
            assert to_openai(PATH, body)["tool_choice"] == choice

    @pytest.mark.parametrize(
        "choice",
        [
            {"type": "function", "function": {"name": "nope"}},
            {"type": "function"},
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
            {"type": "allowed_tools", "allowed_tools": [3]},
            {"type": "custom", "custom": {"name": "f"}},
        ],
    )
    def test_a_choice_of_what_is_not_there_is_refused(self, choice: Any) -> None:
        with pytest.raises(InvalidRequest, match="tool_choice"):
            asked(PATH, BODY | {"tools": [TOOL], "tool_choice": choice})

    def test_tools_that_are_no_functions_are_left_out_beside_some_and_refused_alone(self) -> None:
        custom = {"type": "custom", "custom": {"name": "x"}}
        assert to_ollama(PATH, BODY | {"tools": [custom, TOOL]})["tools"] == [TOOL]
        with pytest.raises(InvalidRequest, match="tools"):
            asked(PATH, BODY | {"tools": [custom]})

    def test_a_rewritten_body_still_requires_a_call(self) -> None:
        messages: Any = [{"role": "system", "content": "s"}, *TALK]
        body = {"messages": messages, "tools": [TOOL], "tool_choice": "required"}
        assert to_openai(PATH, body, quirks=FOLD)["tool_choice"] == "required"

    def test_the_older_functions(self) -> None:
        assert to_ollama(PATH, BODY | {"functions": [TOOL["function"]]})["tools"] == [TOOL]
        called = {"name": "f", "arguments": '{"a":1}'}
        turns = [
            *TALK,
            {"role": "assistant", "content": None, "function_call": called},
            {"role": "function", "name": "f", "content": "4"},
        ]
        assert to_ollama(PATH, BODY | {"messages": turns})["messages"][1:] == [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "4", "tool_name": "f"},
        ]

    def test_who_sent_functions_reads_the_call_where_it_looks_for_it(self) -> None:
        body = BODY | {"functions": [TOOL["function"]]}
        calls = Delta(tool_calls=(ToolCall("f", {"a": 1}, "c1"), ToolCall("g", {}, "c2")))
        called = {"name": "f", "arguments": '{"a":1}'}
        choice = whole(asked(PATH, body), calls)["choices"][0]
        assert choice["finish_reason"] == "function_call"
        assert choice["message"]["function_call"] == called
        assert [call["id"] for call in choice["message"]["tool_calls"]] == ["c1", "c2"]
        chunks = events(streamed(asked(PATH, body), calls, calls))[:-1]
        told = [chunk["choices"][0]["delta"].get("function_call") for chunk in chunks]
        assert told == [called, None, None]  # once: clients put the pieces of it together
        assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"
        none = whole(asked(PATH, body), Delta("four"))["choices"][0]
        assert none["finish_reason"] == "stop" and "function_call" not in none["message"]


class TestReply:
    def test_each_kind_of_piece(self) -> None:
        found = events(
            streamed(
                asked(PATH, BODY | {"stream": True}),
                Delta(thinking="hm"),
                Delta(),
                Delta(text="fo", logprobs=({"token": "fo", "logprob": -1.0},)),
                Delta(tool_calls=(ToolCall("f", {"a": 1}, "c1"), ToolCall("g", {}))),
            )
        )
        assert found[-1] == "[DONE]"
        head = {
            "id": "chatcmpl-r1",
            "created": 1_700_000_000,
            "model": "m:7b",
            "object": "chat.completion.chunk",
            "system_fingerprint": "fp_llm_router",
        }
        for chunk in found[:-1]:
            types.ChatCompletionChunk.model_validate(chunk)
            assert {name: chunk[name] for name in head} == head
        assert [chunk["choices"][0]["delta"] for chunk in found[:-1]] == [
            {"role": "assistant", "content": "", "reasoning": "hm", "reasoning_content": "hm"},
            {"content": "fo"},
            {
                "tool_calls": [
                    {"index": 0, **CALL},
                    {
                        "index": 1,
                        "id": "call_r11",
                        "type": "function",
                        "function": {"name": "g", "arguments": "{}"},
                    },
                ]
            },
            {},
        ]
        assert found[1]["choices"][0]["logprobs"]["content"] == [
            {"token": "fo", "logprob": -1.0, "bytes": [102, 111], "top_logprobs": []}
        ]
        assert [chunk["choices"][0]["finish_reason"] for chunk in found[:-1]] == [
            None,
            None,
            None,
            "tool_calls",
        ]
        assert found[-2]["router"] == ROUTER

    def test_the_count_is_an_event_of_its_own_where_it_is_wanted(self) -> None:
        wanted = BODY | {"stream": True, "stream_options": {"include_usage": True}}
        last, count, done = events(streamed(asked(PATH, wanted), Delta(text="x"), reason="length"))[-3:]
        assert last["choices"][0]["finish_reason"] == "length"
        assert "router" not in last
        assert count["choices"] == []
        assert count["usage"] == {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
        assert count["router"] == ROUTER
        assert done == "[DONE]"

    def test_whole(self) -> None:
        pieces = (
            Delta(thinking="hm"),
            Delta(
                text="four", logprobs=({"token": "four", "logprob": -1.0, "bytes": None, "top_logprobs": []},)
            ),
        )
        told = whole(asked(PATH, BODY), *pieces)
        types.ChatCompletion.model_validate(told)
        assert told["choices"] == [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "four",
                    "reasoning": "hm",
                    "reasoning_content": "hm",
                    "refusal": None,
                },
                "finish_reason": "stop",
                "logprobs": {
                    "content": [{"token": "four", "logprob": -1.0, "bytes": None, "top_logprobs": []}],
                    "refusal": None,
                },
            }
        ]
        assert told["usage"]["total_tokens"] == 12
        assert told["router"] == ROUTER

    def test_a_whole_call(self) -> None:
        told = whole(asked(PATH, BODY), Delta(tool_calls=(ToolCall("f", {"a": 1}, "c1"),)))
        assert told["choices"][0]["message"] == {
            "role": "assistant",
            "content": None,
            "tool_calls": [CALL],
            "refusal": None,
        }
        assert told["choices"][0]["finish_reason"] == "tool_calls"

    def test_calls_without_an_id_get_one_that_no_other_reply_has(self) -> None:
        found, calls = asked(PATH, BODY), Delta(tool_calls=(ToolCall("f", {}), ToolCall("f", {})))
        ids = [call["id"] for call in whole(found, calls)["choices"][0]["message"]["tool_calls"]]
        assert ids == ["call_r10", "call_r11"]
        chunks = events(streamed(asked(PATH, BODY), calls, calls))[:2]
        shown = [call["id"] for chunk in chunks for call in chunk["choices"][0]["delta"]["tool_calls"]]
        assert shown == [*ids, "call_r12", "call_r13"]

    def test_a_stream_that_breaks_ends_with_an_error_and_is_not_done(self) -> None:
        data = asked(PATH, BODY).renderer.broken(StreamBroken("m: the answer broke off"), TOLD)
        assert events(data) == [
            {
                "error": {
                    "message": "m: the answer broke off",
                    "type": "api_error",
                    "param": None,
                    "code": "stream_broken",
                }
            }
        ]
