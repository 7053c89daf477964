"""One line per request: as JSON and as text, written together, without a word of the task."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

from llm_router.errors import InvalidRequest
from llm_router.gateway.log import RequestLog
from llm_router.gateway.observers import Served

AT_S = 1_700_000_000.25
CHAT = "/v1/chat/completions"


def visit(path: str = CHAT) -> Any:
    return SimpleNamespace(
        begun_s=0.0,
        created_s=AT_S,
        request_id="r-1",
        caller=SimpleNamespace(name="ann"),
        exchange=SimpleNamespace(path=path),
    )


def task() -> Served:
    served = Served(visit(), cast("Any", SimpleNamespace(path=CHAT)), cast("Any", None))
    served.ended_s = 0.01234
    served.decision = cast("Any", SimpleNamespace(category="code", confidence=0.98765, decision_id="d-1"))
    served.outcome.answer = cast("Any", SimpleNamespace(model="phi4", host="spark-1"))
    return served


async def written(*, as_json: bool) -> str:
    stream = io.StringIO()
    log = RequestLog(as_json=as_json, stream=stream)
    log.served(task())
    log.refused(visit("/caf\u00e9"), InvalidRequest("no"), 400)
    log.done(visit("/api/generate"))
    assert stream.getvalue() == ""
    await asyncio.sleep(0)
    return stream.getvalue()


async def test_lines_of_one_step_are_written_together_as_json() -> None:
    lines = [json.loads(line) for line in (await written(as_json=True)).splitlines()]
    at = datetime.fromtimestamp(AT_S).astimezone()
    assert [datetime.fromisoformat(line.pop("at")) for line in lines] == [at] * 3
    assert lines == [
        {
            "status": 200,
            "path": CHAT,
            "ms": 12.3,
            "category": "code",
            "confidence": 0.988,
            "model": "phi4",
            "host": "spark-1",
            "decision_id": "d-1",
            "key": "ann",
            "error": None,
            "request_id": "r-1",
        },
        {"status": 400, "path": "/caf\u00e9", "error": "invalid_request", "request_id": "r-1"},
        {"status": 200, "path": "/api/generate", "key": "ann", "request_id": "r-1"},
    ]


async def test_as_text_what_is_not_known_is_left_out() -> None:
    at = f"{datetime.fromtimestamp(AT_S):%H:%M:%S}"
    assert await written(as_json=False) == (
        f"{at} 200 {CHAT} ms=12.3 category=code confidence=0.988 model=phi4 host=spark-1 decision_id=d-1"
        " key=ann request_id=r-1\n"
        f"{at} 400 /caf\\xe9 error=invalid_request request_id=r-1\n"
        f"{at} 200 /api/generate key=ann request_id=r-1\n"
    )


async def test_a_stream_that_is_gone_keeps_nobody_from_anything() -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    stream = io.StringIO()
    log = RequestLog(as_json=True, stream=stream)
    stream.close()
    for _ in range(2):
        log.served(task())
        await asyncio.sleep(0)
    assert failures == []
