"""Samples of an OpenAI-compatible server, such as vLLM: `/v1/chat/completions`, or `/v1/completions`.

    prompt ──n choices──▶ all n samples        a server that returns fewer choices gets a further request
                      └─▶ EvaluationError      names the prompt; samples of other prompts are kept

A request goes through `RewardClient`, with its retries (also of 500, which the reward service never answers for a
state that passes), `Retry-After`, proxies, certificates, and the API key of its URL or of OPENAI_API_KEY. Several
requests are in flight. A choice without text is an error; an empty text is a sample.
"""

import json
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Literal

from reward_client import RewardClient, RewardError
from reward_client.completions import Choice, read_completion
from reward_client.errors import RewardRejectedError
from reward_client.retry import RETRYABLE, RetryPolicy
from reward_evidence.best_of_n.sources import SampleSettings
from reward_evidence.sampling.samples import Sample, batch_seed
from reward_runs.errors import EvaluationError
from reward_runs.prompts import Prompt, messages, model_input

EndpointApi = Literal["chat", "completions"]

RETRY = RetryPolicy(budget_s=300.0, max_delay_s=20.0, statuses=RETRYABLE | frozenset(range(500, 600)))
"""For a server that is restarted, or limits the rate of requests."""
OWN_FIELDS = ("messages", "prompt", "model", "n", "stream", "seed", "temperature", "max_tokens")
_REMOVABLE = ("seed", "temperature", "max_tokens")
"""Fields that some servers refuse; null removes them."""
_PATHS: Mapping[EndpointApi, str] = {"chat": "/chat/completions", "completions": "/completions"}
_FINISHED: Mapping[str, bool] = {"stop": False, "eos_token": False, "stop_sequence": False, "length": True}
"""Whether the token limit ended the response, by `finish_reason`."""
_WITHHELD = ("content_filter", "tool_calls", "function_call")


def check_body(body: Mapping[str, Any]) -> None:
    """Raise EvaluationError when additional fields of a request would replace those of this command."""
    for name in body:
        if name in OWN_FIELDS and not (name in _REMOVABLE and body[name] is None):
            removable = f"; {name}=null removes it" if name in _REMOVABLE else ""
            raise EvaluationError(f"--body {name}: the command sets this field itself{removable}")


@dataclass
class EndpointSource:
    """A model behind an OpenAI-compatible server."""

    client: RewardClient
    """Connected to the server, not to the reward service."""
    model: str
    settings: SampleSettings
    api: EndpointApi = "chat"
    max_choices: int | None = None
    """Most samples of one request; None: all n."""
    in_flight: int = 8
    body: Mapping[str, Any] = field(default_factory=dict)
    """Additional fields of each request."""

    def __post_init__(self) -> None:
        check_body(self.body)

    @property
    def identity(self) -> dict[str, Any]:
        """URL, model and request."""
        return {
            "kind": "endpoint",
            "endpoint": self.client.urls[0],
            "model": self.model,
            "api": self.api,
            "body": dict(self.body),
        }

    def samples(self, prompts: Sequence[Prompt], wanted: Collection[str]) -> Iterator[list[Sample]]:
        """Yield the samples of a prompt as soon as they are complete; after a failure, those in flight."""
        chosen = [(index, prompt) for index, prompt in enumerate(prompts) if prompt.id in wanted]
        pool = ThreadPoolExecutor(self.in_flight)
        try:
            futures = [pool.submit(self._samples, index, len(prompts), prompt) for index, prompt in chosen]
            failure = yield from _completed(futures)
        finally:
            pool.shutdown(cancel_futures=True)
        if failure is not None:
            raise failure

    def _samples(self, index: int, n_prompts: int, prompt: Prompt) -> list[Sample]:
        found: list[Sample] = []
        try:
            while len(found) < self.settings.n:
                seed = batch_seed(self.settings.seed, index, len(found)) % 2**31  # servers differ in the range
                wanted = min(self.settings.n - len(found), self.max_choices or self.settings.n)
                for choice in self._choices(prompt, wanted, seed):
                    found.append(_sample(choice, prompt, len(found), seed))
        except (RewardError, ValueError) as exc:
            raise EvaluationError(
                f"prompt {index + 1} of {n_prompts} ({prompt.id}): {self.client.urls[0]} gave {len(found)} of "
                f"{self.settings.n} samples: {_cause(exc)}"
            ) from exc
        return found

    def _choices(self, prompt: Prompt, n: int, seed: int) -> list[Choice]:
        """Between 1 and `n` choices."""
        content = self.client.post(_PATHS[self.api], json.dumps(self._request(prompt, n, seed)).encode())
        choices = read_completion(content).choices
        if len(choices) > n:
            raise ValueError(f"the reply has {len(choices)} choices, {n} were requested")
        return choices

    def _request(self, prompt: Prompt, n: int, seed: int) -> dict[str, Any]:
        settings = self.settings
        if self.api == "chat":
            content: dict[str, Any] = {"messages": messages(prompt, settings.system_prompt)}
        else:
            content = {"prompt": model_input(prompt, settings.system_prompt, chat=False)}
        content |= {
            "model": self.model,
            "n": n,
            "temperature": settings.temperature,
            "max_tokens": settings.max_new_tokens,
            "seed": seed,
        }
        return {name: value for name, value in {**content, **self.body}.items() if value is not None}


def _completed(
    futures: Sequence[Future[list[Sample]]],
) -> Generator[list[Sample], None, EvaluationError | None]:
    """Yield results until one fails; then cancel what has not begun, yield what has, and return the failure."""
    failure: EvaluationError | None = None
    for future in as_completed(futures):
        if future.cancelled():
            continue
        try:
            samples = future.result()
        except EvaluationError as exc:
            failure = failure or exc
            for other in futures:
                other.cancel()
            continue
        yield samples
    return failure


def _sample(choice: Choice, prompt: Prompt, number: int, seed: int) -> Sample:
    if choice.finish_reason in _WITHHELD:
        raise ValueError(f"choice {number} ended with {choice.finish_reason!r}: it is no response of the policy")
    if choice.content is None:
        hint = (
            "; a model that reasons may have used the token limit for it: raise --max-new-tokens, or turn "
            "reasoning off with --body"
            if choice.finish_reason == "length"
            else ""
        )
        raise ValueError(f"choice {number} has no text (finish_reason {choice.finish_reason!r}){hint}")
    truncated = None if choice.finish_reason is None else _FINISHED.get(choice.finish_reason)
    return Sample(prompt=prompt, sample=number, response=choice.content, seed=seed, truncated=truncated)


def _cause(exc: Exception) -> str:
    if isinstance(exc, RewardRejectedError) and exc.problem.status in (401, 403):
        return f"{exc}; its API key is read from OPENAI_API_KEY"
    return str(exc)
