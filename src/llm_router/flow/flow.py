"""An explicit Flow in which every step is one call to the Router.

    classify_task ──▶ route_by_category ──┬──▶ run_max_vision
      (start)            (router)         ├──▶ run_max_reasoning
                                          └──▶ run_<category>, one for each category of the fleet

A Crew, where CrewAI itself decides when a model is asked, uses ``llm.py`` instead.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import new_class
from typing import Any, TypeAlias, TypeVar, Unpack

from llm_router.config import Settings
from llm_router.decision import Decision
from llm_router.errors import ConfigError, InvalidRequest, UnknownCategory, nearest
from llm_router.fleet import Fleet
from llm_router.flow.quiet import crewai_imported
from llm_router.request import JsonObject, RouteRequest
from llm_router.shared import shared_router
from llm_router.sync import SyncRouter
from llm_router.task_inputs import TaskInputs, request_from_inputs

with crewai_imported():
    from crewai import LLM
    from crewai.flow.flow import Flow, FlowState, listen, router, start
    from crewai.flow.flow_wrappers import FlowMethod
    from crewai.flow.visualization import build_flow_structure
    from pydantic import PrivateAttr

T = TypeVar("T")
Step: TypeAlias = Callable[..., Any]

CLASSIFY = "classify_task"
ROUTE = "route_by_category"


class RouteState(FlowState):
    """What CrewAI sees of a run. Pictures and whole conversations stay outside of it."""

    task_description: str = ""
    category: str = ""
    selected_model: str = ""
    confidence: float = 0.0
    routing_reasoning: str = ""


class DynamicModelFlow(Flow[RouteState]):
    """Classifies a task, routes it to the handler of its category, and lets the fleet's model answer.

        flow = DynamicModelFlow()
        result = flow.kickoff(task_description="Prove that √2 is irrational")

    The result is ``Answer.as_json()`` with ``task_description``. Every category of the fleet has a handler
    ``run_<category>``, one that a user's fleet file adds too. A subclass changes a step by defining its
    method; decorators are not needed and the other steps stay. Each kickoff runs on a copy, so one instance
    may serve many threads and tasks; ``state`` is that of the run that ended last.

    ``router`` is one that the caller made and closes; otherwise one is shared by the whole process for these
    ``settings`` and ``fleet`` (by default the user's). ``options`` are CrewAI's own fields of a Flow.
    """

    suppress_flow_events: bool = True
    _skip_auto_memory: bool = True
    _router: SyncRouter = PrivateAttr()
    _request: RouteRequest | None = PrivateAttr(default=None)
    _decision: Decision | None = PrivateAttr(default=None)
    _call: Future[Any] | None = PrivateAttr(default=None)
    _abandoned: bool = PrivateAttr(default=False)

    def __init__(
        self,
        router: SyncRouter | None = None,
        *,
        fleet: Fleet | None = None,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        router = router if router is not None else shared_router(settings=settings, fleet=fleet)
        cls = type(self)
        for name in options:
            if name not in cls.model_fields:
                hint = nearest(name, [*cls.model_fields, "router", "fleet", "settings"])
                raise InvalidRequest(f"{cls.__name__} has no option {name!r}", hint=hint)
        self.__class__ = _with_handlers(cls, tuple(router.router.fleet.categories))
        super().__init__(**options)
        self._router = router

    @property
    def fleet(self) -> Fleet:
        """The fleet whose categories this flow has handlers for."""
        return self._router.router.fleet

    def classify_task(self) -> str:
        """Decides which kind of task it is and which model answers: one call to ``Router.decide``."""
        decision = self._ask(self._router.router.decide(self._asked()))
        self._note(decision)
        return decision.category

    def route_by_category(self) -> str:
        """The label that is followed: a category of the fleet."""
        category: str = self.state.category
        return category

    def run_category(self, category: str) -> JsonObject:
        """What every handler does: one call to ``Router.run`` with the decision that was made.

        Where a subclass routed elsewhere than was decided, it decides anew within that category.
        """
        request, decision = self._asked(), self._decision
        if decision is None or decision.category != category:
            decision = self._ask(self._router.router.decide(request, category=category))
            self._note(decision)
        answer = self._ask(self._router.router.run(request, decision=decision))
        return {"task_description": self.state.task_description, **answer.as_json()}

    def kickoff(
        self,
        inputs: Mapping[str, Any] | None = None,
        input_files: object = None,
        from_checkpoint: object = None,
        restore_from_state_id: object = None,
        **task: Unpack[TaskInputs],
    ) -> Any:
        """Runs one task and waits for the result; inside a running event loop too.

        The inputs are those of ``TaskInputs``, by name or in ``inputs`` as CrewAI has it. Raises what
        ``Router.run`` raises, InvalidRequest for an input that is not known, and UnknownCategory where a
        subclass routed to a label that is no category.
        """
        given = _inputs(inputs, task, input_files, from_checkpoint, restore_from_state_id)
        if self.stream:
            return super().kickoff(given)
        run = self._copy_for(given)
        work = self._result_of(run, given)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(work)
        context = contextvars.copy_context()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="llm-router-flow") as pool:
            future = pool.submit(context.run, asyncio.run, work)
            try:
                return future.result()
            except BaseException:
                run._abandon()
                raise

    async def kickoff_async(
        self,
        inputs: Mapping[str, Any] | None = None,
        input_files: object = None,
        from_checkpoint: object = None,
        restore_from_state_id: object = None,
        **task: Unpack[TaskInputs],
    ) -> Any:
        """``kickoff`` without blocking the event loop. Cancelling it cancels the generation."""
        given = _inputs(inputs, task, input_files, from_checkpoint, restore_from_state_id)
        if self.stream:
            return await super().kickoff_async(given)
        return await self._result_of(self._copy_for(given), given)

    async def akickoff(
        self,
        inputs: Mapping[str, Any] | None = None,
        input_files: object = None,
        from_checkpoint: object = None,
        restore_from_state_id: object = None,
        **task: Unpack[TaskInputs],
    ) -> Any:
        """The same as ``kickoff_async``."""
        return await self.kickoff_async(inputs, input_files, from_checkpoint, restore_from_state_id, **task)

    def plot(self, filename: str | Path = "crewai_flow.html", show: bool = False) -> str:
        """Draws the flow into exactly this file (.html, .svg or .png) and returns its absolute path.

        The page holds everything it shows and loads nothing from the web. ``show`` opens it in a browser.
        """
        from llm_router.plotting import picture, routes_of

        path = picture(Path(filename), routes_of(self.fleet, labels_and_handlers(self)))
        if show:
            import webbrowser

            webbrowser.open(path.as_uri())
        return str(path)

    def _copy_for(self, given: Mapping[str, Any]) -> DynamicModelFlow:
        """A fresh run with this instance's fields and attributes, and nothing of any other run."""
        request = request_from_inputs(given)
        run = object.__new__(type(self))
        Flow.__init__(run, **{name: getattr(self, name) for name in self.model_fields_set})
        for name in _own_private_names(type(self)):
            setattr(run, name, getattr(self, name))
        for name, value in vars(self).items():
            if name not in vars(run):
                object.__setattr__(run, name, value)
        run._router, run._request = self._router, request
        return run

    async def _result_of(self, run: DynamicModelFlow, given: Mapping[str, Any]) -> Any:
        seen = {"task_description": run._asked().task}
        try:
            return await Flow.kickoff_async(run, seen | {k: v for k, v in given.items() if k == "id"})
        except asyncio.CancelledError:
            run._abandon()
            raise
        finally:
            self._state = run._state

    def _asked(self) -> RouteRequest:
        if self._request is None:
            raise InvalidRequest(
                "the flow is not running", hint='start it: flow.kickoff(task_description="…")'
            )
        return self._request

    def _note(self, decision: Decision) -> None:
        self._decision = decision
        self.state.category = decision.category
        self.state.selected_model = decision.selected_model
        self.state.confidence = decision.confidence
        self.state.routing_reasoning = decision.routing_reasoning

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for the Router, which lives on its own thread, so that no event loop is blocked or needed."""
        call = self._router.submit(work)
        self._call = call
        if self._abandoned:
            call.cancel()
        return call.result()

    def _abandon(self) -> None:
        self._abandoned = True
        if self._call is not None:
            self._call.cancel()


def crewai_llm(model: str, base_url: str) -> LLM:
    """A CrewAI LLM that talks to an Ollama server about one model, past the router."""
    return LLM(model=f"ollama/{model}", base_url=base_url)


def labels_and_handlers(flow: DynamicModelFlow) -> list[tuple[str, str]]:
    """Every label of the router with the step that CrewAI runs on it, as CrewAI's own structure has them."""
    structure = build_flow_structure(flow)
    return [
        (str(edge.get("router_event")), edge["target"])
        for edge in structure["edges"]
        if edge["is_router_event"] and edge["source"] == ROUTE
    ]


def handler_names(categories: tuple[str, ...]) -> Mapping[str, str]:
    """Category → name of its handler: ``run_`` and the category, with ``_`` for what no method may contain.

    Raises ConfigError for a category that CrewAI would take for a step, because labels and methods share
    one namespace there.
    """
    handlers: dict[str, str] = {}
    for category in categories:
        name = plain = "run_" + re.sub(r"[^A-Za-z0-9_]", "_", category)
        number = 2
        while name in handlers.values():
            name, number = f"{plain}_{number}", number + 1
        handlers[category] = name
    for category in categories:
        if category in (CLASSIFY, ROUTE, *handlers.values()):
            raise ConfigError(
                f"a category cannot be called {category!r}",
                why="a step of the flow has that name",
                hint=f"call it {category.removeprefix('run_')!r}, or choose another name",
            )
    return handlers


@functools.lru_cache(maxsize=64)
def _with_handlers(cls: type[DynamicModelFlow], categories: tuple[str, ...]) -> type[DynamicModelFlow]:
    """``cls`` with its steps declared to CrewAI.

    CrewAI reads steps from the last class alone, so everything is declared there again: the steps that every
    flow has, what subclasses put in their place, and further listeners of theirs.
    """
    handlers = handler_names(categories)
    defaults = type("Handlers", (), {name: _handler(category, name) for category, name in handlers.items()})
    steps: dict[str, Any] = _further_steps(cls)
    steps[CLASSIFY] = start()(_plain(getattr(cls, CLASSIFY)))
    steps[ROUTE] = router(CLASSIFY, emit=list(categories))(_checked(_plain(getattr(cls, ROUTE))))
    for category, name in handlers.items():
        own = getattr(cls, name, None) or getattr(defaults, name)
        steps[name] = listen(category)(_plain(own))
    body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__} | steps
    # `defaults` comes last, so that super().run_<category>() finds the usual handler from any subclass.
    return new_class(cls.__name__, (cls, defaults), exec_body=lambda namespace: namespace.update(body))


