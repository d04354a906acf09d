"""A checkpoint answers the held-out prompts: load it, render and tokenize, generate, measure the divergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reward_evidence.sampling.generation import Rollout, Sampling, generate
from reward_evidence.sampling.samples import (
    Divergence,
    Progress,
    Sample,
    SamplingSettings,
    batch_seed,
    even_batches,
)
from reward_evidence.statistics.kl import TokenSequence, divergences
from reward_runs.prompts import Prompt, training_row
from reward_runs.run_reader import Checkpoint

__all__ = ["PolicySampler"]


@dataclass
class PolicySampler:
    """Answers with the checkpoints of a run; keeps the start policy in memory to compare with."""

    settings: SamplingSettings
    start: Checkpoint | None
    """Where the divergence is measured from; None to leave it out."""
    device: str

    def __post_init__(self) -> None:
        self._start_model = _load_model(self.start.path, self.device) if self.start else None

    def respond(self, checkpoint: Checkpoint, prompts: Sequence[Prompt], progress: Progress) -> list[Sample]:
        """Answer every prompt `settings.samples` times."""
        policy = self._policy(checkpoint)
        tokenizer = _load_tokenizer(checkpoint.path)
        prompt_ids = [self._token_ids(tokenizer, prompt) for prompt in prompts]
        samples: list[Sample] = []
        for sample in range(self.settings.samples):
            for batch, chosen in enumerate(even_batches(len(prompts), self.settings.batch_size)):
                seed = batch_seed(self.settings.seed, sample, batch)
                rollouts = self._generate(policy, tokenizer, prompt_ids[chosen], seed)
                measured = self._divergences(policy, prompt_ids[chosen], rollouts)
                for prompt, rollout, divergence in zip(prompts[chosen], rollouts, measured, strict=True):
                    samples.append(_draw(prompt, sample, seed, rollout, divergence))
                progress(len(samples), len(prompts) * self.settings.samples)
        return samples

    def _policy(self, checkpoint: Checkpoint) -> Any:
        if self.start is not None and checkpoint.path == self.start.path:
            return self._start_model
        return _load_model(checkpoint.path, self.device)

    def _token_ids(self, tokenizer: Any, prompt: Prompt) -> tuple[int, ...]:
        """Render `prompt` as OpenRLHF's `PromptDataset` does, then tokenize without adding special tokens."""
        chat = self.settings.apply_chat_template
        text = training_row(prompt, self.settings.system_prompt, chat=chat)["input"]
        if chat:
            text = tokenizer.apply_chat_template(text, tokenize=False, add_generation_prompt=True)
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    def _generate(
        self, policy: Any, tokenizer: Any, prompt_ids: Sequence[tuple[int, ...]], seed: int
    ) -> list[Rollout]:
        torch.manual_seed(seed)
        sampling = Sampling(max_new_tokens=self.settings.max_new_tokens, temperature=self.settings.temperature)
        return generate(policy, tokenizer, prompt_ids, sampling)

    def _divergences(
        self, policy: Any, prompt_ids: Sequence[tuple[int, ...]], rollouts: Sequence[Rollout]
    ) -> Sequence[Divergence | None]:
        if self._start_model is None:
            return [None] * len(rollouts)
        if policy is self._start_model:
            return [Divergence(exact=0.0, k1=0.0)] * len(rollouts)
        sequences = [
            TokenSequence(ids, rollout.token_ids) for ids, rollout in zip(prompt_ids, rollouts, strict=True)
        ]
        return divergences(policy, self._start_model, sequences, self.settings.temperature)


def _draw(prompt: Prompt, sample: int, seed: int, rollout: Rollout, divergence: Divergence | None) -> Sample:
    return Sample(
        prompt=prompt,
        sample=sample,
        seed=seed,
        response=rollout.text,
        n_tokens=len(rollout.token_ids),
        truncated=rollout.finish_reason == "length",
        divergence=divergence,
    )


def _load_model(path: Path, device: str) -> Any:
    """Load in fp32 on a CPU, where half precision is slow and coarse; in bfloat16 elsewhere."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # reading a local file is no progress worth a line
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).eval()


def _load_tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)
