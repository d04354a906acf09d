"""Whether two names are of one model, and the notice that a gold model is fitted on the weights of another model.

The service states it about its relevance encoder, the trainer about the policy. Both make the notice here, and a
reader of notices recognises it here. Pure, but for links in the file system.
"""

from pathlib import Path
from typing import Literal

Other = Literal["relevance encoder", "policy"]

_WHERE: dict[Other, str] = {
    "relevance encoder": "where the two agree",
    "policy": "where the gold model prefers what the policy writes",
}
_DEPENDENT = "that is not independent evidence"


def same_model(one: str, other: str) -> bool:
    """Whether two names (hub id, folder, embedded package) are of one model.

    Two folders of this machine are compared as such. All other names, one of which may be of another machine, are
    compared by their last path segment, so a hub id equals the embedded package or a folder with the same model.
    """
    paths = Path(one), Path(other)
    if all(path.is_absolute() and path.exists() for path in paths):
        return paths[0].samefile(paths[1])
    return _last_part(one) == _last_part(other)


def shared_base_notice(gold: str, base: str | None, other: Other, name: str | None) -> str | None:
    """The notice for a gold model whose `base` is the model `name` too; None for other gold models.

    Args:
        gold: id of the gold model.
        base: name of the model on whose weights it is fitted; None if that is not known.
        other: what `name` is.
        name: of the other model; None if it is not known.
    """
    if not base or not name or not same_model(base, name):
        return None
    return f"the gold model {gold} is fitted on {base}, which is also the {other}: {_WHERE[other]}, {_DEPENDENT}"


def is_shared_base_notice(notice: str, other: Other) -> bool:
    """Whether `notice` is `shared_base_notice` of the `other` model."""
    return f"which is also the {other}" in notice and _DEPENDENT in notice


def _last_part(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].casefold()
