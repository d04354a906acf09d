"""Errors of reading a run. Every message states what is wrong and what to do next.

RunError                     base of this package, the trainer and the evaluation
├── RunDirectoryError        a run directory is missing, in use, incomplete, or has an unknown schema version
└── DataError                a data file is invalid; the message names file, row and field
"""

from __future__ import annotations


class RunError(Exception):
    """A run cannot be read, trained or evaluated."""


class RunDirectoryError(RunError):
    """The run directory is missing, in use, incomplete, or has an unknown schema version."""


class DataError(RunError):
    """A data file is invalid; the message names file, row and field."""
