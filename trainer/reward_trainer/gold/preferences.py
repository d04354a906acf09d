"""Preference pairs: reading files, excluding sources, balancing lengths.

One JSON object per line: `{"prompt": …, "chosen": …, "rejected": …, "source": …}`; the file may be gzipped.
"""

import gzip
import json
import math
import random
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from reward_runs.errors import DataError


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt, and which of them was preferred."""

    prompt: str
    chosen: str
    rejected: str
    source: str
    """Origin of the judgement; accuracy is measured per source."""


def read_pairs(paths: Sequence[Path], excluded: Sequence[str] = ()) -> list[Pair]:
    """Return the pairs of all files, in order, without sources that match one of the `excluded` patterns.

    Raises DataError naming file and row of an invalid pair, and when no pair remains.
    """
    pairs = [
        pair
        for path in paths
        for pair in _rows(path)
        if not any(fnmatch(pair.source, pattern) for pattern in excluded)
    ]
    if not pairs:
        raise DataError(f"{', '.join(map(str, paths))}: no preference pairs besides those of excluded sources")
    return pairs


def hold_out(pairs: Sequence[Pair], share: float, rng: random.Random) -> tuple[list[Pair], list[Pair]]:
    """Divide `pairs` by prompt: return those to fit on, and those of about `share` of the prompts.

    Raises DataError when either part is empty.
    """
    prompts = sorted({_same_prompt(pair.prompt) for pair in pairs})
    held = set(rng.sample(prompts, round(share * len(prompts))))
    kept, held_out = ([p for p in pairs if (_same_prompt(p.prompt) in held) == part] for part in (False, True))
    if not kept or not held_out:
        raise DataError(
            f"--hold-out {share:g} of {len(prompts)} prompts leaves none to fit on, or none to measure"
        )
    return kept, held_out


def check_other_prompts(used: Sequence[Pair], test: Sequence[Pair]) -> None:
    """Raise DataError when a test pair has a prompt of the fit, white space and case aside.

    Accuracy on prompts of the fit would overstate that on others.
    """
    fitted = {_same_prompt(pair.prompt): pair.source for pair in used}
    shared = [pair for pair in test if _same_prompt(pair.prompt) in fitted]
    if shared:
        n_prompts = len({_same_prompt(pair.prompt) for pair in shared})
        first = shared[0]
        raise DataError(
            f"the test pairs share {n_prompts} prompts with those of the fit, so the accuracy would be too "
            f"high; for example {first.prompt[:80]!r} (source {first.source}; in the fit "
            f"{fitted[_same_prompt(first.prompt)]}). Remove them from one of the files: divide pairs by prompt"
        )


def _same_prompt(prompt: str) -> str:
    return " ".join(prompt.lower().split())


def _rows(path: Path) -> Iterator[Pair]:
    number = 0
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as lines:
            for number, line in enumerate(lines, 1):
                yield _pair(line, f"{path}, row {number}")
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        where = f"after row {number}" if number else "at its beginning"
        raise DataError(f"{path} is damaged or incomplete {where}: {exc}; copy or download it again") from exc
    except OSError as exc:
        raise DataError(f"preference pairs cannot be read from {path}: {exc.strerror or exc}") from exc


def _pair(line: bytes, where: str) -> Pair:
    try:
        row = json.loads(line)
        fields = [row["prompt"], row["chosen"], row["rejected"], row.get("source", "unnamed")]
    except (ValueError, KeyError, AttributeError, TypeError) as exc:
        raise DataError(f"{where}: expected an object with prompt, chosen and rejected ({exc})") from exc
    if not all(isinstance(value, str) for value in fields):
        raise DataError(f"{where}: prompt, chosen, rejected and source must be strings")
    return Pair(*fields)


def balance_lengths(pairs: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """Return pairs in which, in every stratum, the longer response is preferred as often as the shorter one.

    A stratum is one source and one range of length ratios; balancing over sources alone would keep "much longer
    wins" in the labels. All pairs of equal length are kept. `rng` selects the pairs to drop; the order is kept.
    """
    strata: dict[tuple[str, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    kept: set[int] = set()
    for index, pair in enumerate(pairs):
        ratio = math.log((n_words(pair.chosen) + 1) / (n_words(pair.rejected) + 1))
        if ratio == 0:
            kept.add(index)
        else:
            stratum = sum(abs(ratio) > edge for edge in _RATIO_EDGES)
            strata[pair.source, stratum][ratio > 0].append(index)
    for shorter_won, longer_won in strata.values():
        n = min(len(shorter_won), len(longer_won))
        kept.update(rng.sample(shorter_won, n), rng.sample(longer_won, n))
    return [pair for index, pair in enumerate(pairs) if index in kept]


_RATIO_EDGES = (math.log(1.2), math.log(1.6), math.log(2.5))
"""Bounds of the strata: each has about a quarter of the pairs that `demo-gold` is fitted on."""


def n_words(text: str) -> int:
    """Return the number of words, separated by white space."""
    return len(text.split())
