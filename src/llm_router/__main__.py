"""``python -m llm_router`` is the command ``llm-router``."""

from llm_router.cli.main import main

if __name__ == "__main__":
    main()
