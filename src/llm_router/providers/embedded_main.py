"""What runs in the embedded engine's own process. Started as a script; it imports nothing of this package.

It reads one line of JSON, the order, from its standard input; starts llama.cpp's server on loopback; writes
one line of JSON, its address or the problem, to its standard output; and ends when its standard input does.
So it never outlives the process that started it, however that one ends.
"""

import importlib
import json
import os
import sys
from typing import Any


def main() -> None:
    order = json.loads(sys.stdin.readline())
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    sys.path.append(order["import_from"])
    try:
        server = started(order)
        said = {"url": server.listening_address}
    except Exception as error:  # whatever it is, the parent tells it
        said = {"problem": f"{type(error).__name__}: {error}"}
    report.write(json.dumps(said) + "\n")
    report.flush()
    if "url" in said:
        sys.stdin.read()
    os._exit(0)  # the system frees memory faster than llama.cpp's own ending, which waits for open answers


def started(order: dict[str, Any]) -> Any:
    """One slot and no prompt cache: the same request with the same seed gives the same answer."""
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = order["weights"]
    params.model_alias = {order["alias"]}
    params.n_ctx = order["num_ctx"]
    params.n_predict = order["output_tokens"]
    if order["chat_template"]:
        params.chat_template = order["chat_template"]
    params.n_parallel = 1
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [order["key"]]
    params.cors_origins = "http://127.0.0.1"
    params.offline = True
    params.ui = False
    params.endpoint_slots = False
    params.n_threads_http = 8
    params.verbosity = -1
    params.warmup = False
    params.fit_params = False
    params.cpuparams.n_threads = order["threads"]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
