"""One address for OpenAI, Ollama and Anthropic clients; every request goes through the one ``Router``."""
