"""JSON schemas of the bodies that the gateway takes and gives, as its OpenAPI document shows them.

They name what clients of each API send. Every one of them is open: fields that are not named here reach the
server that answers, as far as its own API has a place for them.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
SWITCH: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
WHOLE: Schema = {"type": "integer", "minimum": -(2**31), "maximum": 2**31}
ANY_OBJECT: Schema = {"type": "object"}
IMAGE: Schema = {"type": "string", "format": "image-base64", "description": "bare base64, or a data: URL"}


def ref(name: str) -> Schema:
    """A schema of ``SCHEMAS`` by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(items: Schema, *, least: int = 0) -> Schema:
    return {"type": "array", "items": items, **({"minItems": least} if least else {})}


def one_of(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def or_null(schema: Schema) -> Schema:
    return one_of(schema, {"type": "null"})


def thing(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object; ``_`` at the end of a name is not part of it."""
    fields = {name.rstrip("_"): schema for name, schema in properties.items()}
    return {"type": "object", "properties": fields, **({"required": list(required)} if required else {})}


def const(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


MODEL: Schema = {
    "type": "string",
    "default": "auto",
    "description": "auto, auto-fast, auto-best, one of them with a category behind a colon, or a model",
    "examples": ["auto", "auto-fast", "auto-best", "auto:structured_data"],
}
STOP = one_of(TEXT, listed(TEXT))
EFFORT = const("none", "minimal", "low", "medium", "high", "xhigh")
KEEP_ALIVE = one_of(TEXT, NUMBER)
FORMAT = one_of(const("json", ""), ANY_OBJECT)
THINK = one_of(SWITCH, const("low", "medium", "high", "max"))

SCHEMAS: dict[str, Schema] = {
    "Function": thing(("name",), name=TEXT, description=TEXT, parameters=ANY_OBJECT),
    "Tool": thing(("type", "function"), type=const("function"), function=ref("Function")),
    "OpenAIToolCall": thing(
        ("function",),
        id=TEXT,
        type=const("function"),
        function=thing(("name", "arguments"), name=TEXT, arguments={**TEXT, "format": "json-object"}),
    ),
    "OpenAIPart": one_of(
        thing(("type", "text"), type=const("text"), text=TEXT),
        thing(
            ("type", "image_url"),
            type=const("image_url"),
            image_url=one_of(thing(("url",), url=IMAGE, detail=const("auto", "low", "high")), IMAGE),
        ),
    ),
    "OpenAIMessage": thing(
        ("role",),
        role=const("system", "developer", "user", "assistant", "tool"),
        content=one_of(TEXT, listed(ref("OpenAIPart")), {"type": "null"}),
        name=TEXT,
        tool_calls=listed(ref("OpenAIToolCall")),
        tool_call_id=TEXT,
        reasoning=TEXT,
        reasoning_content=TEXT,
    ),
    "OpenAISampling": thing(
        temperature=NUMBER,
        top_p=NUMBER,
        top_k=WHOLE,
        min_p=NUMBER,
        seed=WHOLE,
        stop=STOP,
        frequency_penalty=NUMBER,
        presence_penalty=NUMBER,
        max_tokens=COUNT,
        stream=SWITCH,
        stream_options=thing(include_usage=SWITCH),
        user=TEXT,
    ),
    "OpenAIChat": {
        "allOf": [
            ref("OpenAISampling"),
            thing(
                ("messages",),
                model=MODEL,
                messages=listed(ref("OpenAIMessage"), least=1),
                tools=listed(ref("Tool")),
                tool_choice=one_of(
                    const("none", "auto", "required"),
                    ref("NamedFunction"),
                    thing(
                        ("type", "allowed_tools"),
                        type=const("allowed_tools"),
                        allowed_tools=thing(
                            ("mode", "tools"),
                            mode=const("auto", "required"),
                            tools=listed(ref("NamedFunction"), least=1),
                        ),
                    ),
                ),
                response_format=one_of(
                    thing(("type",), type=const("text", "json_object")),
                    thing(
                        ("type", "json_schema"),
                        type=const("json_schema"),
                        json_schema=thing(("name",), name=TEXT, schema=ANY_OBJECT, strict=SWITCH),
                    ),
                ),
                logprobs=SWITCH,
                top_logprobs={"type": "integer", "minimum": 0, "maximum": 20},
                max_completion_tokens=COUNT,
                reasoning_effort=EFFORT,
                n={"type": "integer", "enum": [1]},
            ),
        ]
    },
    "OpenAICompletion": {
        "allOf": [
            ref("OpenAISampling"),
            thing(
                ("prompt",),
                model=MODEL,
                prompt=one_of(TEXT, {**listed(TEXT, least=1), "maxItems": 1}),
                suffix=TEXT,
                logprobs={"type": "integer", "minimum": 0, "maximum": 20},
            ),
        ]
    },
    "OpenAIEmbeddings": thing(
        ("input",),
        model=MODEL,
        input=one_of(TEXT, listed(TEXT, least=1)),
        dimensions=COUNT,
        encoding_format=const("float", "base64"),
        user=TEXT,
    ),
    "NamedFunction": thing(
        ("type", "function"), type=const("function"), function=thing(("name",), name=TEXT)
    ),
    "ResponsesFunction": thing(("type", "name"), type=const("function"), name=TEXT),
    "Responses": thing(
        ("input",),
        model=MODEL,
        input=one_of(TEXT, listed(ref("ResponsesItem"), least=1)),
        instructions=TEXT,
        tools=listed(thing(("type", "name"), type=const("function"), name=TEXT, parameters=ANY_OBJECT)),
        tool_choice=one_of(
            const("none", "auto", "required"),
            ref("ResponsesFunction"),
            thing(
                ("type", "mode", "tools"),
                type=const("allowed_tools"),
                mode=const("auto", "required"),
                tools=listed(ref("ResponsesFunction"), least=1),
            ),
        ),
        text=thing(
            format=one_of(
                thing(("type",), type=const("text", "json_object")),
                thing(("type", "schema"), type=const("json_schema"), name=TEXT, schema=ANY_OBJECT),
            )
        ),
        reasoning=thing(effort=EFFORT),
        max_output_tokens=COUNT,
        temperature=NUMBER,
        top_p=NUMBER,
        stream=SWITCH,
        parallel_tool_calls=SWITCH,
        metadata=ANY_OBJECT,
        user=TEXT,
    ),
    "ResponsesItem": one_of(
        thing(
            ("role", "content"),
            type=const("message"),
            role=const("user", "assistant", "system", "developer"),
            content=one_of(
                TEXT,
                listed(
                    one_of(
                        thing(("type", "text"), type=const("input_text", "output_text"), text=TEXT),
                        thing(("type", "image_url"), type=const("input_image"), image_url=IMAGE),
                    )
                ),
            ),
        ),
        thing(
            ("type", "call_id", "name", "arguments"),
            type=const("function_call"),
            call_id=TEXT,
            name=TEXT,
            arguments={**TEXT, "format": "json-object"},
        ),
        thing(("type", "call_id", "output"), type=const("function_call_output"), call_id=TEXT, output=TEXT),
        thing(
            ("type", "summary"),
            type=const("reasoning"),
            summary=listed(thing(("type", "text"), type=const("summary_text"), text=TEXT)),
        ),
    ),
    "OllamaOptions": thing(
        num_ctx=COUNT,
        num_predict=WHOLE,
        temperature=NUMBER,
        top_k=WHOLE,
        top_p=NUMBER,
        min_p=NUMBER,
        seed=WHOLE,
        stop=STOP,
        repeat_penalty=NUMBER,
        repeat_last_n=WHOLE,
        presence_penalty=NUMBER,
        frequency_penalty=NUMBER,
    ),
    "OllamaMessage": thing(
        ("role", "content"),
        role={
            "type": "string",
            "minLength": 1,
            "description": "system, user, assistant or tool, or another that the model's template knows",
            "examples": ["user", "system", "assistant", "tool"],
        },
        content=TEXT,
        thinking=TEXT,
        images=listed(IMAGE),
        tool_calls=listed(
            thing(("function",), function=thing(("name",), name=TEXT, arguments=ANY_OBJECT), id=TEXT)
        ),
        tool_name=TEXT,
    ),
    "OllamaCommon": thing(
        model=MODEL,
        stream={**SWITCH, "default": True},
        format=FORMAT,
        options=ref("OllamaOptions"),
        keep_alive=KEEP_ALIVE,
        think=THINK,
        logprobs=SWITCH,
        top_logprobs={"type": "integer", "minimum": 0, "maximum": 20},
        truncate=SWITCH,
    ),
    "OllamaChat": {
        "allOf": [
            ref("OllamaCommon"),
            thing(("messages",), messages=listed(ref("OllamaMessage"), least=1), tools=listed(ref("Tool"))),
        ]
    },
    "OllamaGenerate": {
        "allOf": [
            ref("OllamaCommon"),
            thing(
                ("prompt",),
                prompt=TEXT,
                suffix=TEXT,
                system=TEXT,
                template=TEXT,
                context=listed({"type": "integer", "minimum": 0, "maximum": 2**31}),
                raw=SWITCH,
                images=listed(IMAGE),
            ),
        ]
    },
    "OllamaEmbed": thing(
        ("input",),
        model=MODEL,
        input=one_of(TEXT, listed(TEXT)),
        truncate=SWITCH,
        dimensions=COUNT,
        keep_alive=KEEP_ALIVE,
        options=ref("OllamaOptions"),
    ),
    "OllamaEmbeddings": thing(
        ("prompt",), model=MODEL, prompt=TEXT, keep_alive=KEEP_ALIVE, options=ref("OllamaOptions")
    ),
    "AnthropicImage": thing(
        ("type", "source"),
        type=const("image"),
        source=thing(
            ("type", "media_type", "data"),
            type=const("base64"),
            media_type=const("image/png", "image/jpeg", "image/gif", "image/webp"),
            data=IMAGE,
        ),
    ),
    "AnthropicText": thing(
        ("type", "text"), type=const("text"), text=TEXT, cache_control=thing(type=const("ephemeral"))
    ),
    "AnthropicBlock": one_of(
        ref("AnthropicText"),
        ref("AnthropicImage"),
        thing(
            ("type", "tool_use_id"),
            type=const("tool_result"),
            tool_use_id=TEXT,
            content=one_of(TEXT, listed(one_of(ref("AnthropicText"), ref("AnthropicImage")))),
            is_error=SWITCH,
        ),
        thing(
            ("type", "source"),
            type=const("document"),
            title=or_null(TEXT),
            source=thing(("type", "data"), type=const("text"), media_type=const("text/plain"), data=TEXT),
        ),
    ),
    "AnthropicSaid": one_of(
        ref("AnthropicText"),
        thing(("type", "thinking"), type=const("thinking"), thinking=TEXT, signature=TEXT),
        thing(("type", "id", "name", "input"), type=const("tool_use"), id=TEXT, name=TEXT, input=ANY_OBJECT),
    ),
    "AnthropicMessage": one_of(
        thing(
            ("role", "content"),
            role=const("user"),
            content=one_of(TEXT, listed(ref("AnthropicBlock"), least=1)),
        ),
        thing(
            ("role", "content"),
            role=const("assistant"),
            content=one_of(TEXT, listed(ref("AnthropicSaid"), least=1)),
        ),
        thing(
            ("role", "content"),
            role=const("system"),
            content=one_of(TEXT, listed(ref("AnthropicText"), least=1)),
        ),
    ),
    "AnthropicCount": thing(
        ("messages",),
        model=MODEL,
        messages=listed(ref("AnthropicMessage"), least=1),
        system=one_of(TEXT, listed(ref("AnthropicText"))),
        tools=listed(thing(("name", "input_schema"), name=TEXT, description=TEXT, input_schema=ANY_OBJECT)),
        tool_choice=one_of(
            thing(("type",), type=const("auto", "any", "none")),
            thing(("type", "name"), type=const("tool"), name=TEXT),
        ),
        thinking=one_of(
            thing(("type", "budget_tokens"), type=const("enabled"), budget_tokens=COUNT),
            thing(("type",), type=const("disabled", "adaptive")),
        ),
    ),
    "AnthropicMessages": {
        "allOf": [
            ref("AnthropicCount"),
            thing(
                ("max_tokens",),
                max_tokens=COUNT,
                stream=SWITCH,
                temperature=NUMBER,
                top_p=NUMBER,
                top_k=WHOLE,
                stop_sequences=listed(TEXT),
                metadata=thing(user_id=or_null(TEXT)),
            ),
        ]
    },
    "Reason": {
        **thing(
            ("decision_id", "model", "host", "category", "confidence", "reason", "fallback"),
            decision_id=TEXT,
            model=TEXT,
            host=TEXT,
            category=TEXT,
            confidence=NUMBER,
            stage=TEXT,
            selected_model=or_null(TEXT),
            reason=TEXT,
            fallback=listed(ANY_OBJECT),
            warnings=listed(TEXT),
        ),
        "description": "How the reply came about",
    },
    "OpenAIError": thing(
        ("error",),
        error=thing(
            ("message", "type", "param", "code"),
            message=TEXT,
            type=TEXT,
            param={"type": "null"},
            code=TEXT,
        ),
    ),
    "OllamaError": thing(("error",), error=TEXT),
    "AnthropicError": thing(
        ("type", "error", "request_id"),
        type=const("error"),
        error=thing(("type", "message"), type=TEXT, message=TEXT),
        request_id=TEXT,
    ),
    "OpenAIChatAnswer": thing(
        ("id", "object", "created", "model", "choices", "usage", "router"),
        id=TEXT,
        object=const("chat.completion"),
        created={"type": "integer"},
        model=TEXT,
        choices=listed(
            thing(
                ("index", "message", "finish_reason"),
                index={"type": "integer"},
                message=thing(("role", "content"), role=const("assistant"), content=or_null(TEXT)),
                finish_reason=const("stop", "length", "tool_calls", "content_filter"),
            ),
            least=1,
        ),
        usage=ANY_OBJECT,
        router=ref("Reason"),
    ),
    "OpenAICompletionAnswer": thing(
        ("id", "object", "created", "model", "choices", "usage", "router"),
        id=TEXT,
        object=const("text_completion"),
        choices=listed(thing(("text", "index", "finish_reason"), text=TEXT), least=1),
        usage=ANY_OBJECT,
        router=ref("Reason"),
    ),
    "OpenAIEmbeddingsAnswer": thing(
        ("object", "data", "model", "usage", "router"),
        object=const("list"),
        data=listed(
            thing(
                ("object", "index", "embedding"),
                object=const("embedding"),
                embedding=one_of(listed(NUMBER), TEXT),
            ),
            least=1,
        ),
        router=ref("Reason"),
    ),
    "ResponsesAnswer": thing(
        ("id", "object", "status", "output", "usage", "router"),
        id=TEXT,
        object=const("response"),
        status=const("completed", "incomplete"),
        output=listed(ANY_OBJECT),
        router=ref("Reason"),
    ),
    "OllamaChatAnswer": thing(
        ("model", "created_at", "message", "done"),
        model=TEXT,
        created_at=TEXT,
        message=thing(("role", "content"), role=const("assistant"), content=TEXT),
        done={"const": True},
        done_reason=TEXT,
        router=ref("Reason"),
    ),
    "OllamaGenerateAnswer": thing(
        ("model", "created_at", "response", "done"),
        model=TEXT,
        created_at=TEXT,
        response=TEXT,
        done={"const": True},
        done_reason=TEXT,
        router=ref("Reason"),
    ),
    "OllamaEmbedAnswer": thing(
        ("model", "embeddings"), model=TEXT, embeddings=listed(listed(NUMBER)), router=ref("Reason")
    ),
    "OllamaEmbeddingsAnswer": thing(("embedding",), embedding=listed(NUMBER), router=ref("Reason")),
    "AnthropicAnswer": thing(
        ("id", "type", "role", "model", "content", "stop_reason", "usage", "router"),
        id=TEXT,
        type=const("message"),
        role=const("assistant"),
        content=listed(thing(("type",), type=const("text", "thinking", "tool_use"))),
        stop_reason=const("end_turn", "max_tokens", "stop_sequence", "tool_use"),
        usage=thing(
            ("input_tokens", "output_tokens"),
            input_tokens={"type": "integer", "minimum": 0},
            output_tokens={"type": "integer", "minimum": 0},
        ),
        router=ref("Reason"),
    ),
    "AnthropicCountAnswer": thing(("input_tokens",), input_tokens={"type": "integer", "minimum": 0}),
    "Decision": {
        **thing(
            ("decision_id", "category", "answer_model", "routing_reasoning"),
            decision_id=TEXT,
            category=TEXT,
            answer_model=or_null(TEXT),
        ),
        "description": "A decision, as docs/reference/decision.md tells it",
    },
    "HostNow": {
        **thing(
            (
                "name",
                "kind",
                "url",
                "reachable",
                "problem",
                "version",
                "usable_memory_gb",
                "age_s",
                "resident",
                "queues_known",
                "loading",
                "loads_waiting",
                "demand_per_hour",
                "kept",
                "speeds",
                "loads_rest",
                "resting",
                "unusable",
            ),
            name=TEXT,
            kind=const("ollama", "openai", "embedded"),
            url=TEXT,
            reachable=SWITCH,
            problem=or_null(TEXT),
            version=or_null(TEXT),
            usable_memory_gb=or_null(NUMBER),
            age_s=or_null(NUMBER),
            resident=listed(
                thing(
                    ("name", "size_gb", "context_length", "expires_at", "kept", "running", "waiting"),
                    name=TEXT,
                    size_gb=or_null(NUMBER),
                    context_length=or_null({"type": "integer"}),
                    expires_at=or_null(TEXT),
                    kept=SWITCH,
                    running=or_null({"type": "integer"}),
                    waiting=or_null({"type": "integer"}),
                )
            ),
            queues_known=SWITCH,
            loading=or_null(
                thing(("model", "left_s", "waiting"), model=TEXT, left_s=NUMBER, waiting={"type": "integer"})
            ),
            loads_waiting=listed(thing(("model", "waiting"), model=TEXT, waiting={"type": "integer"})),
            demand_per_hour={"type": "object", "additionalProperties": NUMBER},
            kept=listed(TEXT),
            speeds=listed(
                thing(
                    (
                        "model",
                        "load_gb_per_s",
                        "load_samples",
                        "prefill_tokens_per_s",
                        "prefill_samples",
                        "decode_tokens_per_s",
                        "decode_samples",
                    ),
                    model=TEXT,
                    load_gb_per_s=NUMBER,
                    load_samples={"type": "integer"},
                    prefill_tokens_per_s=NUMBER,
                    prefill_samples={"type": "integer"},
                    decode_tokens_per_s=NUMBER,
                    decode_samples={"type": "integer"},
                )
            ),
            loads_rest=or_null(thing(("why", "left_s"), why=TEXT, left_s=NUMBER)),
            resting=listed(thing(("model", "why", "left_s"), model=TEXT, why=TEXT, left_s=or_null(NUMBER))),
            unusable=listed(thing(("model", "why"), model=TEXT, why=TEXT)),
        ),
        "description": "One host, as docs/guides/gateway.md tells it",
    },
}
