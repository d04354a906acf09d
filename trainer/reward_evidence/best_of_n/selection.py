"""Options of the command → prompts and their samples: from a policy, an endpoint, or a file."""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from reward_client import RewardClient
from reward_client.cli.options import check_endpoint
from reward_client.completions import base_url
from reward_client.urls import ENDPOINT_KEY_VARIABLE, key_from_environment
from reward_evidence.best_of_n.endpoint_source import RETRY, EndpointSource
from reward_evidence.best_of_n.samples_file import PromptSamples, draw_samples, read_samples_file
from reward_evidence.best_of_n.sources import SampleSettings, SampleSource
from reward_evidence.evaluation.source import DEFAULT_MAX_NEW_TOKENS, DEFAULT_SEED
from reward_evidence.sampling.policy_folder import resolve_policy
from reward_runs.errors import EvaluationError
from reward_runs.prompts import EMBEDDED_PROMPTS, Columns, Prompt, load_prompts

DEFAULT_N = 16
_ENDPOINT = ("model", "endpoint_api", "in_flight", "choices", "timeout", "body")
_LOCAL = ("batch_size", "device")
_COLUMNS = ("prompt_column", "reference_column", "query_type_column", "query_type_default")
_DRAWING = ("temperature", "max_new_tokens", "seed", "prompts", "limit", *_COLUMNS)
_NOT_APPLICABLE = {
    "policy": _ENDPOINT,
    "endpoint": _LOCAL,
    "samples_file": (*_ENDPOINT, *_LOCAL, *_DRAWING),
}


@dataclass(frozen=True)
class SelectedSamples:
    """Prompts with their samples, and how they were drawn."""

    prompts: Sequence[Prompt]
    samples: PromptSamples
    source: dict[str, Any]
    settings: SampleSettings | None
    """None: the samples are from a file."""
    system_prompt: str | None


def select_samples(options: argparse.Namespace, log: Callable[[str], None]) -> SelectedSamples:
    """Read or draw the samples; raise RunError, RewardError or FileError when that is not possible."""
    kind = next(name for name in _NOT_APPLICABLE if getattr(options, name) is not None)
    for name in _NOT_APPLICABLE[kind]:
        if getattr(options, name) is not None:
            raise EvaluationError(f"{_option(name)} cannot be combined with {_option(kind)}")
    if kind == "samples_file":
        prompts, samples = read_samples_file(options.samples_file, options.n)
        source = {"kind": "file", "file": options.samples_file.name}
        return SelectedSamples(prompts, samples, source, None, options.system_prompt)
    settings = SampleSettings(
        n=options.n or DEFAULT_N,
        temperature=options.temperature or 1.0,
        max_new_tokens=options.max_new_tokens or DEFAULT_MAX_NEW_TOKENS,
        seed=DEFAULT_SEED if options.seed is None else options.seed,
        system_prompt=options.system_prompt,
    )
    prompts = _prompts(options)
    with _endpoint(options, settings) if kind == "endpoint" else _policy(options, settings) as found:
        source, make_source = found
        samples = draw_samples(options.out, make_source, {"source": source, **asdict(settings)}, prompts, log)
    return SelectedSamples(prompts, samples, source, settings, options.system_prompt)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _prompts(options: argparse.Namespace) -> list[Prompt]:
    values = {name.removesuffix("_column"): getattr(options, name) for name in _COLUMNS}
    given = Columns(**{name: value for name, value in values.items() if value is not None})
    prompts = load_prompts(options.prompts or EMBEDDED_PROMPTS, given, embedded="heldout")
    return prompts[: options.limit]


_Found = tuple[dict[str, Any], Callable[[], SampleSource]]
"""What the samples depend on, and what makes their source when samples are missing."""


@contextmanager
def _endpoint(options: argparse.Namespace, settings: SampleSettings) -> Iterator[_Found]:
    if options.model is None:
        raise EvaluationError("--endpoint needs --model: the name of the model on that server")
    address, key = base_url(options.endpoint), key_from_environment(variable=ENDPOINT_KEY_VARIABLE)
    with RewardClient(
        address,
        api_key=key,
        read_timeout_s=options.timeout or 600.0,
        retry=RETRY,
    ) as client:
        source = EndpointSource(
            client,
            options.model,
            settings,
            options.endpoint_api or "chat",
            options.choices,
            options.in_flight or 8,
            options.body or {},
        )

        def reached() -> SampleSource:
            check_endpoint(address, key, options.wait)
            return source

        yield source.identity, reached


@contextmanager
def _policy(options: argparse.Namespace, settings: SampleSettings) -> Iterator[_Found]:
    for name in ("torch", "transformers"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)  # `glassbox` names the extra
    # Read by OpenMP when torch is loaded: spinning threads delay each other when other processes use the CPU.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from reward_evidence.best_of_n.policy_source import PolicySource

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    policy = resolve_policy(options.policy)
    source = PolicySource(policy, settings, options.batch_size or 64, device)
    yield source.identity, lambda: source
