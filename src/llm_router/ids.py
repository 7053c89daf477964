"""Names that nobody can guess, for requests and decisions."""

from __future__ import annotations

import os

_CHARACTERS = 32
_AT_ONCE = 256
_IN_COMMON = 2
"""Those made together begin alike: an index of them then grows in one place, not in as many as there are
ids. Of a few hundred thousand, six digits still tell nearly every one."""

_fresh: list[str] = []
"""Made ahead, since asking the system for chance costs more than all else about an id."""


def fresh_id() -> str:
    """32 hexadecimal digits, 120 bits of them by chance of its own; never given before. From any thread."""
    try:
        return _fresh.pop()
    except IndexError:
        digits = os.urandom(_AT_ONCE * _CHARACTERS // 2).hex()
        begin = digits[:_IN_COMMON]
        first, *rest = [
            begin + digits[at + _IN_COMMON : at + _CHARACTERS] for at in range(0, len(digits), _CHARACTERS)
        ]
        _fresh.extend(rest)
        return first


if hasattr(os, "register_at_fork"):  # a child must not give those that its parent gives too
    os.register_at_fork(after_in_child=_fresh.clear)
