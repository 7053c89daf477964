"""Keeps a Python program on loopback: every other name or address is refused, and told in a file.

Python imports this by itself from a folder of `PYTHONPATH`; the file is named by `TRIED_OUTSIDE`.
"""

import os
import sys
from typing import Any

_LOOPBACK = ("", "127.0.0.1", "::1", "localhost", "0.0.0.0", "::")


def _refuse_outside(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event in {"socket.connect", "socket.sendto"} and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    if name not in _LOOPBACK:
        with open(os.environ["TRIED_OUTSIDE"], "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"{name}\n")
        raise OSError(f"{name} is not on loopback")


sys.addaudithook(_refuse_outside)
