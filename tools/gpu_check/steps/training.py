"""A few steps of RL without vLLM: the trainer's own sampling, a small policy on the device, rewards over HTTP.

REINFORCE with the mean reward of a prompt's group as its baseline, divided by the group's standard deviation, as
in GRPO.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from reward_client import Item, RewardClient
from reward_evidence.sampling.generation import Rollout, Sampling, generate
from reward_runs.prompts import load_embedded
from tests.tiny_llama import save_tiny_llama
from tools.gpu_check.gold_models import built
from tools.gpu_check.service import serving
from tools.gpu_check.setting import Setting
from tools.gpu_check.timing import finish

LEARNING_RATE = 3e-3
LOGPROB_BAR = 1e-3
"""Allowed difference of a token's log-probability between sampling and training, in nats, in fp32."""


def run(setting: Setting) -> None:
    """Sample, score and update a few times; the policy must change, and every number must be finite."""
    folder = save_tiny_llama(setting.scratch / "policy")
    policy: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(setting.device)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    start = [weight.detach().clone() for weight in policy.parameters()]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=LEARNING_RATE)
    torch.manual_seed(0)
    gold = built("0.1 B", setting.scratch, setting.device, small=setting.small)
    with serving(setting, "--gold", str(gold)) as url, RewardClient(url) as client:
        for step in range(setting.size(6, 2)):
            _step(setting, step, policy, tokenizer, optimizer, client)
    moved = max(float((a - b.detach()).abs().max()) for a, b in zip(start, policy.parameters(), strict=True))
    setting.note("training: largest change of a weight", moved, kept=moved > 0)


def _step(
    setting: Setting,
    step: int,
    policy: Any,
    tokenizer: Any,
    optimizer: Optimizer,
    client: RewardClient,
) -> None:
    each, n_prompts = setting.size(16, 4), setting.size(16, 2)
    prompts = [row.prompt for row in load_embedded("train")[step * n_prompts : (step + 1) * n_prompts]]
    ids = [_prompt_ids(tokenizer, prompt) for prompt in prompts for _ in range(each)]
    marks = [time.perf_counter()]
    sampling = Sampling(max_new_tokens=setting.size(64, 12), temperature=1.0, top_p=0.95, top_k=50)
    rollouts = generate(policy.eval(), tokenizer, ids, sampling, with_logprobs=True)
    finish(setting.device)
    marks.append(time.perf_counter())
    asked = [
        Item(prompt=prompts[i // each], response=rollout.text or " ", query_type="open_ended")
        for i, rollout in enumerate(rollouts)
    ]
    reply = client.score(asked, recipe="rer", gold=True)
    rewards = torch.tensor(reply.rewards, dtype=torch.float32, device=setting.device)
    marks.append(time.perf_counter())
    apart, loss = _update(policy.train(), optimizer, ids, rollouts, rewards.view(n_prompts, each))
    finish(setting.device)
    marks.append(time.perf_counter())
    sampled, scored, updated = (1e3 * (b - a) for a, b in pairwise(marks))
    said = (
        f"sampling {sampled:.0f} ms, rewards over HTTP {scored:.0f} ms, update {updated:.0f} ms, loss {loss:.3g}"
    )
    setting.note(f"training step {step + 1}: mean reward of {len(asked)}", float(rewards.mean()), note=said)
    judged = [result.gold_reward for result in reply.results if result.gold_reward is not None]
    every = len(judged) == len(asked)
    setting.note(f"training step {step + 1}: mean gold score", sum(judged) / max(1, len(judged)), kept=every)
    note = "largest difference of a token's log-probability, nats"
    setting.note(f"training step {step + 1}: sampling - training", apart, "nats", note, kept=apart <= LOGPROB_BAR)


def _prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    message = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _update(
    policy: Any,
    optimizer: Optimizer,
    prompts: Sequence[Sequence[int]],
    rollouts: Sequence[Rollout],
    rewards: Tensor,
) -> tuple[float, float]:
    """A step on `rewards` (prompts, responses); the deviation of log-probabilities from sampling, and the loss."""
    spread = rewards.std(1, keepdim=True).clamp(min=1e-6)
    advantages = ((rewards - rewards.mean(1, keepdim=True)) / spread).flatten()  # (B,)
    logprobs, mask = _logprobs(policy, prompts, rollouts)  # (B, T) each
    sampled = torch.zeros_like(logprobs)
    for row, rollout in enumerate(rollouts):
        sampled[row, mask[row]] = torch.tensor(rollout.logprobs, device=sampled.device)
    apart = float(((logprobs.detach() - sampled).abs() * mask).max())
    loss = -(logprobs * mask * advantages[:, None]).sum() / mask.sum()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return apart, float(loss.detach())


def _logprobs(policy: Any, prompts: Sequence[Sequence[int]], rollouts: Sequence[Rollout]) -> tuple[Tensor, Tensor]:
    """Log-probabilities (nats) of the tokens after the first, and which of them were sampled; (B, T - 1) each."""
    rows = [[*prompt, *rollout.token_ids] for prompt, rollout in zip(prompts, rollouts, strict=True)]
    width = max(map(len, rows))
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask, sampled = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
        sampled[i, len(prompt) : len(row)] = True
    ids, mask, sampled = (table.to(policy.device) for table in (ids, mask, sampled))
    logits = policy(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    found = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return found, sampled[:, 1:]
