"""Responses of checkpoints and their divergence from the initial policy, with real, tiny models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from reward_evidence.sampling.policy_sampler import PolicySampler
from reward_evidence.sampling.samples import Sample, batch_seed, even_batches
from reward_evidence.statistics.kl import TokenSequence, divergences
from reward_runs.record import RunReader
from tests.unit.evidence_run import sampling_settings
from tests.unit.tiny_policy import MAX_NEW_TOKENS, make_tiny_run


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """With models this small, threads mostly wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def samples(run: Path) -> dict[int, list[Sample]]:
    """Two samples per prompt at steps 0, 1 and 2, in batches of 2, 3 and 3 prompts."""
    return {step: respond(run, step, samples=2, batch_size=3) for step in (0, 1, 2)}


def respond(run: Path, step: int, **changes: Any) -> list[Sample]:
    opened = RunReader.open(run)
    settings = sampling_settings(max_new_tokens=MAX_NEW_TOKENS, **changes)
    sampler = PolicySampler(settings, opened.checkpoints, opened.checkpoints[0], "cpu")
    return sampler.respond(step, opened.prompts, lambda n, of: None)


def texts(of_step: list[Sample]) -> list[str]:
    return [one.response for one in of_step]


def test_a_checkpoint_gives_the_same_responses_in_every_evaluation(
    run: Path, samples: dict[int, list[Sample]]
) -> None:
    assert respond(run, 1, samples=2, batch_size=3) == samples[1]


def test_equal_weights_give_equal_responses_at_every_step(samples: dict[int, list[Sample]]) -> None:
    """The seeds depend on sample and batch, not on the checkpoint: a run with learning rate 0 shows no change."""
    assert texts(samples[0]) == texts(samples[2])
    assert texts(samples[0]) != texts(samples[1])


def test_samples_of_a_prompt_differ(samples: dict[int, list[Sample]]) -> None:
    first, second = samples[0][:8], samples[0][8:]
    assert [one.prompt.id for one in first] == [one.prompt.id for one in second]
    assert [{one.sample for one in half} for half in (first, second)] == [{0}, {1}]
    assert texts(first) != texts(second)


def test_truncated_responses_have_all_tokens_and_others_an_end(samples: dict[int, list[Sample]]) -> None:
    all_samples = samples[0] + samples[1]
    assert {one.truncated for one in all_samples} == {True, False}
    assert all(one.n_tokens == MAX_NEW_TOKENS for one in all_samples if one.truncated)
    assert all("<end>" not in one.response for one in all_samples)


def test_seeds_of_neighbouring_batches_differ() -> None:
    seeds = {batch_seed(seed, sample, batch) for seed in range(5) for sample in range(5) for batch in range(5)}
    assert len(seeds) == 125


@pytest.mark.parametrize(("n", "limit", "sizes"), [(72, 64, [36, 36]), (8, 3, [2, 3, 3]), (5, 64, [5])])
def test_batches_are_few_and_even(n: int, limit: int, sizes: list[int]) -> None:
    assert [len(range(n)[batch]) for batch in even_batches(n, limit)] == sizes


def exact_and_k1(of_step: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    found = [one.divergence for one in of_step if one.divergence]
    return torch.tensor([d.exact for d in found]), torch.tensor([d.k1 for d in found])


def test_divergence_is_zero_for_equal_weights_and_positive_for_different_ones(
    samples: dict[int, list[Sample]],
) -> None:
    assert torch.allclose(exact_and_k1(samples[2])[0], torch.zeros(16), atol=1e-5)
    assert (exact_and_k1(samples[1])[0] > 0).all()


@torch.inference_mode()
def test_divergence_is_the_sum_of_log_ratios_under_teacher_forcing(run: Path) -> None:
    """Single sequences without padding, token by token, have the divergence of the padded batch."""
    policy, initial = (
        LlamaForCausalLM.from_pretrained(run / "checkpoints" / f"{step:06d}", dtype=torch.float32).eval()
        for step in (1, 0)
    )
    sequences = [TokenSequence((2, 4, 5, 6), (7, 8, 1)), TokenSequence((4,), (9, 10, 11, 12, 13))]
    for sequence, found in zip(sequences, divergences(policy, initial, sequences, 0.7), strict=True):
        k1 = exact = 0.0
        for i, token in enumerate(sequence.response):
            prefix = torch.tensor([[*sequence.prompt, *sequence.response[:i]]])
            logp, logp_initial = (
                (model(prefix).logits[0, -1] / 0.7).log_softmax(-1) for model in (policy, initial)
            )
            k1 += float(logp[token] - logp_initial[token])
            exact += float((logp.exp() * (logp - logp_initial)).sum())
        assert found.k1 == pytest.approx(k1, abs=1e-4)
        assert found.exact == pytest.approx(exact, abs=1e-4)


@pytest.mark.slow
def test_both_estimators_agree_on_average_and_the_exact_one_varies_less(run: Path) -> None:
    exact, k1 = exact_and_k1(respond(run, 1, samples=20))
    standard_error = (exact - k1).std() / len(exact) ** 0.5
    assert abs((exact - k1).mean()) < 4 * standard_error
    assert exact.std() < k1.std()
