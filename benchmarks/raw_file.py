"""What the raw file of every benchmark says of its run, and where it goes."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from llm_router.compiled import all_compiled

RESULTS = Path(__file__).with_name("results")


def about(command: str, taken: datetime) -> dict[str, object]:
    """What somebody needs to know of a run who wants to repeat it."""
    return {
        "command": command,
        "taken": taken.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "compiled": all_compiled(),
    }


def write(
    raw: Mapping[str, object], name: str, taken: datetime, path: Path | None, *, indent: int | None = None
) -> Path:
    """Writes it to ``path``, or among the results under its name and day, and says where it lies."""
    path = path or RESULTS / f"{name}-{taken:%Y-%m-%d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw, indent=indent) + "\n", encoding="utf-8")
    print(f"raw figures: {path}", file=sys.stderr)
    return path
