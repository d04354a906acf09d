"""Work that something else may make pointless: a caller who hangs up, a service that stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["CancelledByEventError", "cancel_on"]

T = TypeVar("T")


class CancelledByEventError(Exception):
    """The other thing came first; the work was cancelled."""


async def cancel_on(event: Coroutine[Any, Any, object], work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises. Raises CancelledByEventError when `event` ends before it; both are then over.

    An `event` that fails is ignored: what it watched for can no longer be told, and the work goes on.
    """
    doing, watching = asyncio.ensure_future(work), asyncio.ensure_future(event)
    try:
        await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done() and not watching.cancelled() and watching.exception() is None:
            raise CancelledByEventError
        return await doing
    finally:
        doing.cancel()
        watching.cancel()
        await asyncio.gather(doing, watching, return_exceptions=True)
