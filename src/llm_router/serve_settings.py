"""The knobs of the gateway, as one value (section ``serve`` of the settings)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How ``llm-router serve`` listens, and what it allows."""

    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0: any free one")] = 11435
    keys: Annotated[
        str | None, Meta(description="file of API keys; empty: keys.yaml in the user's directory, if there")
    ] = None
    open_without_keys: Annotated[
        bool, Meta(description="listen beyond this machine although no key is asked for")
    ] = False
    allowed_hosts: Annotated[
        tuple[str, ...], Meta(description="names by which clients may call it, beside this machine's own")
    ] = ()
    origins: Annotated[
        tuple[str, ...],
        Meta(description="web origins whose pages may call it, such as https://chat.example.org"),
    ] = ()
    manage_models: Annotated[
        bool, Meta(description="pass on pull, push, create, copy, delete and blobs to the first Ollama host")
    ] = True
    fallback: Annotated[
        Literal["auto", "never"],
        Meta(description="auto: the next model of the chain where one fails; never: an error instead"),
    ] = "auto"
    heartbeat_s: Annotated[
        float, Meta(ge=0, description="silence after which a waiting stream gets a sign of life; 0: none")
    ] = 10.0
    max_requests: Annotated[
        int, Meta(ge=1, description="requests at once; more are told to come back later (503)")
    ] = 512
    max_connections: Annotated[int, Meta(ge=1, description="connections at once")] = 2048
    max_body_mb: Annotated[float, Meta(gt=0, description="size of one request, in MB")] = 64.0
    shutdown_grace_s: Annotated[
        float, Meta(ge=0, description="how long answers under way may go on after the end was asked for")
    ] = 30.0
    log: Annotated[
        Literal["text", "json", "off"], Meta(description="one line per request on stderr, and in which form")
    ] = "text"
    metrics: Annotated[bool, Meta(description="offer /metrics for Prometheus")] = True
    traces: Annotated[
        bool, Meta(description="send OpenTelemetry traces as the variables OTEL_* say; needs [otel]")
    ] = False
    reload: Annotated[
        bool, Meta(description="read settings and fleet again when their files change; SIGHUP always does")
    ] = True
