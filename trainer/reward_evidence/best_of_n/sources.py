"""Where samples come from: types that the sources share.

policy_source     a checkpoint folder or Hugging Face id                    (torch)
endpoint_source   an OpenAI-compatible server
files             `evaluation`'s reader of recorded responses; nothing is sampled
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reward_evidence.sampling.samples import Sample
from reward_runs.prompts import Prompt


@dataclass(frozen=True)
class SampleSettings:
    """How samples are drawn."""

    n: int
    """Samples of each prompt."""
    temperature: float
    max_new_tokens: int
    seed: int
    system_prompt: str | None


class SampleSource(Protocol):
    """Draws samples of prompts."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the samples depend on besides prompts and `SampleSettings`."""
        ...

    def samples(self, prompts: Sequence[Prompt], wanted: Collection[str]) -> Iterator[list[Sample]]:
        """Yield the samples of those `prompts` whose id is in `wanted`: all n of one or several prompts at a time.

        Random numbers depend on the place of a prompt among `prompts`, so a continued run gives the same samples.
        Raises EvaluationError, after the samples that were drawn already.
        """
        ...
