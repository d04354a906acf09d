"""Pairs of a good response and a good response to a similar other prompt.

    prompt ──▶ the most similar other prompts, by their words ──▶ a chosen response of one of them: the worse one

A response to a random prompt is recognised by its topic. For this kind, a model must read the request: the worse
response is on topic and well written, and answers another question. Longer and shorter ones are taken in turn, so
that length says nothing.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_matrix

from reward_runs.errors import DataError
from reward_trainer.gold.degrade import MIN_WORDS, SOURCE
from reward_trainer.gold.preferences import Pair, n_words

SIMILAR = "similar_prompt"

MOST_SIMILAR = 0.8
"""Largest cosine of two prompts: the response to a closer one may be an answer to both."""

LEAST_SIMILAR = 0.2
"""Smallest cosine; below it the other prompt is of another topic."""

NEIGHBOURS = 8
"""Most similar prompts among which a response is looked for."""

_WORD = re.compile(r"[^\W\d_]{4,}")


def similar_prompt_pairs(pairs: Sequence[Pair], n: int, rng: random.Random) -> list[Pair]:
    """Return `n` pairs of a chosen response of `pairs` and a chosen response to a similar prompt.

    Raises DataError when fewer can be made.
    """
    responses: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        if n_words(pair.chosen) >= MIN_WORDS:
            responses[pair.prompt].append(pair.chosen)
    prompts = list(responses)
    made: list[Pair] = []
    for row, neighbours in _neighbours(prompts, rng):
        good = rng.choice(responses[prompts[row]])
        others = [text for other in neighbours for text in responses[prompts[other]]]
        if worse := _of_length(others, good, longer=len(made) % 2 == 0):
            made.append(Pair(prompts[row], good, worse, SOURCE + SIMILAR))
        if len(made) == n:
            return made
    raise DataError(
        f"{n} pairs with a response to a similar prompt were asked for, and {len(made)} can be made: too few of "
        f"the {len(prompts)} prompts are similar to another one; ask for fewer"
    )


def _of_length(texts: Sequence[str], good: str, *, longer: bool) -> str | None:
    """Return the first text that is longer, or is not longer, than `good`; None when there is none."""
    return next((text for text in texts if text != good and (n_words(text) > n_words(good)) == longer), None)


def _neighbours(prompts: Sequence[str], rng: random.Random) -> Iterator[tuple[int, list[int]]]:
    """Yield the index of each prompt, in random order, and those of its most similar ones, the closest first."""
    vectors = _vectors(prompts)
    for row in rng.sample(range(len(prompts)), len(prompts)):
        cosines = (vectors @ vectors[row].T).toarray().ravel()
        cosines[cosines > MOST_SIMILAR] = 0  # the prompt itself too
        nearest = np.argsort(-cosines, kind="stable")[:NEIGHBOURS]
        yield row, [int(other) for other in nearest if cosines[other] >= LEAST_SIMILAR]


def _vectors(prompts: Sequence[str]) -> csr_matrix:
    """Return unit vectors (prompts, words) of the words in each prompt's last turn, rare words weighing more."""
    columns: dict[str, int] = {}
    rows, places = [], []
    for row, prompt in enumerate(prompts):
        for word in set(_WORD.findall(prompt.rsplit("Human:", 1)[-1].lower())):
            rows.append(row)
            places.append(columns.setdefault(word, len(columns)))
    n_prompts = np.bincount(places, minlength=len(columns))
    weights = np.log(len(prompts) / n_prompts)[places]
    norms = np.sqrt(np.bincount(rows, weights**2, minlength=len(prompts)))[rows]
    shape = (len(prompts), max(1, len(columns)))
    return csr_matrix((weights / np.maximum(norms, 1e-9), (rows, places)), shape=shape)
