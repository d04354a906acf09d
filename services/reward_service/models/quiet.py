"""No progress bars and reports of libraries while they load a model: the service reports failures itself."""

import logging

from reward_service.models.pretrained import disable_progress_bar, set_verbosity_error


def quiet_libraries() -> None:
    """Silence Transformers and the hub; their own set-up undoes levels that were set before they were imported."""
    set_verbosity_error()
    disable_progress_bar()
    for name in ("huggingface_hub", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
