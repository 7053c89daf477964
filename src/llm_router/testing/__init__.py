"""Doubles that speak the real protocol, for this project's tests and for yours.

`llm_router.testing.fake_ollama` is an Ollama server on loopback HTTP that needs no model and no GPU.
It is not imported here, so that importing this package does not load an HTTP server.
"""
