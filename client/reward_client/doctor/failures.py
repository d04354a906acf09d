"""Failures made on purpose: what the service answers, and what the framework will do with it."""

from __future__ import annotations

from collections.abc import Iterator

from reward_client.doctor.check import Check, failed, ok
from reward_client.doctor.exchange import NoReply, Service
from reward_client.doctor.frameworks import Framework
from reward_client.doctor.status import wrong_key

_UNSCORABLE = {"prompt": "What is the capital of France?", "response": "Paris.", "query_type": "closed_ended"}
"""A closed-ended item without a reference."""


def failures(service: Service, recipe: str, *, needs_key: bool) -> Iterator[Check]:
    """An item that cannot be scored, and a request with a wrong key."""
    yield _item(service, recipe)
    yield wrong_key(service, needs_key)


def _item(service: Service, recipe: str) -> Check:
    subject = "a wrong item"
    body = {"items": [{**_UNSCORABLE, "id": "wrong"}], "recipe": recipe}
    reply = service.post("/score", body)
    if isinstance(reply, NoReply):
        return failed(subject, f"no answer: {reply.describe()}", "see the log of the service")
    if reply.is_success:
        return failed(
            subject, f"an item that cannot be scored got {reply.text()}", "do not train with this server"
        )
    problem = reply.problem()
    named = [error.field for error in problem.errors if error.item == 0]
    if reply.status == 422 and named:
        return ok(subject, f"refused with 422, which names {named[0]}: {problem.errors[0].message}")
    return failed(subject, f"422 with the field expected, got {reply.describe()}", "update the service")


def behaviour(framework: Framework) -> str:
    """What the framework does with each failure, as a table."""
    width = max(len(event) for event in framework.failure)
    return "\n".join(f"{event:<{width}}  {what}" for event, what in framework.failure.items())
