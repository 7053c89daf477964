"""The page of figures: what is counted there, in the words of Prometheus' text format."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from llm_router.errors import HostTimeout, InvalidRequest
from llm_router.gateway.metrics import Metrics
from llm_router.gateway.observers import Served

CHAT = "/v1/chat/completions"


def task(model: str, *, took_s: float, **known: object) -> Served:
    """One that was answered by ``model``, after another had failed where ``failed`` names it."""
    told = {"prompt_tokens": 20, "output_tokens": 5, "tokens_per_s": 40.0, "load_s": None} | known
    attempts = [SimpleNamespace(model=model, error=None)]
    if "failed" in known:
        attempts.insert(0, SimpleNamespace(model=known["failed"], error=HostTimeout("nothing came")))
    visit = SimpleNamespace(begun_s=0.0, exchange=SimpleNamespace(path=CHAT), is_known=True)
    served = Served(cast("Any", visit), cast("Any", SimpleNamespace(path=CHAT)), cast("Any", None))
    served.ended_s = took_s
    served.decision = cast(
        "Any",
        SimpleNamespace(answer_model=model, category="code", classification=SimpleNamespace(stage="rules")),
    )
    served.outcome.answer = cast(
        "Any",
        SimpleNamespace(
            model=model, attempts=attempts, usage=SimpleNamespace(**told), first_token_s=took_s / 2
        ),
    )
    return served


def page(metrics: Metrics) -> str:
    gateway = SimpleNamespace(running=2)
    recorder = SimpleNamespace(waiting=3, problem=SimpleNamespace(dropped=4))
    return metrics.text(cast("Any", gateway), cast("Any", recorder)).decode()


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Name, then the labels' values in the order of their names → the value."""
    return {
        (sample.name, *[value for _, value in sorted(sample.labels.items())]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_before_anything_was_asked_every_figure_is_named() -> None:
    text = page(Metrics())
    assert text.count("# TYPE ") == text.count("# HELP ") == 12
    assert "# TYPE llm_router_requests_total counter\n" in text
    assert "# TYPE llm_router_request_seconds histogram\n" in text
    assert "llm_router_running 2.0\n" in text
    assert "llm_router_records_waiting 3.0\n" in text
    assert text.endswith("llm_router_records_dropped 4.0\n")


def test_tasks_are_counted_by_their_labels() -> None:
    metrics = Metrics()
    metrics.served(task("mistral:7b", took_s=0.3))
    metrics.served(task("mistral:7b", took_s=0.3, failed="phi4", load_s=12.0))
    metrics.served(task("qwen2.5:14b", took_s=0.3, prompt_tokens=None, output_tokens=None))
    found = figures(page(metrics))
    assert found["llm_router_requests_total", CHAT, "200"] == 3
    assert found["llm_router_decisions_total", "code", "mistral:7b", "rules"] == 2
    assert found["llm_router_decisions_total", "code", "qwen2.5:14b", "rules"] == 1
    assert found["llm_router_failed_attempts_total", "host_timeout", "phi4"] == 1
    assert found["llm_router_fallbacks_total", "mistral:7b"] == 1
    assert found["llm_router_loads_total", "mistral:7b"] == 1
    assert found["llm_router_tokens_total", "read", "mistral:7b"] == 40
    assert found["llm_router_tokens_total", "written", "mistral:7b"] == 10
    assert ("llm_router_tokens_total", "read", "qwen2.5:14b") not in found


def test_a_count_below_zero_that_a_host_tells_takes_nothing_away() -> None:
    metrics = Metrics()
    metrics.served(task("mistral:7b", took_s=0.3))
    metrics.served(task("mistral:7b", took_s=0.3, prompt_tokens=-7, output_tokens=-3, tokens_per_s=-9.0))
    found = figures(page(metrics))
    assert found["llm_router_requests_total", CHAT, "200"] == 2
    assert found["llm_router_tokens_total", "read", "mistral:7b"] == 20
    assert found["llm_router_tokens_total", "written", "mistral:7b"] == 5
    assert found["llm_router_tokens_per_second_sum", "mistral:7b"] == 40


def test_times_are_counted_up_to_each_bound_and_one_on_it_is_within() -> None:
    metrics = Metrics()
    for took_s in (0.004, 0.005, 0.0051, 1.0, 4000.0):
        metrics.served(task("mistral:7b", took_s=took_s))
    found = figures(page(metrics))
    within = {key[1]: value for key, value in found.items() if key[0] == "llm_router_request_seconds_bucket"}
    assert (within["0.005"], within["0.02"], within["0.5"], within["1.0"]) == (2, 3, 3, 4)
    assert (within["600.0"], within["+Inf"]) == (4, 5)
    assert found["llm_router_request_seconds_count", CHAT] == 5
    assert found["llm_router_request_seconds_sum", CHAT] == sum((0.004, 0.005, 0.0051, 1.0, 4000.0))


def test_refusals_and_what_needed_no_answer_are_counted_too() -> None:
    metrics = Metrics()
    known = SimpleNamespace(exchange=SimpleNamespace(path=CHAT), is_known=True)
    unknown = SimpleNamespace(exchange=SimpleNamespace(path="/made/up"), is_known=False)
    metrics.refused(cast("Any", known), InvalidRequest("no"), 400)
    metrics.refused(cast("Any", unknown), InvalidRequest("no"), 404)
    metrics.done(cast("Any", known))
    text = page(metrics)
    found = figures(text)
    assert found["llm_router_requests_total", CHAT, "400"] == 1
    assert found["llm_router_requests_total", "other", "404"] == 1
    assert found["llm_router_requests_total", CHAT, "200"] == 1
    assert "/made/up" not in text


def test_models_beyond_the_bound_are_others() -> None:
    metrics = Metrics()
    for number in range(205):
        metrics.served(task(f"model-{number}", took_s=0.1))
    found = figures(page(metrics))
    models = {key[2] for key in found if key[0] == "llm_router_decisions_total"}
    assert len(models) == 201
    assert found["llm_router_decisions_total", "code", "other", "rules"] == 5
