"""A rollout engine that generates with Transformers and has the interface of vLLM that OpenRLHF uses.

    generate() ─┐                                  ┌─ one padded batch ─▶ reward_evidence.sampling.generation
    generate() ─┼─▶ collect the rollouts of a step ┤
    generate() ─┘                                  └─ each caller receives the response to its prompt
    collective_rpc() ─▶ new weights, never while a batch is being generated

Requests arrive in a different order in each run, so a batch is sorted before sampling, and each batch has its
seed: the same seed and weights give the same responses.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import distributed

from reward_evidence.sampling.generation import Rollout, Sampling, generate
from reward_trainer.openrlhf.environment import ROLLOUT_BATCH_VARIABLE, ROLLOUT_ENGINE

dist: Any = distributed  # its type information lacks stores and groups


BATCH_TIMEOUT_S = 1.0
"""Seconds without a new request after which an incomplete batch is generated, as in OpenRLHF's evaluation."""

logger = logging.getLogger("openrlhf.rollout_engine")


@dataclass(eq=False)
class _Request:
    prompt: list[int]
    params: Any
    done: asyncio.Future[Rollout] = field(repr=False)


_SEED_STRIDE = 1_000_003
"""Distance between the seeds of two runs in batches: neighbouring seeds share no random numbers."""


