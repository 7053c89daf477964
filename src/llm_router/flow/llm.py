"""A CrewAI LLM for agents and crews: each call is decided by itself, through the one Router.

    agent = Agent(role="Analyst", goal="…", backstory="…", llm=RoutedLLM())

CrewAI says when a model is asked and with what; which model that is, the router says.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import aclosing, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self, get_args

from msgspec.structs import replace

from llm_router.answer import Answer, Decided, Delta, Finished, StreamEvent
from llm_router.bodies import request_from_body
from llm_router.config import Settings
from llm_router.decision import Decision
from llm_router.errors import (
    AllAttemptsFailed,
    BadReply,
    ContextExceeded,
    InvalidRequest,
    LLMRouterError,
    NoModelAvailable,
    UnknownCategory,
    nearest,
)
from llm_router.fleet import Fleet
from llm_router.flow.quiet import crewai_imported
from llm_router.names import wish_of
from llm_router.policy import World
from llm_router.policy.promises import Promise, promise
from llm_router.request import RouteRequest, ToolCall
from llm_router.shared import shared_router
from llm_router.sync import SyncRouter
from llm_router.tokens import TokenizerFamily, estimates

with crewai_imported():
    from crewai.events.types.llm_events import LLMCallType
    from crewai.hooks.dispatch import HookAborted
    from crewai.llms.base_llm import (
        DEFAULT_CONTEXT_WINDOW_SIZE,
        BaseLLM,
        LLMCallBlockedError,
        llm_call_context,
    )
    from crewai.utilities.exceptions.context_window_exceeding_exception import LLMContextLengthExceededError
    from pydantic import BaseModel, Field, PrivateAttr

_OPTIONS = ("temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty")
"""CrewAI's own fields that go along with each request, under OpenAI's names."""

_SETTINGS = (*_OPTIONS, "stop", "stop_sequences", "stream", "response_format", "options", "think")
"""Everything that a RoutedLLM can be told beside the model."""

_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
_log = logging.getLogger("llm_router")


class RoutedLLM(BaseLLM):
    """A CrewAI LLM behind which the router chooses the model, call by call.

        llm = RoutedLLM()                      # or "auto-fast", "auto:structured_data", the name of a model
        agent = Agent(role="Analyst", goal="Find trends", backstory="You count first.", llm=llm)

    ``router`` is one that the caller made and closes; otherwise one is shared by the whole process for these
    ``settings`` and ``fleet`` (by default the user's). ``given`` are CrewAI's ``temperature``, ``top_p``,
    ``max_tokens``, ``seed``, ``frequency_penalty``, ``presence_penalty``, ``stop``, ``stream`` and
    ``response_format``; ``options`` takes any option under Ollama's name, ``think`` what models that think
    are told. Raises InvalidRequest for anything else, and UnknownCategory where the model is ``auto:`` with
    a category that the fleet does not have.

    One instance may serve many agents, threads and tasks at once. ``last_decision`` and ``last_answer`` are
    those of the call that was decided, or answered, last.
    """

    llm_type: str = "llm_router"
    response_format: Any = None
    options: dict[str, Any] = Field(default_factory=dict)
    think: bool | str | None = None
    _router: SyncRouter = PrivateAttr()
    _last_decision: Decision | None = PrivateAttr(default=None)
    _last_answer: Answer | None = PrivateAttr(default=None)
    _promised: tuple[World, dict[str, Promise]] | None = PrivateAttr(default=None)

    def __init__(
        self,
        model: str = "auto",
        *,
        router: SyncRouter | None = None,
        fleet: Fleet | None = None,
        settings: Settings | None = None,
        **given: Any,
    ) -> None:
        router = router if router is not None else shared_router(settings=settings, fleet=fleet)
        _refuse_unknown(given)
        _refuse_category_that_cannot_talk(model, router.router.fleet)
        super().__init__(model=model, **given)
        self._router = router

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """CrewAI copies agents and crews; all copies go on with the same router."""
        copy = self.model_copy()
        copy.stop = list(self.stop)
        copy._token_usage = dict(self._token_usage)
        return copy

    @property
    def last_decision(self) -> Decision | None:
        """What was decided for the call that began last; None before the first."""
        return self._last_decision

    @property
    def last_answer(self) -> Answer | None:
        """The whole answer of the call that ended last, with every attempt; None before the first."""
        return self._last_answer

    def call(  # noqa: PLR0917 - as CrewAI calls it
        self,
        messages: Any,
        tools: Any = None,
        callbacks: Any = None,
        available_functions: Any = None,
        from_task: Any = None,
        from_agent: Any = None,
        response_model: Any = None,
    ) -> Any:
        """Decides which model answers, and returns what it says.

        That is its text; an instance of ``response_model`` where one is given; where the model calls tools,
        the result of the function in ``available_functions``, or without these the calls themselves, as
        CrewAI's executor takes them. Raises what ``Router.run`` raises, and CrewAI's
        LLMContextLengthExceededError where only a shorter request could be answered.
        """
        asked = _Asked(messages, tools, callbacks, available_functions, from_task, from_agent, response_model)
        with self._told(asked):
            request = self._begun(asked)
            with closing(self._router.stream(request)) as events:
                for event in events:
                    self._take(event, asked)
            return self._ended(asked)

    async def acall(  # noqa: PLR0917 - as CrewAI calls it
        self,
        messages: Any,
        tools: Any = None,
        callbacks: Any = None,
        available_functions: Any = None,
        from_task: Any = None,
        from_agent: Any = None,
        response_model: Any = None,
    ) -> Any:
        """``call`` without blocking the event loop. Cancelling it cancels the generation."""
        asked = _Asked(messages, tools, callbacks, available_functions, from_task, from_agent, response_model)
        with self._told(asked):
            request = self._begun(asked)
            async with aclosing(self._events(request)) as events:
                async for event in events:
                    self._take(event, asked)
            return self._ended(asked)

    def supports_function_calling(self) -> bool:
        """Whether every request with tools has a model here that calls them.

        Where not, CrewAI describes the tools in the prompt.
        """
        found = self._promise("tools", tools=True)
        return found is not None and found.kept

    def supports_multimodal(self) -> bool:
        """Whether every request with pictures has a model here that sees."""
        found = self._promise("pictures", pictures=True)
        return found is not None and found.kept

    def supports_stop_words(self) -> bool:
        """Every server here stops at them."""
        return True

    def get_context_window_size(self) -> int:
        """So many tokens a prompt may have, with and without tools, whatever kind of task it may be.

        Room for the answer is left. Where nothing here can answer it is CrewAI's usual size, and the call
        says why.
        """
        found = [self._promise("words"), self._promise("tools", tools=True)]
        rooms = [one.prompt_tokens for one in found if one is not None and one.prompt_tokens > 0]
        return min(rooms, default=DEFAULT_CONTEXT_WINDOW_SIZE)

    def get_input_tokens_count(self, messages: Any, tools: Any = None, response_model: Any = None) -> int:
        """The most tokens that this may be for any model here: what the router holds against a context."""
        families: tuple[TokenizerFamily, ...] = get_args(TokenizerFamily)
        if isinstance(messages, str):
            return max(found.high for found in estimates(messages).values())
        try:
            request = self._request(_Asked(messages, tools, response_model=response_model), list(messages))
        except LLMRouterError:
            return 0  # the call says what is wrong with it
        return max(request.estimate(family).high for family in families)

    def to_config_dict(self) -> dict[str, Any]:
        """What CrewAI stores of it. It cannot be made from that again: a router is no plain value."""
        return {"llm_type": self.llm_type, "model": self.model}

    def _multimodal_formatter_name(self) -> str:
        return "openai"

    def _promise(self, kind: str, *, tools: bool = False, pictures: bool = False) -> Promise | None:
        """None where nobody knows the model. What was found holds as long as the hosts stay as they are."""
        wish = wish_of(self.model)
        try:
            world = self._router.submit(self._router.router.world()).result()
            if self._promised is None or self._promised[0] is not world:
                self._promised = world, {}
            known = self._promised[1]
            if kind not in known:
                known[kind] = promise(
                    world,
                    model=None if wish else self.model,
                    category=wish.category if wish else None,
                    pictures=pictures,
                    tools=tools,
                    output_tokens=int(self.max_tokens) if self.max_tokens else None,
                )
            return known[kind]
        except LLMRouterError:
            return None

    @contextmanager
    def _told(self, asked: _Asked) -> Iterator[None]:
        """CrewAI's events around a call: that it begins and, where it fails, why."""
        who = {"from_task": asked.task, "from_agent": asked.agent}
        with llm_call_context():
            self._emit_call_started_event(
                messages=asked.messages,
                tools=asked.tools,
                callbacks=asked.callbacks,
                available_functions=asked.functions,
                **who,
            )
            try:
                yield
            except (HookAborted, LLMCallBlockedError) as denied:
                self._emit_call_denied_event(denied, **who)
                raise
            except LLMRouterError as error:
                self._emit_call_failed_event(error=_whole(error), **who)
                if _too_long(error):
                    raise LLMContextLengthExceededError(_whole(error)) from error
                raise
            except Exception as error:
                self._emit_call_failed_event(error=str(error), **who)
                raise

    def _begun(self, asked: _Asked) -> RouteRequest:
        asked.formatted = self._format_messages(asked.messages)
        self._invoke_before_llm_call_hooks(asked.formatted, asked.agent)
        return self._request(asked, asked.formatted)

    def _request(self, asked: _Asked, messages: list[Any]) -> RouteRequest:
        body: dict[str, Any] = {"model": self.model, "messages": messages, "options": dict(self.options)}
        for name in _OPTIONS:
            body[name] = getattr(self, name)
        body["stop"] = list(self.stop_sequences) or None
        body["think"] = self.think
        if asked.tools:
            body["tools"] = list(self._convert_tools_for_interference(asked.tools))
        body["response_format"] = _format(asked.response_model or self.response_format)
        return _judged_by_task(request_from_body(body), asked.task)

    async def _events(self, request: RouteRequest) -> AsyncGenerator[StreamEvent, None]:
        """The events of ``Router.stream``, which live on the router's own loop."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[StreamEvent | None] = asyncio.Queue()

        def put(event: StreamEvent | None) -> None:
            with suppress(RuntimeError):  # the caller's loop is closed: nobody waits any more
                loop.call_soon_threadsafe(waiting.put_nowait, event)

        async def pump() -> None:
            async with aclosing(self._router.router.stream(request)) as events:
                async for event in events:
                    put(event)

        work = self._router.submit(pump())
        work.add_done_callback(lambda _: put(None))
        try:
            while (event := await waiting.get()) is not None:
                yield event
            work.result()
        except CancelledError:
            raise LLMRouterError(
                "the router is closed", why="close() was called during this call", hint="make a new one"
            ) from None
        finally:
            work.cancel()

    def _take(self, event: StreamEvent, asked: _Asked) -> None:
        match event:
            case Decided(decision):
                self._last_decision = asked.decision = decision
            case Finished(answer):
                self._last_answer = asked.answer = answer
            case Delta() if self._effective_stream():
                self._tell_piece(event, asked)

    def _tell_piece(self, piece: Delta, asked: _Asked) -> None:
        who = {"from_task": asked.task, "from_agent": asked.agent, "response_id": asked.response_id}
        if piece.thinking:
            self._emit_thinking_chunk_event(chunk=piece.thinking, **who)
        if piece.text:
            self._emit_stream_chunk_event(chunk=piece.text, call_type=LLMCallType.LLM_CALL, **who)
        for call in piece.tool_calls:
            told = _tool_call(call, asked.called, asked.response_id)
            asked.called += 1
            self._emit_stream_chunk_event(
                chunk=told["function"]["arguments"], tool_call=told, call_type=LLMCallType.TOOL_CALL, **who
            )

    def _ended(self, asked: _Asked) -> Any:
        answer = asked.answer
        if answer is None:
            raise AssertionError("a stream ends with Finished or raises")
        usage = _usage(answer)
        self._track_token_usage_internal(usage)
        for warning in answer.warnings:
            _log.warning("%s", warning)
        if answer.tool_calls:
            if not asked.functions:
                calls = [_tool_call(c, i, asked.response_id) for i, c in enumerate(answer.tool_calls)]
                self._tell_end(asked, calls, LLMCallType.TOOL_CALL, usage, "tool_calls")
                return calls
            for call in answer.tool_calls:
                result = self._handle_tool_execution(
                    call.name, dict(call.arguments), asked.functions, asked.task, asked.agent
                )
                if result is not None:
                    return result
            if not answer.text.strip():
                raise _gave_nothing(answer)
        text = self._apply_stop_words(answer.text)
        model = asked.response_model or self.response_format
        if isinstance(model, type) and issubclass(model, BaseModel):
            instance = _instance(text, model, answer)
            self._tell_end(asked, instance.model_dump_json(), LLMCallType.LLM_CALL, usage, answer.done_reason)
            return instance
        self._tell_end(asked, text, LLMCallType.LLM_CALL, usage, answer.done_reason)
        return self._invoke_after_llm_call_hooks(asked.formatted, text, asked.agent)

    def _tell_end(
        self, asked: _Asked, response: Any, kind: LLMCallType, usage: dict[str, Any], reason: str
    ) -> None:
        self._emit_call_completed_event(
            response=response,
            call_type=kind,
            from_task=asked.task,
            from_agent=asked.agent,
            messages=asked.formatted,
            usage=usage,
            finish_reason=reason,
            response_id=asked.response_id,
        )


@dataclass(slots=True)
class _Asked:
    """One call, and what has come of it so far."""

    messages: Any
    tools: Any = None
    callbacks: Any = None
    functions: dict[str, Any] | None = None
    task: Any = None
    agent: Any = None
    response_model: Any = None
    formatted: list[Any] = field(default_factory=list)
    decision: Decision | None = None
    answer: Answer | None = None
    called: int = 0

    @property
    def response_id(self) -> str | None:
        """The decision's, so that events can be looked up among the records."""
        return self.decision.decision_id if self.decision else None


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in _SETTINGS or value is None:
            continue
        hint = nearest(name, (*_SETTINGS, "router", "fleet", "settings"))
        if name in ("base_url", "api_key", "provider"):
            hint = "name hosts and their keys in config.yaml, or give settings="
        raise InvalidRequest(
            f"RoutedLLM has no option {name!r}",
            why="it would have no effect",
            hint=hint or "options={…} takes any option under Ollama's name",
        )


def _refuse_category_that_cannot_talk(model: str, fleet: Fleet) -> None:
    wish = wish_of(model)
    if wish is None or wish.category is None:
        return
    if wish.category not in fleet.categories:
        raise UnknownCategory.named(wish.category, fleet.categories)
    if fleet.category(wish.category).requires.capability == "embedding":
        raise InvalidRequest(
            f"an agent cannot talk to {model!r}",
            why="models of that category give vectors and no words",
            hint="leave the model out, or choose another category",
        )


def _judged_by_task(request: RouteRequest, task: Any) -> RouteRequest:
    """What kind of task it is, is told by the task's own words and not by CrewAI's around them."""
    words = getattr(task, "description", None)
    if not isinstance(words, str) or not words.strip():
        return request
    if not any(words in message.text for message in request.messages if message.role == "user"):
        return request
    last = request.asking
    return replace(
        request,
        messages=tuple(replace(m, judged=words) if m is last else m for m in request.messages),
    )


def _format(wanted: Any) -> Any:
    """As OpenAI's API takes it."""
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        schema = {"name": wanted.__name__, "schema": wanted.model_json_schema()}
        return {"type": "json_schema", "json_schema": schema}
    return wanted


def _instance(text: str, model: type[BaseModel], answer: Answer) -> BaseModel:
    """Not every server can be held to a schema, so words around the object are passed over."""
    found = _OBJECT.search(text)
    try:
        return model.model_validate_json(found[0] if found else text)
    except ValueError as error:
        raise BadReply(
            f"{answer.model}: the answer is no {model.__name__}",
            why="; ".join(str(error).splitlines()),
            hint="ask again, or for fewer fields",
            host=answer.host,
            model=answer.model,
        ) from error


def _gave_nothing(answer: Answer) -> LLMRouterError:
    """CrewAI has told and logged by then what went wrong with the function."""
    names = ", ".join(dict.fromkeys(call.name for call in answer.tool_calls))
    return LLMRouterError(
        f"{answer.model} called {names} and said nothing else",
        why="the function failed, or is none of available_functions",
        hint="see its error in the log, or hand it in with available_functions",
    )


def _tool_call(call: ToolCall, index: int, response_id: str | None) -> dict[str, Any]:
    return {
        "id": call.id or f"call_{response_id}_{index}",
        "type": "function",
        "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
        "index": index,
    }


def _usage(answer: Answer) -> dict[str, Any]:
    read, written = answer.usage.prompt_tokens or 0, answer.usage.output_tokens or 0
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _whole(error: LLMRouterError) -> str:
    return f"{error}. Hint: {error.hint}" if error.hint else str(error)


def _too_long(error: LLMRouterError) -> bool:
    """Whether a shorter request could be answered."""
    if isinstance(error, NoModelAvailable):
        return any(rejection.code == "context" for rejection in error.rejected)
    if isinstance(error, AllAttemptsFailed):
        return bool(error.attempts) and all(isinstance(a.error, ContextExceeded) for a in error.attempts)
    return isinstance(error, ContextExceeded)
