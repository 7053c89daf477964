"""The knobs of the records, as one value (section ``records`` of the settings)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class RecordSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway remembers of its decisions, and for how long."""

    enabled: Annotated[bool, Meta(description="write every decision and attempt to a local file")] = True
    path: Annotated[
        str | None, Meta(description="that file; empty: records.sqlite3 in the user's state directory")
    ] = None
    keep_text: Annotated[
        bool,
        Meta(description="also keep the text of each task, not only its size, a hash and words of evidence"),
    ] = False
    max_age_days: Annotated[float, Meta(gt=0, description="older records are removed")] = 90.0
    max_mb: Annotated[float, Meta(gt=0, description="above this size the oldest are removed")] = 500.0
    queue: Annotated[int, Meta(ge=1, description="records that may wait to be written; more are dropped")] = (
        10_000
    )