class TransformersEngine:
    """The part of `vllm.AsyncLLMEngine` that OpenRLHF's RolloutRayActor uses."""

    def __init__(self, model: Any, tokenizer: Any, *, seed: int, full_batch: int) -> None:
        self._model = model
        self._weights = dict(model.named_parameters())
        self._tokenizer = tokenizer
        self._seed = seed
        self._n_batches = 0
        self._lock = asyncio.Lock()
        self._waiting: list[_Request] = []
        self._arrival = asyncio.Event()
        self._full_batch = full_batch
        self._n_unfinished = 0
        self._group: GlooGroup | None = None
        self.output_processor = SimpleNamespace(get_num_unfinished_requests=lambda: self._n_unfinished)

    @classmethod
    def from_engine_args(cls, args: Any) -> Self:
        """Load the policy in fp32; most CPUs emulate other types, which is slower."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model: Any = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
        logger.info("%s", ROLLOUT_ENGINE)
        tokenizer = AutoTokenizer.from_pretrained(args.model)
        return cls(model.eval(), tokenizer, seed=args.seed, full_batch=int(os.environ[ROLLOUT_BATCH_VARIABLE]))

    async def generate(self, prompt: Mapping[str, Any], params: Any, request_id: str) -> AsyncIterator[Any]:
        """Yield one finished output, shaped like vLLM's RequestOutput."""
        request = _Request(list(prompt["prompt_token_ids"]), params, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._arrival.set()
        self._n_unfinished += 1
        try:
            async with self._lock:
                if not request.done.done():
                    await self._generate_waiting()
            yield _request_output(await request.done)
        finally:
            self._n_unfinished -= 1

    async def _generate_waiting(self) -> None:
        await self._collect()
        batch, self._waiting = self._waiting, []
        try:
            rollouts = await asyncio.to_thread(self._sample, batch)
        except Exception as exc:  # fails the request of every caller
            for request in batch:
                request.done.set_exception(exc)
            raise
        for request, rollout in zip(batch, rollouts, strict=True):
            request.done.set_result(rollout)

    async def _collect(self) -> None:
        """Return when all rollouts of a step are waiting, or no request has arrived for BATCH_TIMEOUT_S."""
        while len(self._waiting) < self._full_batch:
            self._arrival.clear()
            try:
                await asyncio.wait_for(self._arrival.wait(), BATCH_TIMEOUT_S)
            except TimeoutError:
                return

    def _sample(self, batch: Sequence[_Request]) -> list[Rollout]:
        """Generate `batch`, one call per distinct sampling parameters; return rollouts in its order."""
        started = time.monotonic()
        rollouts: dict[_Request, Rollout] = {}
        for sampling, with_logprobs in dict.fromkeys(_sampling_of(request.params) for request in batch):
            group = [request for request in batch if _sampling_of(request.params) == (sampling, with_logprobs)]
            group.sort(key=lambda request: request.prompt)
            torch.manual_seed(self._seed * _SEED_STRIDE + self._n_batches)
            self._n_batches += 1
            prompts = [request.prompt for request in group]
            sampled = generate(self._model, self._tokenizer, prompts, sampling, with_logprobs=with_logprobs)
            rollouts.update(zip(group, sampled, strict=True))
        n_tokens = sum(len(rollout.token_ids) for rollout in rollouts.values())
        logger.info(
            "generated %d responses, %d tokens in %.1f s", len(batch), n_tokens, time.monotonic() - started
        )
        return [rollouts[request] for request in batch]

    async def collective_rpc(self, method: str, args: Sequence[Any] = ()) -> None:
        """Run a method of vLLM's worker extension, between two batches."""
        async with self._lock:
            await asyncio.to_thread(getattr(self, method), *args)

    def init_process_group(
        self, host: str, port: int, rank: int, world_size: int, group_name: str, backend: str, use_ray: bool
    ) -> None:
        """Join the trainer's broadcast group; several engines have the ranks 1, 2, …"""
        self._group = GlooGroup.create(host, port, rank, world_size)

    def update_weight(self, name: str, dtype: torch.dtype, shape: torch.Size, empty_cache: bool) -> None:
        """Receive one parameter by broadcast."""
        if self._group is None:
            raise RuntimeError("update_weight before init_process_group")
        weight = torch.empty(shape, dtype=dtype)
        self._group.broadcast(weight, src=0)
        self._weights[name].data.copy_(weight)

    def update_weight_cuda_ipc(
        self, name: str, dtype: torch.dtype, shape: torch.Size, handles: Mapping[str, Any], empty_cache: bool
    ) -> None:
        """Receive one parameter from the colocated trainer; on a CPU the handle contains the values."""
        rebuild, arguments = next(iter(handles.values()))
        self._weights[name].data.copy_(rebuild(*arguments))

    async def is_sleeping(self) -> bool:
        """Return False: a CPU engine never releases its memory."""
        return False

    async def _no_operation(self, *args: Any, **options: Any) -> None:
        """Accept calls about device memory and scheduling, which do not apply to a CPU."""

    sleep = wake_up = reset_prefix_cache = pause_generation = resume_generation = _no_operation


def _sampling_of(params: Any) -> tuple[Sampling, bool]:
    sampling = Sampling(
        max_new_tokens=params.max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=max(params.top_k, 0),
        min_new_tokens=params.min_tokens,
    )
    return sampling, params.logprobs is not None


def _request_output(rollout: Rollout) -> SimpleNamespace:
    logprobs = None
    if rollout.logprobs is not None:
        pairs = zip(rollout.token_ids, rollout.logprobs, strict=True)
        logprobs = [{token: SimpleNamespace(logprob=logprob)} for token, logprob in pairs]
    output = SimpleNamespace(
        token_ids=list(rollout.token_ids),
        text=rollout.text,
        finish_reason=rollout.finish_reason,
        logprobs=logprobs,
    )
    return SimpleNamespace(outputs=[output])


class GlooGroup:
    """Weight broadcast over gloo, as vLLM's StatelessProcessGroup and PyNcclCommunicator do it over NCCL.

    The group has one trainer rank and the engines, and is separate from torch's default group.
    """

    def __init__(self, group: Any) -> None:
        self._group = group

    @classmethod
    def create(cls, host: str, port: int, rank: int, world_size: int) -> Self:
        """Connect to the group at `host:port`; rank 0 hosts the store."""
        store = dist.TCPStore(host, port, world_size, is_master=rank == 0)
        return cls(dist.ProcessGroupGloo(dist.PrefixStore("weights", store), rank, world_size))

    def broadcast(self, tensor: torch.Tensor, src: int, stream: None = None) -> None:
        """Send `tensor` from rank `src`, or receive it there, and wait for it."""
        options = dist.BroadcastOptions()
        options.rootRank = src
        options.rootTensor = 0
        self._group.broadcast([tensor], options).wait()
