"""Files that one `POST /score` with gold goes through, and how often execution moves from one to another.

    python -m tools.trace_request                  the figures
    python -m tools.trace_request --recipe rer     with another recipe
    python -m tools.trace_request --files          and, for each file, how often it is entered

The service runs in this process with the stand-in models of the tests. A move is a call, or the resumption of a
coroutine, whose file differs from that of the previous one in the same thread; only files of the service and of
the client's wire count. A smaller number means that a reader follows a request through fewer files.

Of several requests the one with the fewest moves counts: preparation that takes more than a turn of the executor
adds some. A second line leaves out `features/`, which has a file for each feature of the recipe and for what they
share.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from types import FrameType

import httpx

from reward_service.app import create_app
from reward_service.settings import Settings
from tests.doubles import LengthGold, LetterEncoder

_PACKAGES = ("/reward_service/", "/reward_client/")
_FEATURES = "/reward_service/features/"


@dataclass
class Trace:
    """Files entered while it is on, in every thread that was started after `install`."""

    without: str | None = None
    """Files whose path has this are left out."""
    on: bool = False
    entered: Counter[str] = field(default_factory=Counter)
    """Moves into each file, of the request with the fewest."""
    _entered: Counter[str] = field(default_factory=Counter)
    _local: threading.local = field(default_factory=threading.local)

    @property
    def moves(self) -> int:
        return self.entered.total()

    def install(self) -> None:
        """Follow this thread, and those that are started from now on."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def end(self) -> None:
        """The request has been answered."""
        if self.on and (not self.entered or self._entered.total() < self.moves):
            self.entered = self._entered
        self.on, self._entered = False, Counter()

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if not self.on or event != "call":
            return
        name = frame.f_code.co_filename
        if not any(package in name for package in _PACKAGES) or name == getattr(self._local, "file", None):
            return
        if self.without is not None and self.without in name:
            return
        self._local.file = name
        self._entered[name] += 1


async def trace_request(trace: Trace, recipe: str) -> None:
    """Answer some requests of one kind, all but the first under `trace`."""
    trace.install()
    settings = Settings(default_recipe=recipe)
    app = create_app(settings, encoder_loader=lambda _: LetterEncoder(), gold_loader=lambda _: LengthGold())
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client:
        await client.post("http://127.0.0.1/get_reward", json={"query": "Why?a", "prompts": "Why?"})
        for number in range(6):
            item = {"prompt": f"Why {number}?", "response": "Because."}
            trace.on = number > 0
            answer = await client.post("http://127.0.0.1/score", json={"items": [item], "gold": True})
            trace.end()
            answer.raise_for_status()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.trace_request", description=__doc__)
    parser.add_argument("--recipe", default=Settings().default_recipe, help="default: %(default)s")
    parser.add_argument("--files", action="store_true", help="list the files")
    options = parser.parse_args()
    whole, rest = Trace(), Trace(without=_FEATURES)
    for trace, note in ((whole, ""), (rest, " without features/")):
        asyncio.run(trace_request(trace, options.recipe))
        sys.setprofile(None)
        print(f"{len(trace.entered)} files, {trace.moves} moves{note}")
    for name, count in whole.entered.most_common() if options.files else ():
        print(f"{count:4d}  {name.split('/services/')[-1].split('/client/')[-1]}")


if __name__ == "__main__":
    main()
