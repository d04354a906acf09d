"""Cancel work when an event occurs that makes it pointless: the client disconnects, or the service shuts down."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class CancelledByEventError(Exception):
    """The event occurred before the work was done."""


async def cancel_on(event: Coroutine[Any, Any, object], work: Coroutine[Any, Any, T]) -> T:
    """Return or raise what `work` does; both coroutines have ended then.

    Raises:
        CancelledByEventError: `event` returned first. If it raises, `work` continues.
    """
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(event)
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and not watching.cancelled() and watching.exception() is None:
            raise CancelledByEventError
        return await working
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
