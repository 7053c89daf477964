"""What is promised of requests that have not come yet is kept by ``decide``, and is all that could be."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.support.worlds import classified, embedded, host, host_down, whole_fleet, world

from llm_router.errors import UnknownCategory, UnknownModel
from llm_router.fleet import Fleet, load_fleet
from llm_router.policy import World, decide
from llm_router.policy.promises import promise
from llm_router.request import Message, RouteRequest, Tool
from llm_router.tokens import TokenizerFamily

TOOL = Tool("get_weather")


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet()


def asking(tokens: int, *tools: Tool, family: TokenizerFamily | None = None) -> RouteRequest:
    """As long as words can be whose upper bound, for models of all families or one, is at most that."""
    families: tuple[TokenizerFamily, ...] = (family,) if family else ("large", "small")

    def made(words: int) -> RouteRequest:
        return RouteRequest((Message("user", "word " * words),), tools=tools)

    def most(request: RouteRequest) -> int:
        return max(request.estimate(one).high for one in families)

    low, high = 1, tokens
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if most(made(middle)) <= tokens else (low, middle - 1)
    return made(low)


def answering(request: RouteRequest, here: World, *kinds: str) -> dict[str, bool]:
    return {kind: bool(decide(request, classified(kind), here).chain) for kind in kinds}


def talking(fleet: Fleet) -> list[str]:
    return [name for name in fleet.categories if name != "embeddings"]


def test_a_prompt_as_long_as_promised_is_answered_whatever_kind_of_task_it_is(fleet: Fleet) -> None:
    here = world(fleet, whole_fleet(fleet))
    promised = promise(here)
    assert promised.kept
    assert all(answering(asking(promised.prompt_tokens), here, *talking(fleet)).values())


def test_no_more_could_be_promised(fleet: Fleet) -> None:
    here = world(fleet, whole_fleet(fleet))
    longer = asking(int(promise(here).prompt_tokens * 1.1))
    assert not all(answering(longer, here, *talking(fleet)).values())


def test_a_limit_on_the_answer_leaves_more_room_for_the_prompt(fleet: Fleet) -> None:
    here = world(fleet, host("qwen2.5:14b"))
    usual = promise(here, category="structured_data").prompt_tokens
    more = promise(here, category="structured_data", output_tokens=10).prompt_tokens
    assert more > usual
    longest = asking(more, family=here.standing("qwen2.5:14b").model.tokenizer)
    limited = replace(longest, options={"num_predict": 10})
    assert all(answering(limited, here, "structured_data").values())
    assert not any(answering(longest, here, "structured_data").values())


def test_tools_are_promised_only_where_their_requests_find_a_model(fleet: Fleet) -> None:
    with_tools = world(fleet, host("gpt-oss:20b", "gemma2:9b"))
    promised = promise(with_tools, tools=True)
    assert promised.kept
    assert all(answering(asking(promised.prompt_tokens, TOOL), with_tools, "agentic_tool_use").values())
    without = world(fleet, host("gemma2:9b"))
    assert not promise(without, tools=True).kept
    assert not any(answering(asking(50, TOOL), without, "agentic_tool_use").values())


def test_pictures_are_promised_only_where_every_kind_that_may_carry_them_has_a_model(fleet: Fleet) -> None:
    assert promise(world(fleet, whole_fleet(fleet)), pictures=True).kept
    assert not promise(world(fleet, host("qwen2.5:14b", "mistral:7b")), pictures=True).kept


def test_a_model_by_name_promises_what_it_can_itself(fleet: Fleet) -> None:
    here = world(fleet, host("llava:13b", "gpt-oss:20b"))
    assert promise(here, model="llava:13b", pictures=True).kept
    assert not promise(here, model="llava:13b", tools=True).kept
    assert promise(here, model="gpt-oss:20b", tools=True).kept
    assert not promise(here, model="gpt-oss:20b", pictures=True).kept
    assert promise(here, model="llava:13b").prompt_tokens < promise(here, model="gpt-oss:20b").prompt_tokens


def test_a_category_promises_what_its_own_models_can(fleet: Fleet) -> None:
    here = world(fleet, host("solar", "gpt-oss:20b"))
    assert promise(here, category="long_context").prompt_tokens > promise(here).prompt_tokens


def test_where_nothing_answers_nothing_is_promised(fleet: Fleet) -> None:
    assert promise(world(fleet, host_down())) == promise(world(fleet))
    assert not promise(world(fleet, host_down())).kept
    assert promise(world(fleet, host_down())).prompt_tokens == 0


def test_the_stand_in_promises_words_and_no_tools(fleet: Fleet) -> None:
    here = world(fleet, host_down(), embedded())
    assert promise(here).kept
    assert 0 < promise(here).prompt_tokens <= 4096
    assert not promise(here, tools=True).kept
    assert not promise(here, pictures=True).kept


def test_names_that_nobody_knows_are_refused(fleet: Fleet) -> None:
    here = world(fleet, whole_fleet(fleet))
    with pytest.raises(UnknownModel):
        promise(here, model="phi5")
    with pytest.raises(UnknownCategory):
        promise(here, category="no_such_category")
