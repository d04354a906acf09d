"""How the responses of an evaluation were obtained and scored, as far as its sentences depend on it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reward_client.wire.shared_base import is_shared_base_notice


@dataclass(frozen=True)
class Circumstances:
    """How the responses were obtained and scored."""

    recipe: str
    samples: tuple[int, int]
    """Smallest and largest number of responses of one checkpoint to one prompt."""
    temperature: float | None
    """None: unknown, as for recorded responses."""
    max_new_tokens: int | None
    notices: Sequence[str]
    heldout: bool = True
    """Whether the prompts are known to be held out of the training."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Short names of features for people."""

    @property
    def prompts(self) -> str:
        """Name of the prompts in a sentence."""
        return "held-out prompts" if self.heldout else "prompts"

    @property
    def gold_is_demo(self) -> bool:
        """Whether the service reports that its gold model is a demo."""
        return any("demo model" in notice.lower() for notice in self.notices)

    @property
    def gold_is_proxy(self) -> bool:
        """Whether the proxy reward is the gold reward."""
        return self.recipe == "gold"

    @property
    def gold_shares_base(self) -> bool:
        """Whether the service reports that gold model and relevance encoder share their weights."""
        return any(is_shared_base_notice(notice, "relevance encoder") for notice in self.notices)

    @property
    def gold_is_on_policy(self) -> bool:
        """Whether gold model and policy share their weights: `evaluation.shared_base` has the notice."""
        return any(is_shared_base_notice(notice, "policy") for notice in self.notices)
