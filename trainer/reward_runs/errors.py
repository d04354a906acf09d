"""Errors of training runs and evaluations. Every message states what is wrong and what to do next.

RunError                             base class
├── RunDirectoryError
├── DataError
├── EvaluationError
├── ConfigError, PolicyError, PreflightError     before OpenRLHF is launched
└── RunFailedError                               after it
    └── RewardUnavailableError

A file that cannot be written is a `reward_client.writing.OutputError`, which all commands report alike.
"""


class RunError(Exception):
    """A run cannot be read, trained or evaluated."""


class RunDirectoryError(RunError):
    """The run directory is missing, in use, incomplete, or has an unknown schema version."""


class DataError(RunError):
    """A data file is invalid; the message names file, row and field."""


class EvaluationError(RunError):
    """An evaluation cannot be done."""


class ConfigError(RunError):
    """A setting of a training run is invalid, or two settings conflict."""


class PolicyError(RunError):
    """The model to train cannot be loaded."""


class PreflightError(RunError):
    """A check before the launch failed: service, hardware, disk, run directory."""


class RunFailedError(RunError):
    """OpenRLHF ended, or was stopped, before its last step."""


class RewardUnavailableError(RunFailedError):
    """The reward service stopped answering, so the run was stopped."""
