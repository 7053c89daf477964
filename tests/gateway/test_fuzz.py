"""The OpenAPI document against the gateway itself: nothing brings a 500, a hang, or internals to light."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np  # noqa: F401 - two threads would else import it at once
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode, Response
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.gateway.conftest import HERE

from llm_router.config import HostSettings, RoutingSettings, Settings
from llm_router.gateway.openapi import document
from llm_router.gateway.serving import Serving
from llm_router.records.settings import RecordSettings
from llm_router.serve_settings import ServeSettings
from llm_router.testing.fake_models import fleet_models
from llm_router.testing.fake_ollama import FakeOllama

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAAAA=="
LIMIT_S = 20
EXAMPLES = 25
FAILED = re.compile("not ready|no model here can answer|the answer is empty|its own timeout_s")
"""What comes about now and then: there is no model for it, the fake's answer has no word, a header gives it
no time."""
NO_INTERNALS = re.compile(r"Traceback|\.py\b|site-packages|msgspec|sqlite|object at 0x|NoneType|asyncio")

schemathesis.openapi.format(
    "image-base64", st.sampled_from([PNG, f"data:image/png;base64,{PNG}", "", "AAAA"])
)
schemathesis.openapi.format("json-object", st.sampled_from(["{}", '{"a":1}', "[]", "", "{"]))
schemathesis.openapi.format("digest", st.sampled_from(["sha256:" + "0" * 64, "sha256:0", "x"]))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway over a fake Ollama, on a thread of its own: schemathesis calls and waits."""
    records = str(tmp_path_factory.mktemp("records") / "records.sqlite3")
    ready, found, ended = threading.Event(), list[str](), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with FakeOllama(fleet_models(HERE)) as ollama:
            serving = Serving(
                Settings(
                    hosts=(HostSettings(url=ollama.url, name="ollama"),),
                    routing=RoutingSettings(stand_in="never"),
                    serve=ServeSettings(port=0, log="off", shutdown_grace_s=1.0),
                    records=RecordSettings(path=records),
                )
            )
            host, port = await serving.start()
            found.append(f"http://{host}:{port}")
            ready.set()
            await ended.wait()
            await serving.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(LIMIT_S)
    yield found[0]
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


@pytest.fixture(autouse=True)
def collected_between_tests() -> Iterator[None]:
    """No collection while examples are drawn.

    Python 3.11 fails with a SystemError where the collector runs in the midst of ``ast.parse``, which the
    tools of this test use, and what it runs parses as well: telling a traceback does.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _operations() -> dict[str, APIOperation[Any, Any, Any, Any]]:
    """As the gateway tells them, without what would change the fake's models for the next example."""
    told = msgspec.json.decode(document(manages=True))
    managed = ("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/{digest}")
    told["paths"] = {path: item for path, item in told["paths"].items() if path not in managed}
    found = [r.ok() for r in schemathesis.openapi.from_dict(told).get_all_operations() if isinstance(r, Ok)]
    return {f"{operation.method} {operation.path}": operation for operation in found}


OPERATIONS = _operations()


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["meant", "not meant"]
)
@pytest.mark.parametrize("operation", OPERATIONS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_any_request(url: str, operation: str, mode: GenerationMode, data: st.DataObject) -> None:
    """Those that the document allows, and those that it does not."""
    asked = OPERATIONS[operation]
    if mode is GenerationMode.NEGATIVE and not (asked.body or asked.query):
        return  # any text is a path that is allowed
    case: Case[Any] = data.draw(asked.as_strategy(generation_mode=mode))
    response = case.call(base_url=url, timeout=LIMIT_S)
    checks = [status_code_conformance, content_type_conformance, _schema, _no_internals]
    case.validate_response(response, checks=checks)
    if response.status_code >= 500:
        assert response.status_code != 500, f"{case.body!r} {response.text}"
        assert FAILED.search(response.text), f"{case.body!r} {response.text}"


def _schema(context: Any, response: Response, case: Case[Any]) -> bool | None:
    """Streams are told as a text: their events have no schema here."""
    if "json" not in str(response.headers.get("content-type")) or "ndjson" in str(response.headers):
        return None
    return response_schema_conformance(context, response, case)


def _no_internals(context: Any, response: Response, case: Case[Any]) -> bool | None:
    if case.path != "/openapi.json":
        found = NO_INTERNALS.search(response.text)
        sent = str(case.body) + str(case.path_parameters) + str(case.query)
        assert found is None or found.group() in sent, response.text
    return None
