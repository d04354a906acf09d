"""Samples of a policy in this process: the samples of several prompts in one padded batch."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reward_evidence.best_of_n.sources import SampleSettings
from reward_evidence.sampling.generation import Sampling, generate
from reward_evidence.sampling.policy_sampler import load_model, load_tokenizer, to_sample, token_ids
from reward_evidence.sampling.samples import Sample, batch_seed, even_batches
from reward_runs.checkpoints import Checkpoint
from reward_runs.prompts import Prompt


@dataclass
class PolicySource:
    """A policy that Transformers loads: a folder, or a Hugging Face id."""

    policy: str
    settings: SampleSettings
    batch_size: int
    """Maximum responses in a batch. The random numbers depend on it."""
    device: str

    @property
    def identity(self) -> dict[str, Any]:
        """Name and weights, and what else the random numbers depend on."""
        path = Path(self.policy)
        return {
            "kind": "policy",
            "policy": path.name if path.is_dir() else self.policy,
            "weights_sha256": Checkpoint(0, path).weights_sha256 if path.is_dir() else None,
            "batch_size": self.batch_size,
            "device": self.device,
        }

    def samples(self, prompts: Sequence[Prompt], wanted: Collection[str]) -> Iterator[list[Sample]]:
        """Sample fixed groups of prompts, each with its seed; groups that are not wanted are left out."""
        model, tokenizer = load_model(Path(self.policy), self.device), load_tokenizer(Path(self.policy))
        size = max(1, self.batch_size // self.settings.n)
        for begin in range(0, len(prompts), size):
            group = prompts[begin : begin + size]
            if any(prompt.id in wanted for prompt in group):
                drawn = self._draw(model, tokenizer, group, begin)
                yield [sample for sample in drawn if sample.prompt.id in wanted]

    def _draw(self, model: Any, tokenizer: Any, group: Sequence[Prompt], begin: int) -> list[Sample]:
        """The samples of a group whose first prompt has the index `begin`."""
        settings = self.settings
        chat = tokenizer.chat_template is not None
        rows = [(prompt, sample) for prompt in group for sample in range(settings.n)]
        ids = {prompt.id: token_ids(tokenizer, prompt, settings.system_prompt, chat=chat) for prompt in group}
        drawn: list[Sample] = []
        for batch, chosen in enumerate(even_batches(len(rows), self.batch_size)):
            seed = batch_seed(settings.seed, begin, batch)
            torch.manual_seed(seed)
            sampling = Sampling(max_new_tokens=settings.max_new_tokens, temperature=settings.temperature)
            rollouts = generate(model, tokenizer, [ids[prompt.id] for prompt, _ in rows[chosen]], sampling)
            drawn += [
                to_sample(prompt, sample, seed, rollout)
                for (prompt, sample), rollout in zip(rows[chosen], rollouts, strict=True)
            ]
        return drawn
