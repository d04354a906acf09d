"""The request that a framework with a URL sends by itself, to the address of its configuration."""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import urlsplit

from reward_client.doctor.check import Check, failed, ok
from reward_client.doctor.exchange import NoReply, Service
from reward_client.doctor.frameworks import Framework


def own_request(service: Service, framework: Framework, configured: str | None) -> Check:
    """Whether its body gets a finite reward. `configured` is the URL in its configuration, if one was read."""
    parts = urlsplit(configured or "")
    prefix = urlsplit(service.address.url).path
    path = parts.path.removeprefix(prefix) if parts.path else (framework.route or "")
    target = f"{path}?{parts.query}" if parts.query else path
    subject = "own request"
    reply = service.post(target, json.loads(framework.body or "{}"))
    if isinstance(reply, NoReply):
        return failed(subject, f"no answer to {path}: {reply.describe()}", "see the log of the service")
    if not reply.is_success:
        fix = f"write the path {framework.route}" if reply.status in (404, 405) else "change what the error names"
        return failed(subject, f"{path}: {reply.describe()}", fix)
    reward = _at(reply.json(), framework.reward)
    if isinstance(reward, bool) or not isinstance(reward, (int, float)) or not math.isfinite(reward):
        found = f"{path}: the reward {framework.title} reads is {reward!r}"
        return failed(subject, found, f"write the path {framework.route}")
    return ok(subject, f"what {framework.title} posts to {path} gets the reward {reward:.4g}")


def _at(document: Any, place: str) -> Any:
    """The value at a dotted place in a JSON document; None if it is absent."""
    for part in filter(None, place.split(".")):
        if isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        elif isinstance(document, dict):
            document = document.get(part)
        else:
            return None
    return document
