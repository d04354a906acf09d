"""`glassbox serve` and `glassbox recipes`, described without importing the service."""

from reward_client.cli.command import Command

COMMANDS = (
    Command.lazy(
        "serve",
        "start the reward service",
        "reward_service.__main__",
        extra="service",
        needs=("fastapi", "uvicorn", "torch", "transformers"),
    ),
    Command.lazy(
        "recipes",
        "list, show and check recipes",
        "reward_service.recipe_command",
        extra="service",
        needs=("yaml", "regex", "fastapi"),
    ),
)
