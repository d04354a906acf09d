"""Whether the service reads what a tokenizer's chat template renders: special tokens, templates, end tokens.

conversation ─▶ template of the tokenizer ─▶ query, prompts as OpenRLHF posts them ─▶ POST /get_reward ─▶ flags
             └────────────────────────────── the same messages ─▶ POST /score ─▶ the same reward
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from reward_client.doctor.check import Check, failed, note, ok, skipped
from reward_client.doctor.exchange import NoReply, Service
from reward_client.wire import Info

_PAGE = "docs/reference/openrlhf-protocol.md has the formats"
_SEES_PROMPT = ("qr", "li-rp-qr")
"""Recipes whose reward depends on the prompt everywhere, so that another prompt gives another reward."""
_TOLERANCE = 1e-6
_WRONG = {
    "unknown_template": "the prompt has markers of no known format, which count as words of the user",
    "truncated": "the end token was not recognised: every response would count as truncated",
    "unknown_special_tokens": "the response has unknown special tokens, which count as words",
    "text_after_end": "text was found after the end token",
}
"""Flags of a query that was rendered whole, by which the template was misread."""


def round_trip(service: Service, tokenizer: str, info: Info, recipe: str) -> Iterator[Check]:
    """One check for each conversation."""
    subject = "tokenizer"
    if find_spec("transformers") is None:
        yield skipped(subject, "Transformers is not installed here: pip install transformers")
        return
    rendered = _render(tokenizer, service.limit.left_s())
    if "error" in rendered:
        fix = rendered.get("fix") or "give --tokenizer a folder, or an id that can be loaded from here"
        yield failed(subject, f"{tokenizer} cannot be loaded: {rendered['error']}", fix)
        return
    if not rendered["template"]:
        yield note(subject, f"{tokenizer} has no chat template: a prompt is text, and counts as one user message")
        return
    names = [one.name for one in info.recipes]
    chosen = next((name for name in _SEES_PROMPT if name in names and info.relevance is not None), recipe)
    for title, one in rendered["conversations"].items():
        yield _conversation(service, chosen, title, one)


def _render(tokenizer: str, seconds: float) -> Mapping[str, Any]:
    """The output of `render`, which runs in a separate process."""
    command = [sys.executable, "-m", "reward_client.doctor.render", tokenizer]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(seconds, 0.1), check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return {"error": f"not loaded within {seconds:.0f} s", "fix": "allow more: --time-limit 180"}
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        cause = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"error": cause[:300]}
    return found


def _conversation(service: Service, recipe: str, title: str, one: Mapping[str, Any]) -> Check:
    if "error" in one:
        return note(title, f"the template does not take it: {one['error'][:160]}")
    body = {"query": [one["query"]], "prompts": [one["prompt"]], "labels": [None]}
    reply = service.post(f"/get_reward?recipe={recipe}", body)
    if isinstance(reply, NoReply):
        return failed(title, f"no answer: {reply.describe()}", "see the log of the service")
    document = reply.json() if reply.is_success else None
    reward = _first_reward(document)
    if document is None or reward is None:
        return failed(title, reply.describe(), f"the template is not read; {_PAGE}")
    flags = (document.get("flags") or [[]])[0] or []
    wrong = [text for flag, text in _WRONG.items() if flag in flags]
    if wrong:
        return failed(title, "; ".join(wrong), f"train with another template, or report this one; {_PAGE}")
    return _compared(service, recipe, title, one, reward, flags)


def _first_reward(document: Any) -> float | None:
    """None in place of a reply without a number, as for an item that cannot be scored."""
    rewards = document.get("rewards") if isinstance(document, dict) else None
    first = rewards[0] if isinstance(rewards, list) and rewards else None
    return float(first) if isinstance(first, (int, float)) else None


def _compared(
    service: Service, recipe: str, title: str, one: Mapping[str, Any], reward: float, flags: list[str]
) -> Check:
    """Compare with the reward of the messages themselves."""
    item = {"prompt": one["messages"], "response": one["response"]}
    direct = service.post("/score", {"items": [item], "recipe": recipe})
    document = direct.json() if not isinstance(direct, NoReply) and direct.is_success else None
    expected = _first_reward(document)
    if expected is None:
        return note(title, "the query is read; the reward of the messages themselves is not known")
    removed = " (special tokens were removed)" if "special_tokens_removed" in flags else ""
    if math.isclose(reward, expected, rel_tol=_TOLERANCE, abs_tol=1e-9):
        return ok(title, f"read as the messages that were rendered{removed}: reward {reward:.6g} both ways")
    found = f"reward {reward:.6g} of the rendered text, {expected:.6g} of its messages{removed}"
    return note(
        title,
        found,
        "the template changes the text: some write the system message into the user's, or add text of their own",
    )
