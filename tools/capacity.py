"""How many replicas a run needs, from what one does now: python -m tools.capacity --url URL --per-second 200

    N clients, each posting one rollout at a time as OpenRLHF does ──▶ rows a second, time to answer ──▶ replicas

No two responses are alike, so that nothing is answered from memory. docs/capacity.md says how to read the result.
The key comes from GLASSBOX_API_KEY.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

BUSY_AT_MOST = 0.7
"""Share of its measured speed that a replica is planned for: rollouts come in waves, and one may be away."""

_TEXT = (
    "air light water stone the a of in and because so when cold warm small large moves falls holds keeps blue red"
)
_WORDS = _TEXT.split()


def rollout(random_: random.Random, words: int) -> dict[str, object]:
    """One rollout with a response of `words` words, as OpenRLHF posts it."""
    prompt = f"<|im_start|>user\nTell me about {random_.choice(_WORDS)} and {random_.choice(_WORDS)}.<|im_end|>\n"
    prompt += "<|im_start|>assistant\n"
    response = " ".join(random_.choices(_WORDS, k=words))
    return {"query": [f"{prompt}{response}.<|im_end|>"], "prompts": [prompt], "labels": [None]}


def replicas(per_second: float, measured: float) -> int:
    """Replicas for `per_second` rollouts when one does `measured`, at `BUSY_AT_MOST` of it."""
    return max(1, math.ceil(per_second / (BUSY_AT_MOST * measured)))


def measure(url: str, clients: int, words: int, seconds: float, gold: bool) -> tuple[float, list[float]]:
    """Rows a second, and the seconds of each answer; raises httpx.HTTPError when the service refuses."""
    key = os.environ.get("GLASSBOX_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    parameters = {"recipe": "rer", "gold": "true"} if gold else {"recipe": "rer"}

    def post_until(deadline: float, seed: int) -> list[float]:
        random_, taken = random.Random(seed), []
        with httpx.Client(base_url=url, headers=headers, params=parameters, timeout=180) as client:
            while (started := time.monotonic()) < deadline:
                client.post("/get_reward", json=rollout(random_, words)).raise_for_status()
                taken.append(time.monotonic() - started)
        return taken

    started = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(post_until, started + seconds, seed) for seed in range(clients)]
        taken = [one for future in futures for one in future.result()]
    return len(taken) / (time.monotonic() - started), taken


def main() -> int:
    """Measure, and say what follows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--per-second", type=float, metavar="N", help="rollouts a second that the run makes")
    parser.add_argument("--words", type=int, default=150, help="words of a response (default: 150)")
    parser.add_argument("--clients", type=int, default=64, help="rollouts under way at a time (default: 64)")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--gold", action="store_true", help="with the gold reward")
    given = parser.parse_args()
    measure(given.url, given.clients, given.words, min(3.0, given.seconds), given.gold)  # warm up
    speed, taken = measure(given.url, given.clients, given.words, given.seconds, given.gold)
    slow = statistics.quantiles(taken, n=100)[98] if len(taken) > 1 else taken[0]
    sys.stdout.write(
        f"{speed:.1f} rows a second of {given.words} words, {given.clients} at a time, "
        f"{'with' if given.gold else 'without'} gold; 99 % answered within {slow:.2f} s\n"
    )
    if given.per_second:
        n = replicas(given.per_second, speed)
        sys.stdout.write(f"{given.per_second:g} rollouts a second need {n} of these, {BUSY_AT_MOST:.0%} busy\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
