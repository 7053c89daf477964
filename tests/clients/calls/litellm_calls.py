"""What LiteLLM is asked to do; prints what came of it as JSON.

Arguments: the wire, and the gateway's address. It runs in an environment of its own, without this project.
"""

import importlib
import json
import sys
from typing import Any

# Not in the environment whose types are checked.
litellm: Any = importlib.import_module("litellm")

litellm.suppress_debug_info = True

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "the weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
WEATHER = [{"role": "user", "content": "How is the weather in Oslo?"}]
SUM = [{"role": "user", "content": "What's 2+2?"}]


def main(wire: str, url: str) -> dict[str, Any]:
    """Everything that is asked over one wire (`openai` or `ollama_chat`)."""
    address = {"api_base": f"{url}/v1", "api_key": "none"} if wire == "openai" else {"api_base": url}
    to_model = {"model": f"{wire}/auto", **address}
    told: dict[str, Any] = {}
    told["chat"] = litellm.completion(messages=SUM, **to_model).model_dump()
    stream = litellm.completion(messages=SUM, stream=True, **to_model)
    told["stream"] = [chunk.model_dump() for chunk in stream]
    asked = litellm.completion(messages=WEATHER, tools=[TOOL], **to_model).choices[0]
    told["tools"] = asked.model_dump()
    result = {"role": "tool", "tool_call_id": asked.message.tool_calls[0].id, "content": "rain"}
    after = litellm.completion(messages=[*WEATHER, asked.message, result], tools=[TOOL], **to_model)
    told["after_tools"] = after.model_dump()
    embedder = to_model if wire == "openai" else to_model | {"model": "ollama/auto"}
    told["embedding"] = litellm.embedding(input=["one", "two"], **embedder).model_dump()
    try:
        litellm.completion(messages=SUM, **(to_model | {"model": f"{wire}/no-such-model"}), num_retries=0)
    except Exception as error:
        told["error"] = {"kind": type(error).__name__, "message": str(error)}
    return told


print(json.dumps(main(*sys.argv[1:])))
