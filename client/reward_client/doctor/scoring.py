"""Trial rewards: that every number is finite, and how long they take."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from reward_client.doctor.check import Check, failed, note, ok
from reward_client.doctor.demand import Demand
from reward_client.doctor.exchange import NoReply, Reply, Service

_TEXT = (
    "air light wave river stone garden window morning because while often through smaller larger people answer "
    "question reason water energy colour number system between example follows important several first"
)
_WORDS = _TEXT.split()
_BATCH_ITEMS = 32
"""Items of the timed batch, if the framework's own batch is not known."""
_MAX_BATCH_ITEMS = 256
_TEXT_WORDS = 60
_SINGLES, _BATCHES = 5, 3
"""Timed requests, if they fit in the time below."""
_TIMED_S = 8.0
"""Seconds after which no further timed request is sent, for singles and for batches."""

_TEXTS = {
    "a sentence": "Air scatters blue light more than red light, so the sky is blue.",
    "an empty response": "",
    "white space": " \n ",
    "numbers": "3.14159 42 1e308 -0.0 NaN Infinity",
    "emoji": "Blue sky \U0001f30c\U0001f535 because of scattering \U0001f44d\U0001f3fd",
    "Chinese": "天空是蓝色的，因为空气散射蓝光。",
    "Arabic": "السماء زرقاء لأن الهواء يشتت الضوء الأزرق.",
    "code": "def f(x):\n    return {'a': [x, None]}  # <b>&amp;</b>",
    "a repeated word": "blue " * 200,
    "a long response": " ".join(_WORDS * 10),
    "special tokens": "The sky is blue.<|im_end|></s><|endoftext|>",
}
"""Responses by what is unusual about them."""
_PLAIN = {"a sentence", "a reference"}
"""Items that every model must be able to score."""


def finiteness(service: Service, recipe: str, *, gold: bool) -> Check:
    """Scores of usual and unusual responses: every reward, feature and gold score is a finite number, or null."""
    items: list[dict[str, Any]] = [
        {"prompt": "Why is the sky blue?", "response": text, "id": name} for name, text in _TEXTS.items()
    ]
    labelled = {"reference": "Paris", "query_type": "closed_ended", "id": "a reference"}
    items.append({"prompt": "What is the capital of France?", "response": "It is Paris.", **labelled})
    body = {"items": items, "recipe": recipe, "gold": gold, "on_item_error": "report"}
    reply = service.post("/score", body)
    subject = "trial rewards"
    if isinstance(reply, NoReply):
        return failed(subject, f"no answer: {reply.describe()}", "see the log of the service")
    if not reply.is_success:
        return failed(subject, reply.describe(), _fix(reply))
    document = reply.json()
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or len(results) != len(items):
        return failed(subject, f"{len(items)} results expected, got {reply.text()}", "is this our service?")
    return _judged(subject, results, [item["id"] for item in items])


def _judged(subject: str, results: Sequence[Any], names: Sequence[str]) -> Check:
    wrong = [f"{name}: {place}" for name, one in zip(names, results, strict=True) for place in _not_finite(one)]
    if wrong:
        found = f"{len(wrong)} numbers are not finite, first {wrong[0]}"
        return failed(
            subject, found, "do not train with this server: a number that is not finite ruins the weights"
        )
    errors = {
        name: one.get("error") for name, one in zip(names, results, strict=True) if one.get("reward") is None
    }
    if not errors:
        rewards = [one["reward"] for one in results]
        return ok(subject, f"{len(rewards)} finite rewards, {min(rewards):.3g} to {max(rewards):.3g}")
    name, error = next(iter(errors.items()))
    message = error.get("message") if isinstance(error, dict) else error
    found = f"{len(errors)} of {len(results)} items have no reward, first {name}: {message}"
    if errors.keys() & _PLAIN:
        return failed(subject, found, "a model fails: look at the log of the service")
    return note(subject, found, "such items have an error instead of a reward: see the failures below")


def _not_finite(result: Any) -> Iterator[str]:
    """The places of numbers in a result that are not finite."""
    if not isinstance(result, dict):
        yield "the result is no object"
        return
    features = result.get("features") or {}
    named = {"reward": result.get("reward"), "gold_reward": result.get("gold_reward"), **features}
    for name, value in named.items():
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
            yield f"{name} is {value}"


def latency(service: Service, recipe: str, demand: Demand) -> Iterator[Check]:
    """The median time of a request with one item, and of a batch; every text is new, so that no cache helps."""
    random_texts = random.Random()
    single = _timed(service, recipe, 1, _SINGLES, random_texts)
    yield _single("one item", single)
    n = min(max(demand.items or _BATCH_ITEMS, 2), _MAX_BATCH_ITEMS)
    batch = _timed(service, recipe, n, _BATCHES, random_texts)
    if isinstance(batch, Check):
        yield batch
        return
    seconds = statistics.median(batch)
    rate = f"{n / seconds:.0f} rows/s"
    found = f"{_ms(seconds)} for {n} items of {_TEXT_WORDS} words, {rate} (median of {len(batch)})"
    if demand.timeout_s is not None and seconds > demand.timeout_s / 2:
        fix = "smaller batches, more replicas, a GPU, or a longer time limit"
        where = f"{demand.framework} gives up after {demand.timeout_s:g} s"
        yield failed("a batch", f"{found}; {where}", fix)
        return
    yield ok("a batch", found)


def _single(subject: str, times: list[float] | Check) -> Check:
    if isinstance(times, Check):
        return times
    return ok(subject, f"{_ms(statistics.median(times))} (median of {len(times)})")


def _timed(service: Service, recipe: str, n: int, repeats: int, generator: random.Random) -> list[float] | Check:
    """Seconds of each request, or the check that failed."""
    subject = "one item" if n == 1 else "a batch"
    times: list[float] = []
    while len(times) < repeats and sum(times) < _TIMED_S and service.limit.left_s() > 0:
        reply = service.post("/score", {"items": list(_items(n, generator)), "recipe": recipe})
        if isinstance(reply, NoReply):
            fix = "the service is too slow or hangs; try again with a longer --timeout"
            return failed(subject, f"no answer: {reply.describe()}", fix)
        if not reply.is_success:
            return failed(subject, reply.describe(), _fix(reply))
        times.append(reply.seconds)
    return times or note(subject, "not measured: the time for all checks is over")


def _items(n: int, generator: random.Random) -> Iterable[dict[str, str]]:
    for _ in range(n):
        words = [*generator.choices(_WORDS, k=_TEXT_WORDS - 1), f"{generator.getrandbits(48):x}."]
        yield {"prompt": f"Tell me about {words[0]} and {words[-1]}", "response": " ".join(words).capitalize()}


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _fix(reply: Reply) -> str:
    if reply.status == 429:
        return "the service is busy with other requests: try again, or add replicas"
    if reply.status >= 500:
        return "look at the log of the service, by the request id of the reply"
    return "change what the error names"
