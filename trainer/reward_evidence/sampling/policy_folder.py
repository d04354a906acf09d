"""A policy: the embedded SmolLM2, a folder, or a Hugging Face id."""

from pathlib import Path

from reward_client.embedded_models import SMOLLM2, NotInstalledError, check_embedded, embedded_folder
from reward_client.hub import model_problem
from reward_runs.errors import PolicyError

EMBEDDED_POLICY = SMOLLM2


def resolve_policy(name_or_path: str) -> str:
    """Return a name that Transformers can load: the absolute path of a folder, or a Hugging Face id unchanged.

    Raises PolicyError when a folder contains no model, and when the embedded model is not installed.
    """
    check_policy(name_or_path)
    if name_or_path.lower() == EMBEDDED_POLICY:
        return str(embedded_folder(EMBEDDED_POLICY))
    folder = Path(name_or_path).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name_or_path


def check_policy(name_or_path: str) -> None:
    """Raise PolicyError when there is no such model; quick, because nothing is loaded."""
    if name_or_path.lower() == EMBEDDED_POLICY:
        try:
            check_embedded(EMBEDDED_POLICY)
        except NotInstalledError as exc:
            raise PolicyError(f"{exc}, or choose a folder or Hugging Face id with --policy") from exc
    elif problem := model_problem(name_or_path):
        raise PolicyError(f"policy {name_or_path!r} cannot be loaded: {problem}")
