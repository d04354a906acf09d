"""`glassbox evaluate`, `report`, `best-of-n` and `study`, described without importing torch or matplotlib."""

from reward_client.cli.command import Command

_NEEDS = ("numpy", "scipy", "matplotlib", "jinja2")  # without torch: `evaluate --responses` loads no policy

COMMANDS = (
    Command.lazy(
        "evaluate",
        "evaluate checkpoints or recorded responses, and write the report",
        "reward_evidence.evaluate",
        extra="train",
        needs=_NEEDS,
    ),
    Command.lazy(
        "report",
        "write the report of an evaluation again, or compare several runs",
        "reward_evidence.report.write",
        extra="train",
        needs=_NEEDS,
    ),
    Command.lazy(
        "best-of-n",
        "show how far a reward can be optimised before it harms, without training",
        "reward_evidence.best_of_n.command",
        extra="train",
        needs=_NEEDS,
    ),
    Command.lazy(
        "study",
        "train several recipes with several seeds, and compare them",
        "reward_evidence.study.command",
        extra="train",
        needs=(*_NEEDS, "yaml"),
    ),
)
