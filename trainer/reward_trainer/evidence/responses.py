"""A checkpoint answers the held-out prompts, the same way every time.

Randomness: the prompts go through the model in fixed batches, in the order of the file. Before each batch torch's
generator is seeded with a number made of (seed, sample, batch), the same for every checkpoint. So one checkpoint
gives the same responses whenever it is evaluated on the same machine; two checkpoints draw with common random
numbers until a response of the batch ends, and with unrelated ones after that. Figures are paired by prompt, never
by random number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from reward_trainer.data import Prompt, training_row
from reward_trainer.evidence.divergence import Divergence, TokenSequence, divergences
from reward_trainer.evidence.run_folder import Checkpoint
from reward_trainer.generation import Rollout, Sampling, generate

__all__ = ["Draw", "DrawSettings", "PolicyResponder", "Progress", "Responder", "batch_seed"]

Progress = Callable[[int, int], None]
"""Called with the number of responses done and the number of all."""


@dataclass(frozen=True)
class DrawSettings:
    """How responses are drawn."""

    samples: int
    """Responses to each prompt."""
    temperature: float
    max_new_tokens: int
    seed: int
    batch_size: int
    """Part of the settings, because the random numbers depend on it."""
    system_prompt: str | None
    apply_chat_template: bool
    kl: bool
    """Whether to measure the divergence from the start policy."""


@dataclass(frozen=True)
class Draw:
    """One response, before it is scored."""

    prompt: Prompt
    sample: int
    seed: int
    response: str
    n_tokens: int
    truncated: bool
    divergence: Divergence | None


class Responder(Protocol):
    """Lets a checkpoint answer prompts."""

    def respond(self, checkpoint: Checkpoint, prompts: Sequence[Prompt], progress: Progress) -> list[Draw]:
        """Return every sample of every prompt: sample by sample, prompts in order."""
        ...


def batch_seed(seed: int, sample: int, batch: int) -> int:
    """Mix the seed of an evaluation with the indices of a sample and a batch: neighbours share nothing."""
    return int(np.random.SeedSequence([seed, sample, batch]).generate_state(1)[0])


@dataclass
class PolicyResponder:
    """Answers with the checkpoints of a run; keeps the start policy in memory to compare with."""

    settings: DrawSettings
    start: Checkpoint | None
    """Where the divergence is measured from; None to leave it out."""
    device: str

    def __post_init__(self) -> None:
        self._start_model = _load_model(self.start.path, self.device) if self.start else None

    def respond(self, checkpoint: Checkpoint, prompts: Sequence[Prompt], progress: Progress) -> list[Draw]:
        """Answer every prompt `settings.samples` times."""
        policy = self._policy(checkpoint)
        tokenizer = _load_tokenizer(checkpoint.path)
        prompt_ids = [self._token_ids(tokenizer, prompt) for prompt in prompts]
        draws: list[Draw] = []
        for sample in range(self.settings.samples):
            for batch, begin in enumerate(range(0, len(prompts), self.settings.batch_size)):
                chosen = slice(begin, begin + self.settings.batch_size)
                seed = batch_seed(self.settings.seed, sample, batch)
                rollouts = self._generate(policy, tokenizer, prompt_ids[chosen], seed)
                measured = self._divergences(policy, prompt_ids[chosen], rollouts)
                for prompt, rollout, divergence in zip(prompts[chosen], rollouts, measured, strict=True):
                    draws.append(_draw(prompt, sample, seed, rollout, divergence))
                progress(len(draws), len(prompts) * self.settings.samples)
        return draws

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


def _draw(prompt: Prompt, sample: int, seed: int, rollout: Rollout, divergence: Divergence | None) -> Draw:
    return Draw(
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

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).eval()


def _load_tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)
