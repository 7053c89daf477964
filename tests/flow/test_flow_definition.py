"""How the Flow is put together: handlers from the fleet, subclasses that change one step, labels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from crewai.flow.flow import Flow, listen
from tests.flow.conftest import MEDIUM_TEXT, settings_for

from llm_router.errors import ConfigError, UnknownCategory
from llm_router.flow import DynamicModelFlow, handler_names, labels_and_handlers
from llm_router.shared import close_shared
from llm_router.sync import SyncRouter
from llm_router.testing.fake_ollama import FakeOllama

pytestmark = pytest.mark.crewai

KOREAN = "한국의 전통 명절에 대해 설명해 줘"


@pytest.fixture
def nothing_shared() -> Iterator[None]:
    yield
    close_shared()


def test_crewai_sees_a_start_a_router_and_one_handler_per_category(flow: DynamicModelFlow) -> None:
    assert isinstance(flow, Flow)
    methods = type(flow).flow_definition().methods
    assert methods["classify_task"].is_start
    assert methods["route_by_category"].emit == list(flow.fleet.categories)
    assert len(labels_and_handlers(flow)) == len(flow.fleet.categories) == 18
    for label, handler in labels_and_handlers(flow):
        assert handler == f"run_{label}"
        assert methods[handler].listen == label


def test_no_label_is_also_the_name_of_a_step(flow: DynamicModelFlow) -> None:
    steps = set(type(flow).flow_definition().methods)
    assert not steps & set(flow.fleet.categories)


def test_a_subclass_replaces_one_handler_and_keeps_all_others(router: SyncRouter) -> None:
    class Mine(DynamicModelFlow):
        def run_korean_multilingual(self) -> dict[str, Any]:
            return {"result": f"mine: {self.state.category}"}

    flow = Mine(router)
    assert flow.kickoff(task_description=KOREAN) == {"result": "mine: korean_multilingual"}
    assert flow.kickoff(task_description="Is it sunny?", tools=[_tool()])["answer_model"] == "gpt-oss:20b"
    assert len(labels_and_handlers(flow)) == 18


def test_an_empty_subclass_and_a_subclass_of_a_subclass_keep_every_step(router: SyncRouter) -> None:
    class Child(DynamicModelFlow):
        def run_simple_chat(self) -> str:
            return "child"

    class Grandchild(Child):
        pass

    flow = Grandchild(router)
    assert flow.kickoff(task_description=KOREAN)["answer_model"] == "solar"
    assert routed_to("simple_chat", Grandchild)(router).kickoff(task_description=KOREAN) == "child"


def test_a_replaced_handler_can_call_the_usual_one(router: SyncRouter) -> None:
    class Mine(DynamicModelFlow):
        def run_korean_multilingual(self) -> dict[str, Any]:
            return {**super().run_korean_multilingual(), "reviewed": True}  # type: ignore[misc]

    result = Mine(router).kickoff(task_description=KOREAN)
    assert (result["answer_model"], result["reviewed"]) == ("solar", True)


def test_a_replaced_handler_may_be_decorated_asynchronous_or_take_the_label(router: SyncRouter) -> None:
    class Decorated(DynamicModelFlow):
        @listen("korean_multilingual")
        def run_korean_multilingual(self) -> str:
            return "decorated"

    class Asynchronous(DynamicModelFlow):
        async def run_korean_multilingual(self) -> str:
            await asyncio.sleep(0)
            return "asynchronous"

    class Labelled(DynamicModelFlow):
        def run_korean_multilingual(self, label: str) -> str:
            return f"label {label}"

    given = {"task_description": KOREAN}
    assert Decorated(router).kickoff(given) == "decorated"
    assert Asynchronous(router).kickoff(given) == "asynchronous"
    assert Labelled(router).kickoff(given) == "label korean_multilingual"


def test_a_further_listener_of_a_subclass_runs_after_the_handler(router: SyncRouter) -> None:
    class Audited(DynamicModelFlow):
        @listen("run_korean_multilingual")
        def audit(self, answer: dict[str, Any]) -> dict[str, Any]:
            return {"audited": answer["answer_model"]}

    class Child(Audited):
        pass

    assert Audited(router).kickoff(task_description=KOREAN) == {"audited": "solar"}
    assert Child(router).kickoff(task_description=KOREAN) == {"audited": "solar"}


def test_a_subclass_with_its_own_constructor_and_fields_keeps_them_in_every_run(router: SyncRouter) -> None:
    class Counting(DynamicModelFlow):
        prefix: str = "-"

        def __init__(self, seen: list[str], **options: Any) -> None:
            super().__init__(router, **options)
            self.seen = seen

        def run_korean_multilingual(self) -> str:
            self.seen.append(self.prefix)
            return self.prefix

    seen: list[str] = []
    flow = Counting(seen, prefix=">")
    assert [flow.kickoff(task_description=KOREAN) for _ in range(2)] == [">", ">"]
    assert seen == [">", ">"]


def test_routing_elsewhere_lets_that_categorys_model_answer(router: SyncRouter) -> None:
    result = routed_to("simple_chat")(router).kickoff(task_description=KOREAN)
    assert (result["category"], result["stage"]) == ("simple_chat", "explicit")
    assert result["selected_model"] == result["answer_model"] == "mistral:7b"


@pytest.mark.parametrize("label", ["no_such_category", "run_simple_chat", "classify_task", None])
def test_a_label_that_is_no_category_is_an_error_and_never_the_result(
    router: SyncRouter, label: str | None
) -> None:
    with pytest.raises(UnknownCategory, match=str(label)):
        routed_to(label)(router).kickoff(task_description=KOREAN)


def test_an_exception_of_a_handler_comes_out_as_it_is(router: SyncRouter) -> None:
    flow = failing_with(ValueError("mine"))(router)
    with pytest.raises(ValueError, match="mine"):
        flow.kickoff(task_description=KOREAN)


async def test_a_runtime_error_inside_a_running_loop_comes_out_as_it_is(router: SyncRouter) -> None:
    flow = failing_with(RuntimeError("mine"))(router)
    with pytest.raises(RuntimeError, match="mine"):
        flow.kickoff(task_description=KOREAN)


def test_a_category_of_a_users_file_has_a_handler_and_is_really_run(
    ollama: FakeOllama, own_category: str
) -> None:
    with SyncRouter(settings=settings_for(ollama.url, own_category)) as router:
        flow = DynamicModelFlow(router)
        assert ("contract_review", "run_contract_review") in labels_and_handlers(flow)
        result = flow.kickoff(task_description=MEDIUM_TEXT)
    assert (result["category"], result["answer_model"]) == ("contract_review", "mistral:7b")


def test_handlers_of_categories_that_are_no_identifiers_get_names_of_their_own() -> None:
    names = handler_names(("a-b", "a_b", "계약"))
    assert list(names.values()) == ["run_a_b", "run_a_b_2", "run___"]


@pytest.mark.parametrize("category", ["classify_task", "route_by_category", "run_simple_chat"])
def test_a_category_named_like_a_step_is_refused(category: str) -> None:
    with pytest.raises(ConfigError, match=category):
        handler_names(("simple_chat", category))


@pytest.mark.usefixtures("nothing_shared")
def test_instances_of_the_same_settings_share_one_router(ollama: FakeOllama, own_category: str) -> None:
    settings = settings_for(ollama.url)
    first, second = DynamicModelFlow(settings=settings), DynamicModelFlow(settings=settings)
    other = DynamicModelFlow(settings=settings_for(ollama.url, own_category))
    assert first.fleet is second.fleet
    assert "contract_review" in other.fleet.categories
    assert "contract_review" not in first.fleet.categories


def _tool() -> dict[str, Any]:
    return {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def routed_to(label: str | None, base: type[DynamicModelFlow] = DynamicModelFlow) -> type[DynamicModelFlow]:
    class Routed(base):  # type: ignore[valid-type, misc]
        def route_by_category(self) -> str | None:
            return label

    return Routed


def test_an_asynchronous_choice_of_the_label_is_checked_too(router: SyncRouter) -> None:
    class Later(DynamicModelFlow):
        async def route_by_category(self) -> str:  # type: ignore[override]
            await asyncio.sleep(0)
            return str(self.state.task_description)

    with pytest.raises(UnknownCategory, match="no category"):
        Later(router).kickoff(task_description="no category")
    chosen = Later(router).kickoff(task_description="simple_chat")
    assert chosen["answer_model"] == "mistral:7b"


def failing_with(error: Exception) -> type[DynamicModelFlow]:
    class Failing(DynamicModelFlow):
        def run_korean_multilingual(self) -> str:
            raise error

    return Failing
