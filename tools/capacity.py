"""Measure how many replicas a run needs: python -m tools.capacity --url URL --per-second 200

    N clients, each posting one rollout at a time as OpenRLHF does ──▶ rows per second, latency ──▶ replicas

All responses differ, so that the cache does not help. The key is read from GLASSBOX_API_KEY.
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

TARGET_UTILISATION = 0.7
"""Planned share of a replica's measured throughput; rollouts arrive in waves, and replicas restart."""

_TEXT = (
    "air light water stone the a of in and because so when cold warm small large moves falls holds keeps blue red"
)
_WORDS = _TEXT.split()


def rollout(rng: random.Random, words: int) -> dict[str, object]:
    """One rollout with a response of `words` words, as OpenRLHF posts it."""
    prompt = f"<|im_start|>user\nTell me about {rng.choice(_WORDS)} and {rng.choice(_WORDS)}.<|im_end|>\n"
    prompt += "<|im_start|>assistant\n"
    response = " ".join(rng.choices(_WORDS, k=words))
    return {"query": [f"{prompt}{response}.<|im_end|>"], "prompts": [prompt], "labels": [None]}


def replicas(per_second: float, measured: float) -> int:
    """Replicas for `per_second` rollouts when one scores `measured` per second, at `TARGET_UTILISATION`."""
    return max(1, math.ceil(per_second / (TARGET_UTILISATION * measured)))


def measure(url: str, clients: int, words: int, seconds: float, gold: bool) -> tuple[float, list[float]]:
    """Rows per second, and the seconds of each request. Raises httpx.HTTPError when the service refuses."""
    key = os.environ.get("GLASSBOX_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    parameters = {"recipe": "rer", "gold": "true"} if gold else {"recipe": "rer"}

    def post_until(deadline: float, seed: int) -> list[float]:
        rng, taken = random.Random(seed), []
        with httpx.Client(base_url=url, headers=headers, params=parameters, timeout=180) as client:
            while (started := time.monotonic()) < deadline:
                client.post("/get_reward", json=rollout(rng, words)).raise_for_status()
                taken.append(time.monotonic() - started)
        return taken

    started = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(post_until, started + seconds, seed) for seed in range(clients)]
        taken = [one for future in futures for one in future.result()]
    return len(taken) / (time.monotonic() - started), taken


def main() -> int:
    """Measure and print the number of replicas."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--per-second", type=float, metavar="N", help="rollouts per second of the run")
    parser.add_argument("--words", type=int, default=150, help="words of a response (default: 150)")
    parser.add_argument("--clients", type=int, default=64, help="concurrent rollouts (default: 64)")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--gold", action="store_true", help="with the gold reward")
    options = parser.parse_args()
    measure(options.url, options.clients, options.words, min(3.0, options.seconds), options.gold)  # warm up
    speed, taken = measure(options.url, options.clients, options.words, options.seconds, options.gold)
    slow = statistics.quantiles(taken, n=100)[98] if len(taken) > 1 else taken[0]
    sys.stdout.write(
        f"{speed:.1f} rows per second of {options.words} words, {options.clients} concurrent, "
        f"{'with' if options.gold else 'without'} gold; p99 latency {slow:.2f} s\n"
    )
    if options.per_second:
        n = replicas(options.per_second, speed)
        share = f"{TARGET_UTILISATION:.0%} utilisation"
        sys.stdout.write(f"{options.per_second:g} rollouts per second need {n} replicas at {share}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
