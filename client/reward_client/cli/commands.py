"""The commands of the base install: `score`, `calibrate`, `doctor`, `completion`."""

from __future__ import annotations

from reward_client.cli import calibrate, completion, doctor, score
from reward_client.cli.command import Command

COMMANDS = (
    Command("score", "score a JSONL file of responses", score.configure, score.run),
    Command("calibrate", "write a recipe that fits an encoder", calibrate.configure, calibrate.run),
    Command("doctor", "check this machine, the installation and the service", doctor.configure, doctor.run),
    Command(
        "completion",
        "print a completion script for a shell",
        completion.configure,
        completion.run,
        extra="completion",
        needs=("shtab",),
    ),
)
