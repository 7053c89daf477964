"""OLLAMA_HOST in every form that Ollama's own client takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_router.errors import ConfigError
from llm_router.providers.address import ollama_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("box:8080", "http://box:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000"),
        ("http://0.0.0.0:9000", "http://127.0.0.1:9000"),
        ("http://box", "http://box:80"),
        ("https://box", "https://box:443"),
        ("https://box:11434", "https://box:11434"),
        ("https://box/ollama/", "https://box:443/ollama"),
        ("box/ollama", "http://box:11434/ollama"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("[::]:9000", "http://[::1]:9000"),
        ("  'box'  ", "http://box:11434"),
        ('"box:1"', "http://box:1"),
    ],
)
def test_every_form_becomes_one_url(text: str, url: str) -> None:
    assert ollama_url(text) == url


@pytest.mark.parametrize("text", ["ftp://box", "box:port", "box:99999", "two boxes", "http://[::1"])
def test_what_has_no_sense_is_an_error_with_a_hint(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ollama_url(text)
    assert text.strip() in str(caught.value)
    assert caught.value.hint


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), st.integers(1, 65535))
def test_reading_an_address_again_changes_nothing(host: str, port: int) -> None:
    url = ollama_url(f"{host}:{port}")
    assert ollama_url(url) == url
