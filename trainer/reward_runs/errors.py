"""What can stop a run, and whose fault it is.

TrainerError                 base: the message says what to do next
├── ConfigError              a setting is wrong, or two do not fit together
├── DataError                a prompts file is wrong; names file, row and field
├── PolicyError              the model to train cannot be had
├── PreflightError           a check before the launch failed: service, hardware, disk, run directory
└── RunFailedError           OpenRLHF ended, or was stopped, without finishing
    └── RewardLostError      … because rewards could no longer be had
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "PolicyError",
    "PreflightError",
    "RewardLostError",
    "RunFailedError",
    "TrainerError",
]


class TrainerError(Exception):
    """A training run cannot start or go on."""


class ConfigError(TrainerError):
    """A setting is wrong, or two settings do not fit together."""


class DataError(TrainerError):
    """The prompts are wrong; the message names file, row and field."""


class PolicyError(TrainerError):
    """The model to train cannot be had."""


class PreflightError(TrainerError):
    """A check before the launch failed."""


class RunFailedError(TrainerError):
    """OpenRLHF ended, or was stopped, without finishing its steps."""


class RewardLostError(RunFailedError):
    """Rewards could no longer be had, so the run was stopped rather than trained on something else."""
