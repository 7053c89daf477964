"""One thing that was looked at: what was found, how bad it is, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llm_router.request import JsonObject

Severity = Literal["ok", "info", "warning", "problem"]
"""problem: requests fail because of it; warning: they are answered worse or slower than they could be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``code`` is stable and meant for programs, ``subject`` the host, model or category it is about."""

    group: str
    code: str
    severity: Severity
    text: str
    fix: str = ""
    subject: str = ""

    def as_json(self) -> JsonObject:
        told: JsonObject = {
            "group": self.group,
            "code": self.code,
            "severity": self.severity,
            "text": self.text,
        }
        if self.subject:
            told["subject"] = self.subject
        if self.fix:
            told["fix"] = self.fix
        return told
