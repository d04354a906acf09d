"""What the loaders of models need of Transformers, imported without the packages that it uses for other purposes.

scikit-learn, which brings pandas and scipy, is imported for assisted generation if it is installed. No model here
generates, and the import is a quarter of the time of a start.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Make imports of `package` fail, unless it is imported already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment] # Python's way to make an import fail
    try:
        yield
    finally:
        del sys.modules[package]


with _without("sklearn"):
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForSequenceClassification,
        AutoModelForTextEncoding,
        AutoTokenizer,
    )
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForSequenceClassification",
    "AutoModelForTextEncoding",
    "AutoTokenizer",
    "disable_progress_bar",
    "set_verbosity_error",
]
