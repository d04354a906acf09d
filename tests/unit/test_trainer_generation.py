"""Sampling follows the model's distribution, stops at its end token, and is reproducible by seed."""

from typing import Any

import pytest
import torch

from reward_evidence.sampling.generation import Sampling, generate
from tests.tiny_llama import save_tiny_llama

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [5, 6, 7], [200]]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)  # more of them only wait for each other on a model of this size
    folder = save_tiny_llama(tmp_path_factory.mktemp("policy"))
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_greedy_responses_equal_those_of_transformers_one_prompt_at_a_time(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    expected = [
        tuple(model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist())
        for ids in PROMPTS
    ]

    rollouts = generate(model, tokenizer, PROMPTS, Sampling(max_new_tokens=12, temperature=0))

    assert [rollout.token_ids for rollout in rollouts] == expected


def test_log_probabilities_equal_those_of_a_forward_pass_without_a_batch(
    policy: tuple[Any, Any],
) -> None:
    model, tokenizer = policy
    torch.manual_seed(1)
    rollouts = generate(
        model, tokenizer, PROMPTS, Sampling(max_new_tokens=40, temperature=0.7), with_logprobs=True
    )

    for prompt, rollout in zip(PROMPTS, rollouts, strict=True):
        ids = torch.tensor([prompt + list(rollout.token_ids)])
        with torch.no_grad():
            logprobs = (model(ids).logits[0, len(prompt) - 1 : -1] / 0.7).log_softmax(-1)
        chosen = logprobs.gather(-1, ids[0, len(prompt) :, None]).squeeze(-1)
        assert rollout.logprobs == pytest.approx(chosen.tolist(), abs=1e-4)


def test_a_response_ends_with_the_end_token_or_at_the_limit(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    torch.manual_seed(0)
    rollouts = generate(model, tokenizer, PROMPTS * 20, Sampling(max_new_tokens=100))

    ended = [rollout for rollout in rollouts if rollout.finish_reason == "stop"]
    assert 0 < len(ended) < len(rollouts)
    assert all(rollout.token_ids[-1] == 0 and 0 not in rollout.token_ids[:-1] for rollout in ended)
    assert all("<|im_end|>" not in rollout.text for rollout in ended)
    assert all(len(r.token_ids) == 100 and 0 not in r.token_ids for r in rollouts if r.finish_reason == "length")


def test_the_same_seed_gives_the_same_responses(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(generate(model, tokenizer, PROMPTS, Sampling(max_new_tokens=8)))

    assert drawn[0] == drawn[1] != drawn[2]


def test_no_end_token_comes_before_the_minimum(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    torch.manual_seed(0)
    rollouts = generate(model, tokenizer, PROMPTS * 50, Sampling(max_new_tokens=10, min_new_tokens=10))

    assert all(0 not in rollout.token_ids[:-1] and len(rollout.token_ids) == 10 for rollout in rollouts)


@pytest.mark.parametrize("limit", [{"top_k": 3}, {"top_p": 0.02}])
def test_top_k_and_top_p_leave_only_the_most_probable_tokens(
    policy: tuple[Any, Any], limit: dict[str, Any]
) -> None:
    model, tokenizer = policy
    with torch.no_grad():
        probabilities = model(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1).sort(descending=True)
    n_kept = limit.get("top_k") or int(
        (probabilities.values.cumsum(0) - probabilities.values < limit["top_p"]).sum()
    )
    allowed = set(probabilities.indices[:n_kept].tolist())
    torch.manual_seed(0)

    rollouts = generate(model, tokenizer, [PROMPTS[0]] * 300, Sampling(max_new_tokens=1, **limit))

    assert {rollout.token_ids[0] for rollout in rollouts} == allowed


def test_token_frequencies_follow_their_probabilities(policy: tuple[Any, Any]) -> None:
    from scipy.stats import chisquare

    model, tokenizer = policy
    with torch.no_grad():
        probabilities = (model(torch.tensor([[7]])).logits[0, -1] / 0.5).softmax(-1).double()
    torch.manual_seed(0)

    rollouts = generate(model, tokenizer, [[7]] * 20_000, Sampling(max_new_tokens=1, temperature=0.5))

    counts = torch.bincount(torch.tensor([rollout.token_ids[0] for rollout in rollouts]), minlength=258)
    assert chisquare(counts.numpy(), (probabilities / probabilities.sum() * 20_000).numpy()).pvalue > 0.001
