"""The gold reward of this service compared with OpenRLHF's own `serve_rm`, unmodified, with the same model.

    SmolLM2 + one seeded random row ──▶ folder ─┬─▶ reward_service --gold FOLDER     /get_reward?recipe=gold
                                                └─▶ openrlhf.cli.serve_rm             /get_reward
    64 rollouts ──▶ OpenRLHF's SingleTurnAgentExecutor, a post each, all at once ──▶ one side, then the other

The head is random: the cost of a forward pass does not depend on its result, and both sides must return the same.
Both compute in fp32 with torch's fused attention on all cores. The command line of `serve_rm` has no fp32; the
trainer's hook for CPUs adds it and replaces the GPU packages that OpenRLHF imports. OpenRLHF's file is not
modified.

Two bounds are measured as well: the model's matrix products alone, with the tokens of a prompt counted once for
all its responses; and the same forward passes one by one, and in the service's batches.
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

from benchmarks.items import groups
from benchmarks.lower_bound import matrix_products
from benchmarks.measure import Figure, NotMeasured, Timings, in_turn, with_note
from reward_client.network import free_port
from reward_client.wire import ChatMessage
from reward_evidence.sampling.policy_folder import EMBEDDED_POLICY, resolve_policy
from reward_service.batching import BatchQueue, Unit
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import Exchange, LocalGold, Tokens
from reward_trainer.openrlhf.environment import CPU_HOOK, with_hook
from tools.processes import StartError, reward_service, server

__all__ = ["figures"]

MAX_TOKENS = 2048
"""Default limit of `serve_rm`; no rollout here is longer."""
TOLERANCE = 1e-3
HEAD_SEED = 7
WARM_UP = 4
"""Rollouts sent before the first round; a whole round would take too long."""
BARE_EVERY = 8
"""Only every eighth rollout is used for the bare forward passes, to keep the run short."""

NAME = "64 one-sample posts, gold model ÷ OpenRLHF's serve_rm, same model, fp32"
TARGET = "≥ 3"
FLOOR = "for scale: the gold model's fp32 matrix products alone, each prompt once ÷ serve_rm"


def figures() -> Iterator[Figure | NotMeasured]:
    """The ratio to `serve_rm`, and the gain of batching this model without a server."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = _reward_model(Path(scratch) / "model")
        rollouts = _rollouts(AutoTokenizer.from_pretrained(folder))
        try:
            yield from _against_serve_rm(folder, rollouts, Path(scratch))
        except StartError as exc:
            yield NotMeasured(NAME, TARGET, str(exc))
        yield _batching_alone(load_gold(str(folder), "cpu"), rollouts[::BARE_EVERY])


def _against_serve_rm(folder: Path, rollouts: list[_Rollout], scratch: Path) -> Iterator[Figure]:
    floor, products = matrix_products(AutoModel.from_pretrained(folder), _tokens_at_least(rollouts))
    options = ("--encoder", "none", "--gold", str(folder), "--device", "cpu")
    with (
        _serve_rm(folder, scratch / "serve_rm.log") as theirs,
        reward_service(scratch / "service.log", *options) as ours,
    ):
        urls = {"serve_rm": f"{theirs}/get_reward", "service": f"{ours}/get_reward?recipe=gold"}
        rewards: dict[str, list[float]] = {}

        def send(side: str, some: list[_Rollout]) -> None:
            rewards[side] = asyncio.run(_rewards(urls[side], some))

        for side in urls:
            send(side, rollouts[:WARM_UP])
        timings = in_turn(
            warm_up=False,
            serve_rm=lambda: send("serve_rm", rollouts),
            service=lambda: send("service", rollouts),
            floor=floor,
        )
    apart = max(abs(a - b) for a, b in zip(rewards["serve_rm"], rewards["service"], strict=True))
    if apart > TOLERANCE:
        raise AssertionError(f"the rewards differ by {apart:.1e}: the two sides do not read the same tokens")
    yield with_note(timings.ratio(NAME, "service", "serve_rm", TARGET), f"largest difference {apart:.0e}")
    yield with_note(timings.ratio(FLOOR, "floor", "serve_rm"), products)


def _tokens_at_least(rollouts: list[_Rollout]) -> int:
    """The tokens of each prompt once, and those of every response; only the last layer could skip some."""
    prompts = {rollout.prompt: rollout for rollout in rollouts}.values()
    of_prompts = sum(len(r.tokenizer(r.prompt, add_special_tokens=False)["input_ids"]) for r in prompts)
    return of_prompts + sum(len(rollout.response_ids) for rollout in rollouts)


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
    with server(command, f"http://127.0.0.1:{port}/openapi.json", log, environment):
        yield f"http://127.0.0.1:{port}"


def _reward_model(folder: Path) -> Path:
    """The embedded SmolLM2 with one label, saved as safetensors for both sides."""
    base = resolve_policy(EMBEDDED_POLICY)
    model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    generator = torch.Generator().manual_seed(HEAD_SEED)
    with torch.no_grad():
        model.score.weight.normal_(std=model.config.hidden_size**-0.5, generator=generator)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


# Requests of a trainer ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rollout:
    """A prompt and the response that the policy will generate."""

    exchange: Exchange
    prompt: str
    """As the trainer renders it, up to the start of the response."""
    response_ids: list[int]
    """The rest of the rendered conversation, so that both sides read the same tokens."""
    tokenizer: Any

    async def generate(self, *_: Any, **__: Any) -> Any:
        """Return what vLLM's engine would; the executor decodes it for its post."""
        output = SimpleNamespace(token_ids=self.response_ids, finish_reason="stop", logprobs=None)
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
        response = tokenizer(whole.removeprefix(prompt), add_special_tokens=False)["input_ids"]
        rollouts.append(_Rollout(Exchange((turn,), item.response), prompt, response, tokenizer))
    return rollouts


async def _rewards(url: str, rollouts: list[_Rollout]) -> list[float]:
    """The rewards of all rollouts, requested as OpenRLHF does: a session and a post each, all at once."""
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


def _batching_alone(model: LocalGold, rollouts: list[_Rollout]) -> Figure:
    tokens = [model.tokenize(rollout.exchange) for rollout in rollouts]
    batches = _batches(model, tokens)
    timings: Timings = in_turn(
        one_by_one=lambda: [model.score([row]) for row in tokens],
        batched=lambda: [model.score(batch) for batch in batches],
    )
    figure = timings.ratio("gold model, bare: in the service's batches ÷ one by one", "batched", "one_by_one")
    sizes = f"{len(tokens)} texts, {sum(map(len, tokens))} tokens, {len(batches)} batches"
    return with_note(figure, f"{sizes}: the gain of batching alone on this processor")


def _batches(model: LocalGold, tokens: list[Tokens]) -> list[list[Tokens]]:
    """The batches that the service's queue forms when all texts are queued at once."""
    queue: BatchQueue[Tokens, float] = BatchQueue()
    queue.add(queue.new_submission(len(tokens)), [Unit(i, row, len(row)) for i, row in enumerate(tokens)])
    batches = []
    while batch := queue.take(model.limits):
        batches.append([entry.unit.value for entry in batch])
    return batches


if __name__ == "__main__":
    for figure in figures():
        sys.stdout.write(f"{figure.row}\n")
