"""Requests to the reward service around a run: what it offers, whether it is ready, a trial reward."""

from collections.abc import Callable, Sequence
from itertools import product

import httpx

from reward_client import RewardClient, RewardError
from reward_client.cli.options import connect, note
from reward_client.errors import describe_problem, read_problem
from reward_client.info import find_recipe, model_identity
from reward_client.loaded import loaded_info
from reward_client.network import is_loopback
from reward_client.retry import RetryPolicy
from reward_client.urls import key_from_environment
from reward_client.wire import Info
from reward_runs.errors import PreflightError

_TRIAL_RESPONSE = "This is a trial before the training starts."


def _client(url: str, *, read_timeout_s: float, retry_budget_s: float) -> RewardClient:
    retry = RetryPolicy(budget_s=retry_budget_s)
    return RewardClient(url, api_key=key_from_environment(), read_timeout_s=read_timeout_s, retry=retry)


def service_info(
    urls: Sequence[str], recipe: str, *, wait_s: float | None = None, say: Callable[[str], None] = note
) -> Info:
    """Return the `/info` of the service once it is ready; `say` gets a line when that has to be waited for.

    `wait_s` bounds the time until it is; None waits for one that answers, and not for one that is not there.
    Raises PreflightError; also when the replicas differ in the recipe or the models, so that a sample's reward
    would depend on the one that it is sent to.
    """
    infos = [_info(url, wait_s, say) for url in urls]
    try:
        first, *others = [(find_recipe(info, recipe).hash, _models(info)) for info in infos]
    except RewardError as exc:
        raise PreflightError(str(exc)) from exc
    for url, other in zip(urls[1:], others, strict=True):
        if other != first:
            raise PreflightError(f"the recipe {recipe} or the models of {url} differ from those of {urls[0]}")
    return infos[0]


def _models(info: Info) -> list[dict[str, str] | None]:
    return [model_identity(model) for model in (info.relevance, info.gold)]


def _info(url: str, wait_s: float | None, say: Callable[[str], None]) -> Info:
    try:
        with connect([url], wait_s) as client:
            info = loaded_info(client, say)
            client.ready()
            return info
    except RewardError as exc:
        raise PreflightError(str(exc) if url in str(exc) else f"the reward service at {url}: {exc}") from exc


def why_not_ready(urls: Sequence[str]) -> str | None:
    """Send one readiness request to each; return None when all are ready, else the first cause.

    OpenRLHF sends its requests to the URLs in turn, and does not try another one after a failure.
    """
    for url in urls:
        try:
            with _client(url, read_timeout_s=10, retry_budget_s=0) as client:
                client.ready()
        except RewardError as exc:
            return str(exc)
    return None


def trial_reward(
    endpoint: str, rendered_prompts: Sequence[str], labels: Sequence[str], *, timeout_s: float = 60.0
) -> str | None:
    """Post a fixed response to each prompt as OpenRLHF does; return why it got no reward, or None.

    Args:
        endpoint: URLs that OpenRLHF will post to, separated by commas; each gets all prompts.
        rendered_prompts: prompts as the policy sees them, after the chat template.
        labels: their labels, as in the training data.
        timeout_s: seconds to wait for a reply.
    """
    key = key_from_environment()
    auth = None if key is None else ("key", key)  # user and password, as OpenRLHF will send them
    samples = list(zip(rendered_prompts, labels, strict=True))
    for url, (prompt, label) in product(endpoint.split(","), samples):
        by_environment = not is_loopback(httpx.URL(url).host)  # a proxy, and certificates
        body = {"query": [prompt + _TRIAL_RESPONSE], "prompts": [prompt], "labels": [label]}
        try:
            response = httpx.post(url, json=body, timeout=timeout_s, auth=auth, trust_env=by_environment)
        except httpx.TransportError as exc:
            return f"{type(exc).__name__}: {exc}"
        if cause := _failure(response):
            return cause
    return None


def _failure(response: httpx.Response) -> str | None:
    if not response.is_success:
        return describe_problem(read_problem(response.status_code, response.reason_phrase, response.content))
    try:
        rewards = response.json()["rewards"]
    except (ValueError, KeyError, TypeError):
        return f"the reply contains no rewards: {response.text[:300]}"
    return None if isinstance(rewards, list) and len(rewards) == 1 else f"one reward expected, got {rewards}"
