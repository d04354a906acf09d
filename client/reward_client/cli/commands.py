"""The commands of the base install: `score`, `calibrate`, `doctor`, `completion`."""

from __future__ import annotations

from reward_client.cli import calibrate, score
from reward_client.cli.command import Command

__all__ = ["COMMANDS"]

COMMANDS = (
    Command("score", "score a JSONL file of responses", score.configure, score.run),
    Command("calibrate", "write a recipe that fits an encoder", calibrate.configure, calibrate.run),
)
