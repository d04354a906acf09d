"""How often recipes rank the preferred response first, and how often they rank the probe's worse response last.

    python -m benchmarks.preferences CACHE train.jsonl.gz --recipes rer glassbox [--rows 1000] [--folder RECIPES]
    python -m benchmarks.preferences CACHE probe [--half development] --recipes rer glassbox

Prints for each recipe: the share of pairs that are ranked right (a tie counts half; with the probe, it is
wrong), of those with word counts within 10 %, and of those whose preferred response is shorter; the difference
to the first recipe with its 95 % interval, bootstrapped over prompts; and the share by source or kind. The
rewards are those of the service; embeddings are cached in CACHE, a folder outside the repository. Preference
rows are open-ended.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors import StoredVectors, rows
from reward_client.probe.case import embedded_cases
from reward_client.probe.kinds import worse_responses
from reward_client.wire import ChatMessage, QueryType
from reward_service.batching import complete
from reward_service.features.recipe import Recipe
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.models.encoder import load_encoder
from reward_service.models.protocols import TextEncoder
from reward_service.scoring.embedding import Embedder, EncoderWorker, TextVector, VectorCache
from reward_service.scoring.items import prepare
from reward_service.scoring.job import Job, ScorableItem
from reward_service.scoring.results import item_results
from reward_service.settings import EMBEDDED_ENCODER

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt, of which the first is better."""

    prompt: str
    better: str
    worse: str
    group: str
    """Source of the pair, or kind of the worse response."""
    reference: str | None = None

    def items(self) -> list[ScorableItem]:
        """Both responses as items, the better one first."""
        kind = QueryType.OPEN_ENDED if self.reference is None else QueryType.CLOSED_ENDED
        messages = (ChatMessage(role="user", content=self.prompt),)
        return [ScorableItem(messages, text, self.reference, kind, "given") for text in (self.better, self.worse)]


def preference_pairs(path: Path, n_rows: int | None) -> list[Pair]:
    """The pairs of a preference file, or a sample of them in random order."""
    pairs = [Pair(row["prompt"], row["chosen"], row["rejected"], row["source"]) for row in rows(path)]
    return pairs if n_rows is None else random.Random(5).sample(pairs, n_rows)


def probe_pairs(half: str | None) -> list[Pair]:
    """The good answers of the probe's battery, each with every worse response."""
    return [
        Pair(case.prompt, case.response, worse, kind.name, case.reference)
        for case in embedded_cases(half)
        for kind, worse in worse_responses(case)
    ]


def rewards(pairs: Sequence[Pair], recipe: Recipe, encoder: TextEncoder, stored: StoredVectors) -> Floats:
    """Rewards of the pairs' responses, shape (N, 2)."""
    entries = [item for pair in pairs for item in pair.items()]
    no_worker = cast(EncoderWorker, None)  # the texts are embedded here
    job, embedder = Job(entries, recipe, on_item_error="report"), Embedder(no_worker, VectorCache(0))
    prepared = complete(prepare(job, entries, embedder, encoder, {}))
    tokens = {text: unit.value for text, unit in prepared.texts.missing.items()}
    stored.add(tokens)
    vectors = {text: TextVector(stored[text], row.unknown_share, row.fingerprint) for text, row in tokens.items()}
    results = complete(item_results(prepared, recipe, vectors, ()))
    return np.array([np.nan if result.reward is None else result.reward for result in results]).reshape(-1, 2)


def interval(differences: Floats, prompts: Sequence[str]) -> tuple[float, float]:
    """95 % interval of the mean difference; prompts, not pairs, are drawn with replacement."""
    _, cluster = np.unique(prompts, return_inverse=True)
    sums, counts = np.bincount(cluster, differences), np.bincount(cluster)
    drawn = np.random.default_rng(0).integers(0, len(counts), (2000, len(counts)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)


def report(pairs: Sequence[Pair], rewards_of: Mapping[str, Floats], tie: float) -> None:
    """Print the figures of each recipe, whose rewards have the shape (N, 2)."""
    lengths = np.array([[len(p.better.split()), len(p.worse.split())] for p in pairs])
    same = np.abs(lengths[:, 0] - lengths[:, 1]) <= 0.1 * lengths.max(1)
    shorter = lengths[:, 0] < lengths[:, 1]
    groups = {
        group: np.array([p.group == group for p in pairs]) for group in dict.fromkeys(p.group for p in pairs)
    }
    base: Floats | None = None
    first = next(iter(rewards_of))
    for name, values in rewards_of.items():
        right = (values[:, 0] > values[:, 1]) + tie * (values[:, 0] == values[:, 1])
        by_group = {group: right[mask].mean() for group, mask in groups.items()}
        base = right if base is None else base
        low, high = interval(right - base, [p.prompt for p in pairs])
        mean = np.mean(list(by_group.values()))
        print(f"{name}: {len(pairs)} pairs {right.mean():.4f}, mean over groups {mean:.4f}")
        print(
            f"  same length {right[same].mean():.4f} ({same.sum()}), better is shorter {right[shorter].mean():.4f}"
        )
        print(f"  difference to {first} {(right - base).mean():+.4f} [{low:+.4f}, {high:+.4f}]")
        print("  " + ", ".join(f"{group} {share:.3f}" for group, share in by_group.items()))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("pairs", help="a preference file, or `probe`")
    parser.add_argument("--recipes", nargs="+", default=["rer", "glassbox"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--half")
    parser.add_argument("--folder", type=Path, help="folder with more recipes")
    options = parser.parse_args()
    registry = RecipeRegistry.load(options.folder)
    is_probe = options.pairs == "probe"
    pairs = probe_pairs(options.half) if is_probe else preference_pairs(Path(options.pairs), options.rows)
    encoder = load_encoder(EMBEDDED_ENCODER, threads=1)
    stored = StoredVectors(options.cache, encoder)
    rewards_of = {name: rewards(pairs, registry.get(name), encoder, stored) for name in options.recipes}
    report(pairs, rewards_of, tie=0.0 if is_probe else 0.5)


if __name__ == "__main__":
    main()
