"""The gold reward behind this service, beside OpenRLHF's own `serve_rm`, unmodified, with the same model.

    SmolLM2 + one seeded random row ──▶ folder ─┬─▶ reward_service --gold FOLDER     /get_reward?recipe=gold
                                                └─▶ openrlhf.cli.serve_rm             /get_reward
    64 rollouts ──▶ OpenRLHF's SingleTurnAgentExecutor, a post each, all at once ──▶ one side, then the other

The head is random: what a forward pass costs does not depend on what it says, and both sides must say the same.
Both compute in fp32 with torch's fused attention on all cores. The command line of `serve_rm` has no fp32; the
trainer's hook for CPUs adds it, and stands in for the GPU packages that OpenRLHF imports. The file runs as it is.

What can be gained at all is measured beside it: the model's matrix products alone, with the tokens of a prompt
counted once for all its responses; and the same forward passes one by one, and in the service's batches.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.floor import matrix_products
from benchmarks.measure import Figure, Timings, in_turn
from benchmarks.others import NotMeasured, Unavailable, child
from benchmarks.work import groups
from reward_client.wire import ChatMessage
from reward_service.batching import BatchQueue, Unit
from reward_service.models.gold import HfGoldModel
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import Exchange, Tokens
from reward_trainer.openrlhf.environment import CPU_HOOK, with_hook
from reward_trainer.policy import EMBEDDED_POLICY, resolve_policy
from tools.demo import free_port, service

__all__ = ["figures"]

MAX_TOKENS = 2048
"""What `serve_rm` reads of a text by default; no rollout here is longer."""
TOLERANCE = 1e-3
HEAD_SEED = 7
WARM_UP = 4
"""Rollouts before the first round, which else would take as long as any."""
BARE_EVERY = 8
"""Every eighth rollout goes through the bare forward passes, which else take as long as all the rest."""

NAME = "64 one-sample posts, gold model ÷ OpenRLHF's serve_rm, same model, fp32"
TARGET = "≥ 3"
FLOOR = "for scale: the gold model's fp32 matrix products alone, each prompt once ÷ serve_rm"


def figures() -> Iterator[Figure | NotMeasured]:
    """The ratio to `serve_rm`, and what batching this model gains here without any server."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = _reward_model(Path(scratch) / "model")
        rollouts = _rollouts(AutoTokenizer.from_pretrained(folder))
        try:
            yield from _against_serve_rm(folder, rollouts, Path(scratch))
        except Unavailable as exc:
            yield NotMeasured(NAME, TARGET, str(exc))
        yield _batching_alone(load_gold(str(folder), "cpu"), rollouts[::BARE_EVERY])


def _against_serve_rm(folder: Path, rollouts: list[_Rollout], scratch: Path) -> Iterator[Figure]:
    floor, products = matrix_products(AutoModel.from_pretrained(folder), _tokens_at_least(rollouts))
    options = ("--encoder", "none", "--gold", str(folder), "--device", "cpu")
    with _serve_rm(folder, scratch / "serve_rm.log") as theirs, service(scratch / "service.log", *options) as ours:
        urls = {"serve_rm": f"{theirs}/get_reward", "service": f"{ours}/get_reward?recipe=gold"}
        told: dict[str, list[float]] = {}

        def ask(side: str, some: list[_Rollout]) -> None:
            told[side] = asyncio.run(_rewards(urls[side], some))

        for side in urls:
            ask(side, rollouts[:WARM_UP])
        timings = in_turn(
            warm_up=False,
            serve_rm=lambda: ask("serve_rm", rollouts),
            service=lambda: ask("service", rollouts),
            floor=floor,
        )
    apart = max(abs(a - b) for a, b in zip(told["serve_rm"], told["service"], strict=True))
    if apart > TOLERANCE:
        raise AssertionError(f"the sides differ by {apart:.1e}: they do not read the same tokens")
    yield _with_note(timings.ratio(NAME, "service", "serve_rm", TARGET), f"largest difference {apart:.0e}")
    yield _with_note(timings.ratio(FLOOR, "floor", "serve_rm"), products)


def _tokens_at_least(rollouts: list[_Rollout]) -> int:
    """The tokens of a prompt once, and those of every answer; only the last layer could do with fewer."""
    prompts = {rollout.prompt: rollout for rollout in rollouts}.values()
    of_prompts = sum(len(r.tokenizer(r.prompt, add_special_tokens=False)["input_ids"]) for r in prompts)
    return of_prompts + sum(len(rollout.answer_ids) for rollout in rollouts)


