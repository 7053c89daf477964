"""Status and words of a server, and the error they mean."""

from __future__ import annotations

import pytest

from llm_router import errors
from llm_router.providers.meaning import broken_off, provider_error
from llm_router.testing import fake_faults

REAL_TEXTS = [
    (404, "model 'x' not found", errors.ModelNotInstalled),
    (404, 'model "x" not found, try pulling it first', errors.ModelNotInstalled),
    (400, "registry.ollama.ai/library/phi4:latest does not support tools", errors.CapabilityMissing),
    (400, '"phi4" does not support thinking', errors.CapabilityMissing),
    (400, '"nomic-embed-text" does not support chat', errors.CapabilityMissing),
    (501, "This server does not support embeddings. Start it with `--embeddings`", errors.CapabilityMissing),
    (
        500,
        "image input is not supported - hint: you may need to provide the mmproj",
        errors.CapabilityMissing,
    ),
    (400, "this model only supports one image while more than one image requested", errors.CapabilityMissing),
    (503, fake_faults.BUSY_TEXT, errors.HostBusy),
    (500, fake_faults.OOM_RUN_TEXT, errors.OutOfMemory),
    (500, fake_faults.OOM_LOAD_TEXT.format(mib=4096.0), errors.OutOfMemory),
    (500, "model requires more system memory (55.1 GiB) than is available (31.0 GiB)", errors.OutOfMemory),
    (500, "llama-server reported out-of-memory during startup", errors.OutOfMemory),
    (500, fake_faults.UNKNOWN_ARCHITECTURE_TEXT.format(architecture="mllama"), errors.ModelUnusable),
    (500, "unable to load model: /models/blobs/sha256-7baf", errors.ModelUnusable),
    (500, fake_faults.RUNNER_DIED_TEXT, errors.RunnerFailed),
    (500, "llama runner process has terminated: signal: killed", errors.RunnerFailed),
    (500, "timed out waiting for llama-server to start", errors.HostTimeout),
    (400, "the input length exceeds the context length", errors.ContextExceeded),
    (400, "the prompt is longer than the context length currently available", errors.ContextExceeded),
    (400, '{"error":{"type":"exceed_context_size_error","n_ctx":4096}}', errors.ContextExceeded),
    (500, 'invalid format: "yaml"; expected "json" or a valid JSON Schema object', errors.RequestRejected),
    (500, "invalid JSON schema in format", errors.RequestRejected),
    (500, 'option "num_ctx" must be of type integer', errors.RequestRejected),
    (400, "top_logprobs must be between 0 and 20", errors.RequestRejected),
    (403, "", errors.HostRefused),
    (404, "404 page not found", errors.BadReply),
    (500, "something nobody has seen before", errors.RunnerFailed),
]


@pytest.mark.parametrize(("status", "text", "kind"), REAL_TEXTS)
def test_each_text_means_one_error(status: int, text: str, kind: type[errors.ProviderError]) -> None:
    error = provider_error(status, text, "x")
    assert type(error) is kind
    assert error.status == status
    assert error.why


def test_a_missing_model_comes_with_the_command_that_gets_it() -> None:
    assert provider_error(404, "model 'phi4' not found", "phi4").hint == "ollama pull phi4"


def test_once_begun_every_error_is_a_broken_stream_that_keeps_its_reason() -> None:
    broken = broken_off(errors.OutOfMemory("no memory", why="cudaMalloc failed"), "spark", "phi4")
    assert (broken.why, broken.host, broken.model) == ("cudaMalloc failed", "spark", "phi4")
    assert not broken.next_may_help
