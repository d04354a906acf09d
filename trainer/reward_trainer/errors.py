"""Errors of a training run. Every message states what is wrong and what to do next.

reward_runs.errors.RunError
└── TrainerError                 a training run cannot start or continue
    ├── ConfigError              a setting is invalid, or two settings conflict
    ├── PolicyError              the model to train cannot be loaded
    ├── PreflightError           a check before the launch failed: service, hardware, disk, run directory
    └── RunFailedError           OpenRLHF ended, or was stopped, before its last step
        └── RewardUnavailableError   … because the reward service stopped answering
"""

from __future__ import annotations

from reward_runs.errors import RunError


class TrainerError(RunError):
    """A training run cannot start or continue."""


class ConfigError(TrainerError):
    """A setting is invalid, or two settings conflict."""


class PolicyError(TrainerError):
    """The model to train cannot be loaded."""


class PreflightError(TrainerError):
    """A check before the launch failed."""


class RunFailedError(TrainerError):
    """OpenRLHF ended, or was stopped, before its last step."""


class RewardUnavailableError(RunFailedError):
    """The reward service stopped answering, so the run was stopped."""
