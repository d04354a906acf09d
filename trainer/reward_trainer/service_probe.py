"""Requests to the reward service around a run: what it offers, whether it is ready, a trial reward."""

from collections.abc import Sequence

import httpx

from reward_client import RewardClient, RewardError
from reward_client.errors import describe_problem, read_problem
from reward_client.network import is_loopback
from reward_client.retry import RetryPolicy
from reward_client.urls import key_from_environment
from reward_client.wire import Info
from reward_runs.errors import PreflightError

_SERVICE_HELP = "Start it with `glassbox serve`, or set its address with --reward-url."
_TRIAL_RESPONSE = "This is a trial before the training starts."


def _client(url: str, *, read_timeout_s: float, retry_budget_s: float) -> RewardClient:
    retry = RetryPolicy(budget_s=retry_budget_s)
    return RewardClient(url, api_key=key_from_environment(), read_timeout_s=read_timeout_s, retry=retry)


def service_info(url: str, *, wait_s: float = 60.0) -> Info:
    """Return the service's `/info` once it is ready; raise PreflightError after `wait_s` seconds."""
    try:
        with _client(url, read_timeout_s=30, retry_budget_s=wait_s) as client:
            client.ready()
            return client.info()
    except RewardError as exc:
        raise PreflightError(f"the reward service at {url} is not ready: {exc} {_SERVICE_HELP}") from exc


def why_not_ready(url: str) -> str | None:
    """Send one readiness request; return None when the service is ready, else the cause."""
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
        endpoint: URL that OpenRLHF will post to.
        rendered_prompts: prompts as the policy sees them, after the chat template.
        labels: their labels, as in the training data.
        timeout_s: seconds to wait for a reply.
    """
    key = key_from_environment()
    auth = None if key is None else ("key", key)  # user and password, as OpenRLHF will send them
    by_environment = not is_loopback(httpx.URL(endpoint).host)  # a proxy, and certificates
    for prompt, label in zip(rendered_prompts, labels, strict=True):
        body = {"query": [prompt + _TRIAL_RESPONSE], "prompts": [prompt], "labels": [label]}
        try:
            response = httpx.post(endpoint, json=body, timeout=timeout_s, auth=auth, trust_env=by_environment)
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
