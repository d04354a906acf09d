"""Samples a checkpoint's responses to the prompts: load, render, tokenize, generate, measure the divergence."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from reward_runs.checkpoints import Checkpoint
from reward_runs.errors import EvaluationError
from reward_runs.prompts import Prompt, model_input


@dataclass
class PolicySampler:
    """Samples from checkpoints; keeps the initial policy in memory for comparison."""

    settings: SamplingSettings
    checkpoints: Sequence[Checkpoint]
    initial: Checkpoint | None
    """The divergence is measured from this policy; None: it is not measured."""
    device: str

    def __post_init__(self) -> None:
        self._initial_model = load_model(self.initial.path, self.device) if self.initial else None

    def respond(self, step: int, prompts: Sequence[Prompt], progress: Progress) -> list[Sample]:
        """Sample `settings.samples` responses to every prompt: sample by sample, prompts in order."""
        checkpoint = next(one for one in self.checkpoints if one.step == step)
        is_initial = self.initial is not None and checkpoint.path == self.initial.path
        policy = self._initial_model if is_initial else load_model(checkpoint.path, self.device)
        tokenizer = load_tokenizer(checkpoint.path)
        sampling = Sampling(max_new_tokens=self.settings.max_new_tokens, temperature=self.settings.temperature)
        system, chat = self.settings.system_prompt, self.settings.apply_chat_template
        prompt_ids = [token_ids(tokenizer, prompt, system, chat=chat) for prompt in prompts]
        samples: list[Sample] = []
        for sample in range(self.settings.samples):
            for batch, chosen in enumerate(even_batches(len(prompts), self.settings.batch_size)):
                seed = batch_seed(self.settings.seed, sample, batch)
                torch.manual_seed(seed)
                rollouts = generate(policy, tokenizer, prompt_ids[chosen], sampling)
                measured = self._divergences(policy, prompt_ids[chosen], rollouts)
                for prompt, rollout, divergence in zip(prompts[chosen], rollouts, measured, strict=True):
                    samples.append(to_sample(prompt, sample, seed, rollout, divergence))
                progress(len(samples), len(prompts) * self.settings.samples)
        return samples

    def _divergences(
        self, policy: Any, prompt_ids: Sequence[tuple[int, ...]], rollouts: Sequence[Rollout]
    ) -> Sequence[Divergence | None]:
        if self._initial_model is None:
            return [None] * len(rollouts)
        if policy is self._initial_model:
            return [Divergence(exact=0.0, k1=0.0)] * len(rollouts)
        sequences = [
            TokenSequence(ids, rollout.token_ids) for ids, rollout in zip(prompt_ids, rollouts, strict=True)
        ]
        return divergences(policy, self._initial_model, sequences, self.settings.temperature)


def token_ids(tokenizer: Any, prompt: Prompt, system_prompt: str | None, *, chat: bool) -> tuple[int, ...]:
    """Render `prompt` as OpenRLHF's `PromptDataset` does, then tokenize without adding special tokens."""
    text: Any = model_input(prompt, system_prompt, chat=chat)
    if chat:
        text = tokenizer.apply_chat_template(text, tokenize=False, add_generation_prompt=True)
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def to_sample(
    prompt: Prompt, sample: int, seed: int, rollout: Rollout, divergence: Divergence | None = None
) -> Sample:
    """Return a rollout as response number `sample` to `prompt`."""
    return Sample(
        prompt=prompt,
        sample=sample,
        seed=seed,
        response=rollout.text,
        n_tokens=len(rollout.token_ids),
        truncated=rollout.finish_reason == "length",
        divergence=divergence,
    )


def load_model(path: Path, device: str) -> Any:
    """Load a folder or Hugging Face id: in fp32 on a CPU, where half precision is slow; in bfloat16 elsewhere."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # local files load within seconds
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with _loading(path, "model"):
        model, report = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, output_loading_info=True)
        if missing := sorted(report["missing_keys"]):  # Transformers would sample from random weights there
            raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
        return model.to(device).eval()


def load_tokenizer(path: Path) -> Any:
    """Load the tokenizer of a folder, or of a Hugging Face id. Raises EvaluationError."""
    from transformers import AutoTokenizer

    with _loading(path, "tokenizer"):
        return AutoTokenizer.from_pretrained(path)


@contextmanager
def _loading(path: Path, part: str) -> Iterator[None]:
    """Raise EvaluationError naming the folder and the cause when Transformers cannot load `part`."""
    try:
        yield
    except Exception as exc:  # Transformers and safetensors document no common base of their errors
        raise EvaluationError(f"cannot load the {part} of the checkpoint {path}: {exc}") from exc
