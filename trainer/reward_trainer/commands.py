"""`glassbox train` and `glassbox fit-gold`, described without importing torch."""

from reward_client.cli.command import Command

COMMANDS = (
    Command.lazy(
        "train",
        "train a policy with OpenRLHF and the service's rewards",
        "reward_trainer.cli",
        extra="train",
        needs=("torch", "transformers", "psutil", "datasets", "ray"),
    ),
    Command.lazy(
        "fit-gold",
        "fit a small gold model on preference pairs",
        "reward_trainer.fit_gold",
        extra="train",
        needs=("torch", "transformers", "safetensors"),
    ),
)
