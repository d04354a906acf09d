"""What others see of the service while it is attacked, measured in a separate process.

    python -m tests.api.hostile.probe '{"url": …}'  a line on stdin: the attack begins; end of stdin: stop
                                                    stdout: "measuring" when each probe has a sample, then
                                                    {"quiet": {name: [[seconds, outcome], …]}, "attack": …}

Each of the probes is a thread with a new connection for every request, as health checks and OpenRLHF make them.
`rss` is the resident memory of the service's processes in bytes, in place of seconds.
"""

from __future__ import annotations

import http.client
import itertools
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import psutil

_TIMEOUT_S = 60.0
Sample = tuple[float, str]


class Probe:
    """Requests of one kind, repeated until `stop`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._numbers = itertools.count()
        self._phase = "quiet"
        self._stop = threading.Event()
        self._began = threading.Semaphore(0)
        """Released by each thread after its first sample."""
        self._samples: dict[str, dict[str, list[Sample]]] = {p: defaultdict(list) for p in ("quiet", "attack")}

    def run(self, commands: Iterator[str]) -> dict[str, dict[str, list[Sample]]]:
        """Measure until `commands` ends; its first line begins the attack."""
        probes: list[tuple[str, float, Callable[[], Sample]]] = [
            ("healthz", 0.02, lambda: self._request(self._config["url"], "GET", "/healthz")),
            ("control", 0.02, lambda: self._request(self._config["control_url"], "GET", "/")),
            ("readyz", 0.2, lambda: self._request(self._config["url"], "GET", "/readyz")),
            ("score", 0.1, self._score),
            ("openrlhf", 0.3, self._openrlhf),
            ("rss", 0.05, self._rss),
        ]
        threads = [threading.Thread(target=self._repeat, args=probe, daemon=True) for probe in probes]
        for thread in threads:
            thread.start()
        for _ in threads:
            self._began.acquire()
        print("measuring", flush=True)  # noqa: T201 (read by the witness)
        next(commands, None)
        self._phase = "attack"
        for _ in commands:
            pass
        self._stop.set()
        for thread in threads:
            thread.join()
        return self._samples

    def _repeat(self, name: str, pause_s: float, probe: Callable[[], Sample]) -> None:
        n_samples = 0
        while not self._stop.is_set():
            phase = self._phase
            sample = probe()
            self._samples[phase if phase == self._phase else "attack"][name].append(sample)
            n_samples += 1
            if n_samples == 1:
                self._began.release()
            self._stop.wait(pause_s)

    def _score(self) -> Sample:
        item = {
            "prompt": "Why is the sky blue?",
            "response": f"Air scatters blue light {next(self._numbers)} times.",
        }
        return self._request(self._config["url"], "POST", "/score", {"items": [item]})

    def _openrlhf(self) -> Sample:
        response = f"Air scatters blue light {next(self._numbers)} times."
        body = {
            "query": [f"Why is the sky blue?{response}"],
            "prompts": ["Why is the sky blue?"],
            "labels": [None],
        }
        return self._request(self._config["url"], "POST", "/get_reward", body)

    def _rss(self) -> Sample:
        total = 0
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._config["pid"])
            total = sum(p.memory_info().rss for p in [parent, *parent.children(recursive=True)])
        return total, ""

    def _request(self, url: str, method: str, path: str, body: object = None) -> Sample:
        """Seconds, and the status or the kind of error."""
        began = time.monotonic()
        connection = http.client.HTTPConnection(
            urlsplit(url).netloc, timeout=_TIMEOUT_S, source_address=(self._config["address"], 0)
        )
        try:
            headers = {"content-type": "application/json", "connection": "close"} | self._config["headers"]
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
            outcome = str(response.status)
            if response.status != 200:
                outcome += f": {content[:300].decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as exc:
            outcome = f"{type(exc).__name__}: {exc}"
        finally:
            connection.close()
        return time.monotonic() - began, outcome


if __name__ == "__main__":
    print(json.dumps(Probe(json.loads(sys.argv[1])).run(iter(sys.stdin))))  # noqa: T201 (read by the witness)
