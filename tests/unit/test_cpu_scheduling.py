"""A model's threads take cores as usual, though those who answer wait for theirs."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from reward_service.batching import ThreadExecutor
from reward_service.process.cpu_scheduling import set_batch


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies are Linux's")
def test_who_answers_waits_for_a_core_and_a_model_does_not() -> None:
    policies: dict[str, int] = {}

    async def serve() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:  # a sandbox
            return
        set_batch()
        model = ThreadExecutor("model")
        policies["answers"] = os.sched_getscheduler(0)
        policies["model"] = await model.call(os.sched_getscheduler, 0)
        model.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))  # pytest's own keeps its policy
    thread.start()
    thread.join()
    if not policies:
        pytest.skip("nobody may set a scheduling policy here")

    assert policies == {"answers": os.SCHED_BATCH, "model": os.SCHED_OTHER}
