"""Summary of scored rows, for people: means by query type, features, flags, notices, and rows without a reward."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from reward_client.notices import join_notices
from reward_client.rows import first_of
from reward_client.score_file import Progress


class Summary:
    """Collects progress; `str` is the summary."""

    def __init__(self) -> None:
        self._rewards: defaultdict[str, list[float]] = defaultdict(list)
        self._golds: defaultdict[str, list[float]] = defaultdict(list)
        """By gold model, the primary one first; a single one has no name."""
        self._features: defaultdict[str, list[float]] = defaultdict(list)
        self._flags: Counter[str] = Counter()
        self._notices: list[str] = []
        self._slowest = (0.0, "")
        self.wrong: list[str] = []
        """The rows without a reward, each with its line in the input."""

    def add(self, progress: Progress) -> None:
        """Count what was written since the last call."""
        self.wrong += progress.wrong
        self._notices = join_notices(self._notices, progress.notices)
        self._slowest = max(self._slowest, (progress.seconds, progress.span))
        for line in progress.lines:
            self._add_result(line["result"])

    def _add_result(self, result: Mapping[str, Any]) -> None:
        if result["reward"] is None:
            return
        self._rewards[result["query_type"]].append(result["reward"])
        for name, score in (result.get("golds") or {"": result.get("gold_reward")}).items():
            if score is not None:
                self._golds[name].append(score)
        self._flags.update(result["flags"])
        for name, value in result["features"].items():
            if value is not None:
                self._features[name].append(value)

    def __str__(self) -> str:
        n_rows = sum(map(len, self._rewards.values()))
        lines = [f"{n_rows} rows scored, {len(self.wrong)} rows without a reward"]
        for kind, rewards in self._rewards.items():
            lines.append(f"  {kind}: mean reward {fmean(rewards):.4f} ({len(rewards)})")
        for number, (name, golds) in enumerate(self._golds.items()):
            model = f" of {name}{'' if number else ', the primary gold model'}:" if name else ""
            lines.append(f"  mean gold reward{model} {fmean(golds):.4f}")
        lines += _line("features", (f"{name} {fmean(found):.3f}" for name, found in self._features.items()))
        lines += _line("flags", (f"{name} {n}" for name, n in self._flags.most_common()))
        seconds, span = self._slowest
        lines += [f"  slowest request: {span}, {seconds:.1f} s"] if span else []
        lines += [f"  note: {notice}" for notice in self._notices]
        return "\n".join(lines + ([first_of(self.wrong)] if self.wrong else []))


def _line(title: str, parts: Iterable[str]) -> list[str]:
    text = ", ".join(parts)
    return [f"  {title}: {text}"] if text else []
