"""Compare the speed of this tree with another checkout of the project, in one run.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.compare /tmp/before [--rounds 5] [--no-gold] [--python PYTHON]

    before: service of the other checkout ─┐
                                           ├─ the same requests, both sides once per round ──▶ ratios, median and
                                           range
    after:  service of this tree ──────────┘

Both services run at the same time with the embedded models and the Python of this process, each with the sources
of its tree. Only one of them has a request at any time. The order of the sides alternates between rounds. A ratio
above 1 means that this tree is faster. On a busy machine, the processor time of the services is the better figure.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import psutil

from benchmarks.items import groups
from benchmarks.measure import ROUNDS, Figure, Timings, seconds, with_note
from benchmarks.requests import RECIPE, body, post, post_all
from reward_client import Item
from reward_client.network import free_port
from tools.console import log
from tools.processes import server

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("client", "services", "trainer")
"""Folders of a checkout with packages; older ones have no `client`."""
N_LATENCY = 60
"""One-item requests in sequence, per round."""
ROWS = groups(32, 8)
GOLD_ROWS = groups(8, 4)


@dataclass(frozen=True)
class Case:
    """One comparison: `action(url, items)` on items whose texts are new in every round."""

    name: str
    items: list[Item]
    action: Callable[[str, list[Item]], None]


@dataclass(frozen=True)
class Side:
    """A running service."""

    url: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Processor time of all its processes, which other load on the machine hardly changes."""
        times = [process.cpu_times() for process in (self.process, *self.process.children(recursive=True))]
        return float(sum(one.user + one.system for one in times))


def score_all(url: str, items: list[Item]) -> None:
    """All items in one request."""
    post(url, body(items))


def score_singly(url: str, items: list[Item]) -> None:
    """One request per item, all at once."""
    post_all(url, [body([item]) for item in items])


def score_in_sequence(url: str, items: list[Item]) -> None:
    """One request per item, one after the other."""
    for item in items:
        post(url, body([item]))


def post_gold(url: str, items: list[Item]) -> None:
    """One OpenRLHF post per item with its gold reward, all at once."""
    asyncio.run(_post_gold(f"{url}/get_reward?recipe=rer&gold=true", items))


async def _post_gold(url: str, items: list[Item]) -> None:
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

        async def one(item: Item) -> None:
            prompt = f"<|im_start|>user\n{item.prompt}<|im_end|>\n<|im_start|>assistant\n"
            rollout = {"query": [f"{prompt}{item.response}<|im_end|>"], "prompts": [prompt], "labels": [None]}
            async with session.post(url, json=rollout) as reply:
                reply.raise_for_status()
                await reply.read()

        await asyncio.gather(*map(one, items))


CASES = (
    Case(f"{len(ROWS)} items in one request ({RECIPE})", ROWS, score_all),
    Case(f"{len(ROWS)} one-item requests at once", ROWS, score_singly),
    Case(f"{N_LATENCY} one-item requests in sequence (latency)", ROWS[:N_LATENCY], score_in_sequence),
)
GOLD = Case(f"{len(GOLD_ROWS)} OpenRLHF posts with gold at once", GOLD_ROWS, post_gold)


@contextmanager
def serving(tree: Path, python: str, log_file: Path, *options: str) -> Iterator[Side]:
    """Run the service of `tree`."""
    port = free_port()
    folders = [str(tree / name) for name in SOURCES if (tree / name).is_dir()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "HF_HUB_OFFLINE": "1"}
    command = [python, "-m", "reward_service", "--port", str(port), "--log-level", "warning", *options]
    url = f"http://127.0.0.1:{port}"
    with server(command, f"{url}/readyz", log_file, environment) as process:
        yield Side(url, psutil.Process(process.pid))


def compare(case: Case, sides: dict[str, Side], rounds: int) -> Figure:
    """The speed of "after" divided by that of "before", by round, after a warm-up round."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    cpu: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        items = [Item(prompt=f"{i.prompt} [{number}]", response=f"{i.response} [{number}]") for i in case.items]
        for side in sorted(sides, reverse=number % 2 == 0):
            used = sides[side].cpu_s()
            took = seconds(partial(case.action, sides[side].url, items))
            if number:
                taken[side].append(took)
                cpu[side].append(sides[side].cpu_s() - used)
    after, before = statistics.median(cpu["after"]), statistics.median(cpu["before"])
    figure = Timings(taken).ratio(case.name, "after", "before", "≥ 0.95")
    return with_note(figure, f"processor time {after:.2f} s against {before:.2f} s, {before / after:.2f}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="folder of the other checkout")
    parser.add_argument("--after", type=Path, default=ROOT, help="folder of the new checkout (default: this tree)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds that count (default: {ROUNDS})")
    parser.add_argument("--no-gold", action="store_true", help="leave out the gold model")
    parser.add_argument("--python", default=sys.executable, help="interpreter of both services")
    return parser.parse_args()


def main() -> None:
    """Compare, and print a Markdown table."""
    arguments = parse()
    options = ("--cache-bytes", "0", "--max-waiting-s", "600", *(("--gold", "none") if arguments.no_gold else ()))
    trees = {"before": arguments.before.resolve(), "after": arguments.after.resolve()}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sides = {
            side: stack.enter_context(serving(tree, arguments.python, Path(folder) / f"{side}.log", *options))
            for side, tree in trees.items()
        }
        cases = itertools.chain(CASES, () if arguments.no_gold else (GOLD,))
        rows = []
        for case in cases:
            log(case.name)
            rows.append(compare(case, sides, arguments.rounds).row)
    header = (
        "| speed after ÷ before | target | median | range | medians, after against before |\n|---|---|---|---|---|"
    )
    sys.stdout.write("\n".join([header, *rows, ""]))


if __name__ == "__main__":
    main()
