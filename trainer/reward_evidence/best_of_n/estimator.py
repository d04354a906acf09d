"""What the response is worth that a reward picks among n of N samples, as an exact expectation. Pure.

    rewards (P, N) ──pick_probabilities(n)──▶ (P, N): how often each sample is the pick
    pick_probabilities · gold, rewards or words of the samples ──▶ (P,): what is expected of the pick

The expectation is over all C(N, n) subsets of the N samples of a prompt. The sample of rank r (1: the lowest
reward) is the best of C(r − 1, n − 1) subsets, so with the rewards in order the weights are

    w_r = C(r − 1, n − 1) / C(N, n)

and samples with equal rewards share the sum of their weights: a tie is broken at random. One nested sequence of
subsets (the first n samples) has the same mean and more noise.

The divergence from the policy of picking the best of n is at most

    KL = log n − (n − 1) / n        nats

and equals it without ties (Stiennon et al., "Learning to summarize from human feedback", 2020, appendix G.3; the
horizontal axis of Gao et al., "Scaling laws for reward model overoptimization", 2023; that it is a bound: Beirami
et al., "Theoretical guarantees on the best-of-n alignment policy", 2024).
"""

import math

import numpy as np
from scipy import stats

from reward_evidence.statistics.monotonicity import FloatArray


def sizes(n_samples: int) -> list[int]:
    """Numbers of samples to pick from: the powers of two up to `n_samples`, and `n_samples`."""
    powers = [2**k for k in range(n_samples.bit_length())]
    return powers if powers[-1] == n_samples else [*powers, n_samples]


def kl_of_best(n: int) -> float:
    """Return log n − (n − 1) / n in nats."""
    return math.log(n) - (n - 1) / n


def pick_probabilities(rewards: FloatArray, n: int) -> FloatArray:
    """Probability (P, N) that each sample has the highest of `rewards` (P, N) among `n` random ones of its row."""
    n_samples = rewards.shape[1]
    if not 1 <= n <= n_samples:
        raise ValueError(f"{n} of {n_samples} samples cannot be chosen")
    cumulative = np.concatenate([[0.0], np.cumsum(_rank_weights(n_samples, n))])
    first = stats.rankdata(rewards, method="min", axis=1).astype(np.int64)  # ranks of the tie, from 1
    last = stats.rankdata(rewards, method="max", axis=1).astype(np.int64)
    probabilities: FloatArray = (cumulative[last] - cumulative[first - 1]) / (last - first + 1)
    return probabilities


def _rank_weights(n_samples: int, n: int) -> FloatArray:
    """w_r for r = 1 … N, by w_N = n / N and w_(r−1) = w_r (r − n) / (r − 1), which needs no large factorials."""
    weights = np.zeros(n_samples)
    weights[-1] = n / n_samples
    for rank in range(n_samples, n, -1):
        weights[rank - 2] = weights[rank - 1] * (rank - n) / (rank - 1)
    return weights