def _with_note(figure: Figure, note: str) -> Figure:
    return Figure(figure.name, figure.values, figure.target, figure.unit, f"{figure.note}; {note}")


# The two servers -------------------------------------------------------------------------------------------------


@contextmanager
def _serve_rm(folder: Path, log: Path) -> Iterator[str]:
    port = free_port()
    options = {
        "--reward.model_name_or_path": folder,
        "--ds.param_dtype": "fp32",
        "--ds.attn_implementation": "sdpa",
        "--data.max_len": MAX_TOKENS,
        "--host": "127.0.0.1",
        "--port": port,
    }
    words = [str(word) for option in options.items() for word in option]
    environment = with_hook({**os.environ, "HF_HUB_OFFLINE": "1"}, CPU_HOOK)
    command = [sys.executable, "-m", "openrlhf.cli.serve_rm", *words]
    with child(command, f"http://127.0.0.1:{port}/openapi.json", log, environment):
        yield f"http://127.0.0.1:{port}"


def _reward_model(folder: Path) -> Path:
    """The embedded SmolLM2 with one label, as safetensors that both sides load."""
    base = resolve_policy(EMBEDDED_POLICY)
    model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    generator = torch.Generator().manual_seed(HEAD_SEED)
    with torch.no_grad():
        model.score.weight.normal_(std=model.config.hidden_size**-0.5, generator=generator)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


# What a trainer posts --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rollout:
    """A prompt and what the policy is going to answer."""

    exchange: Exchange
    prompt: str
    """As the trainer renders it, up to where the response begins."""
    answer_ids: list[int]
    """The rest of the rendered conversation: both sides then read the very same tokens."""
    tokenizer: Any

    async def generate(self, *_: Any, **__: Any) -> Any:
        """What vLLM's engine returns; the executor decodes it into its post."""
        output = SimpleNamespace(token_ids=self.answer_ids, finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[output])


def _rollouts(tokenizer: Any) -> list[_Rollout]:
    """8 prompts × 8 responses, all different."""
    rollouts = []
    for item in groups(8, 8):
        turn = ChatMessage(role="user", content=str(item.prompt))
        before = [turn.model_dump()]
        prompt = tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
        after = {"role": "assistant", "content": item.response}
        whole = tokenizer.apply_chat_template([*before, after], tokenize=False)
        answer = tokenizer(whole.removeprefix(prompt), add_special_tokens=False)["input_ids"]
        rollouts.append(_Rollout(Exchange((turn,), item.response), prompt, answer, tokenizer))
    return rollouts


async def _rewards(url: str, rollouts: list[_Rollout]) -> list[float]:
    """Every rollout's reward, asked for as OpenRLHF does: a session and a post each, all at once."""
    from openrlhf.utils.agent import SingleTurnAgentExecutor

    executor = SingleTurnAgentExecutor(url)
    sampling = SimpleNamespace(max_tokens=MAX_TOKENS // 2, logprobs=None)
    outputs = await asyncio.gather(
        *(executor.execute(r.prompt, None, sampling, 2 * MAX_TOKENS, r.tokenizer, r) for r in rollouts)
    )
    rewards = [output["reward"] for output in outputs]
    if None in rewards:
        raise AssertionError(f"{rewards.count(None)} of {len(rewards)} posts to {url} got no reward")
    return [reward[0] for reward in rewards]


# Without servers -------------------------------------------------------------------------------------------------


def _batching_alone(model: HfGoldModel, rollouts: list[_Rollout]) -> Figure:
    tokens = [model.read(rollout.exchange) for rollout in rollouts]
    batches = _batches(model, tokens)
    timings: Timings = in_turn(
        one_by_one=lambda: [model.judge([row]) for row in tokens],
        batched=lambda: [model.judge(batch) for batch in batches],
    )
    figure = timings.ratio("gold model, bare: in the service's batches ÷ one by one", "batched", "one_by_one")
    sizes = f"{len(tokens)} texts, {sum(map(len, tokens))} tokens, {len(batches)} batches"
    return _with_note(figure, f"{sizes}: what batching alone can gain on this processor")


def _batches(model: HfGoldModel, tokens: list[Tokens]) -> list[list[Tokens]]:
    """As the service's queue would form them if all waited."""
    queue: BatchQueue[Tokens, float] = BatchQueue()
    queue.admit([Unit(i, row, len(row)) for i, row in enumerate(tokens)])
    batches = []
    while batch := queue.take(model.limits):
        batches.append([entry.unit.value for entry in batch])
    return batches


if __name__ == "__main__":
    for figure in figures():
        sys.stdout.write(f"{figure.row}\n")
