"""The words that answers to most prompts have: how `features/common_words.txt` was made.

    python -m benchmarks.common_words PREFERENCES.jsonl.gz > services/reward_service/features/common_words.txt

A word counts once for each prompt whose answers have it, so that a subject with many answers has no more weight.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from benchmarks.vectors import rows

_SOURCES = ("hh_helpful", "pandalm_human", "tulu1_human", "ultrafeedback", "finegrained_qa")
"""Sources with many different prompts, under the MIT and Apache licences."""
_N_WORDS = 2000
_WORD = re.compile(r"[^\W\d_]{2,}")


def common_words(path: Path) -> list[str]:
    """The words of most prompts' answers, most frequent first."""
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows(path):
        if row["source"] in _SOURCES:
            answers[row["prompt"]].update(_WORD.findall(f"{row['chosen']} {row['rejected']}".lower()))
    counts = Counter(word for words in answers.values() for word in words)
    return [word for word, _ in counts.most_common(_N_WORDS)]


if __name__ == "__main__":
    print("\n".join(common_words(Path(sys.argv[1]))))
