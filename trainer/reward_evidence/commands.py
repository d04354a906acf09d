"""`glassbox evaluate`, `report` and `best-of-n`, described without importing torch or matplotlib."""

from reward_client.cli.command import Command

_NEEDS = ("numpy", "scipy", "matplotlib", "jinja2")  # without torch: responses in a file need none

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
        "write the report of an evaluation again",
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
)