def _handler(category: str, name: str) -> Step:
    def handler(self: DynamicModelFlow) -> JsonObject:
        return self.run_category(category)

    handler.__name__ = handler.__qualname__ = name
    handler.__doc__ = f"Answers {category} tasks: one call to ``Router.run``."
    return handler


def _checked(step: Step) -> Step:
    """Refuses a label that is no category. CrewAI would take it for the result or for a step."""

    @functools.wraps(step)
    def route(self: DynamicModelFlow, *classified: Any) -> Any:
        def known(label: object) -> object:
            if label not in self.fleet.categories:
                raise UnknownCategory.named(str(label), self.fleet.categories)
            return label

        async def later(label: Awaitable[object]) -> object:
            return known(await label)

        label = step(self, *classified)
        return later(label) if inspect.isawaitable(label) else known(label)

    return route


def _plain(step: Any) -> Step:
    method: Step = step.unwrap() if isinstance(step, FlowMethod) else step
    return method


def _further_steps(cls: type[DynamicModelFlow]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, DynamicModelFlow):
            found |= {name: value for name, value in vars(base).items() if isinstance(value, FlowMethod)}
    return found


def _own_private_names(cls: type[DynamicModelFlow]) -> set[str]:
    return set(cls.__private_attributes__) - set(DynamicModelFlow.__private_attributes__)


def _inputs(
    inputs: Mapping[str, Any] | None, task: Mapping[str, Any], *unsupported: object
) -> dict[str, Any]:
    for name, value in zip(
        ("input_files", "from_checkpoint", "restore_from_state_id"), unsupported, strict=True
    ):
        if value is not None:
            raise InvalidRequest(
                f"{name} cannot be used here", why="a run of this flow keeps nothing to resume"
            )
    return {**(inputs or {}), **task}
