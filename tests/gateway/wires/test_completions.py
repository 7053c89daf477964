"""``/v1/completions``: one prompt, through Ollama's ``/api/generate`` or as it is."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import Completion
from tests.gateway.wires.golden import ROUTER, TOLD, asked, events, streamed, to_ollama, to_openai, whole

from llm_router.answer import Delta
from llm_router.errors import InvalidRequest, StreamBroken
from llm_router.request import ApiKind

PATH = "/v1/completions"
BODY: dict[str, Any] = {"model": "auto", "prompt": "Once"}
TOKEN: Any = {"token": "fo", "logprob": -0.5, "top_logprobs": [{"token": "ba", "logprob": -2.0}]}


def test_the_least() -> None:
    assert asked(PATH, BODY).request.kind is ApiKind.GENERATE
    assert to_ollama(PATH, BODY) == {
        "model": "m",
        "prompt": "Once",
        "stream": True,
        "truncate": False,
        "options": {"num_ctx": 4096},
    }


def test_every_field() -> None:
    body = BODY | {
        "prompt": ["Once"],
        "suffix": "end",
        "max_tokens": 5,
        "temperature": 0.1,
        "stop": ["A"],
        "seed": 1,
        "logprobs": 2,
        "echo": True,
        "user": "u",
    }
    sent = to_ollama(PATH, body)
    assert sent["options"] == {
        "num_predict": 5,
        "temperature": 0.1,
        "stop": ["A"],
        "seed": 1,
        "num_ctx": 4096,
    }
    expected = {"prompt": "Once", "suffix": "end", "logprobs": True, "top_logprobs": 2, "echo": True}
    assert {name: sent[name] for name in expected} == expected
    assert asked(PATH, body).request.session_id == "u"
    assert to_openai(PATH, body) == body | {"model": "m"}  # it has a suffix, which only this path takes


def test_a_plain_prompt_becomes_a_chat_where_a_server_may_only_chat() -> None:
    assert to_openai(PATH, BODY)["messages"] == [{"role": "user", "content": "Once"}]


@pytest.mark.parametrize("logprobs", [0, 1, 5])
def test_one_number_says_both(logprobs: int) -> None:
    sent = to_ollama(PATH, BODY | {"logprobs": logprobs})
    assert sent["logprobs"] is True
    assert sent.get("top_logprobs", 0) == logprobs


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], 3, None, {"a": 1}])
def test_what_is_no_prompt(prompt: Any) -> None:
    with pytest.raises(InvalidRequest):
        asked(PATH, {"model": "auto", "prompt": prompt})


def test_a_conversation_belongs_elsewhere() -> None:
    with pytest.raises(InvalidRequest, match="no prompt"):
        asked(PATH, {"messages": [{"role": "user", "content": "hi"}]})


def test_pieces() -> None:
    found = events(
        streamed(
            asked(PATH, BODY | {"stream": True}), Delta(thinking="hm"), Delta(text="fo", logprobs=(TOKEN,))
        )
    )
    assert found[-1] == "[DONE]"
    text, last = found[:-1]
    Completion.model_validate(last | {"choices": [{**last["choices"][0], "finish_reason": "stop"}]})
    assert text["id"] == last["id"] == "cmpl-r1"
    assert text["choices"][0]["text"] == "fo"
    assert text["choices"][0]["logprobs"] == {
        "tokens": ["fo"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"ba": -2.0}],
        "text_offset": [0],
    }
    assert last["choices"][0] == {"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}
    assert last["router"] == ROUTER


def test_the_count() -> None:
    wanted = BODY | {"stream": True, "stream_options": {"include_usage": True}}
    found = events(streamed(asked(PATH, wanted), Delta(text="x")))
    assert found[-2]["usage"]["total_tokens"] == 12
    assert found[-2]["choices"] == []


def test_whole() -> None:
    told = whole(asked(PATH, BODY), Delta(text="four"), reason="length")
    Completion.model_validate(told)
    assert told["object"] == "text_completion"
    assert told["choices"] == [{"text": "four", "index": 0, "logprobs": None, "finish_reason": "length"}]
    assert told["usage"] == {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    assert told["router"] == ROUTER


def test_broken() -> None:
    found = events(asked(PATH, BODY).renderer.broken(StreamBroken("x"), TOLD))
    assert found[0]["error"]["code"] == "stream_broken"
