"""`glassbox serve`, described without importing the service."""

from reward_client.cli.command import Command

COMMANDS = (
    Command.lazy(
        "serve",
        "start the reward service",
        "reward_service.__main__",
        extra="service",
        needs=("fastapi", "uvicorn", "torch", "transformers"),
    ),
)
