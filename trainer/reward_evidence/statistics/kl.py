"""KL divergence of a policy from the initial policy over their responses, in nats.

q_t(y | x) is the distribution that responses y of policy t are sampled from (softmax of logits / temperature), and
q_0 that of the initial policy:

    KL(q_t ‖ q_0) = E_{y ~ q_t} [ Σ_i log q_t(y_i | x, y_<i) − log q_0(y_i | x, y_<i) ]

Both estimators are unbiased for one sampled response, and are sums over its tokens, including the end token:

- `k1`: the log-ratios of the sampled tokens themselves. Noisy, often negative (Schulman, "Approximating KL
  divergence", 2020).
- `exact`: at every sampled prefix, the sum Σ_v q_t(v) (log q_t(v) − log q_0(v)) over the vocabulary. This
  is `k1` Rao-Blackwellised: never negative, with a smaller variance (Amini et al., "Better Estimation of the KL
  Divergence Between Language Models", 2025).

Both are measured at the sampling temperature, because the responses come from the tempered distribution:
log-ratios at temperature 1 of responses sampled at 0.7 estimate no divergence. The token limit truncates
responses, so this is the divergence of the truncated responses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reward_evidence.sampling.samples import Divergence

_BATCH_LOGITS = 50_000_000
"""Maximum logits per forward pass; each of a few fp32 tensors of that size takes 0.2 GB."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """A prompt and the response sampled after it, as token ids; the response is not empty."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]


@torch.inference_mode()
def divergences(
    policy: Any, initial: Any, sequences: Sequence[TokenSequence], temperature: float
) -> list[Divergence]:
    """Estimate KL(policy ‖ initial) from each of `sequences`, in order, by teacher forcing."""
    max_tokens = _BATCH_LOGITS // policy.config.get_text_config().vocab_size
    found: dict[int, Divergence] = {}
    for chosen in _batches([len(sequence.response) for sequence in sequences], max_tokens):
        batch = [sequences[index] for index in chosen]
        found.update(zip(chosen, _divergences(policy, initial, batch, temperature), strict=True))
    return [found[index] for index in range(len(sequences))]


def _batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Yield batches of indices with similar lengths, at most `max_tokens` with padding."""
    longest_first = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while longest_first:
        size = max(1, max_tokens // lengths[longest_first[0]])
        yield longest_first[:size]
        longest_first = longest_first[size:]


def _divergences(
    policy: Any, initial: Any, sequences: Sequence[TokenSequence], temperature: float
) -> list[Divergence]:
    width = max(len(sequence.response) for sequence in sequences)  # R
    ids, mask = _left_padded(sequences)  # (B, T), (B, T)
    logp = _token_logprobs(policy, ids, mask, width, temperature)  # (B, R, V)
    logp_initial = _token_logprobs(initial, ids, mask, width, temperature)  # (B, R, V)
    is_response = torch.tensor([[i >= width - len(s.response) for i in range(width)] for s in sequences])  # (B, R)
    log_ratio = logp - logp_initial
    exact = ((logp.exp() * log_ratio).sum(-1) * is_response).sum(-1)  # (B,)
    sampled = ids[:, -width:, None].to(logp.device)
    k1 = (log_ratio.gather(-1, sampled).squeeze(-1) * is_response).sum(-1)  # (B,)
    return [Divergence(*pair) for pair in zip(exact.tolist(), k1.tolist(), strict=True)]


def _left_padded(sequences: Sequence[TokenSequence]) -> tuple[Tensor, Tensor]:
    """Return token ids and mask (B, T), aligned on the right; the mask excludes the padding."""
    rows = [[*sequence.prompt, *sequence.response] for sequence in sequences]
    width = max(len(row) for row in rows)
    ids = [[0] * (width - len(row)) + row for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def _token_logprobs(model: Any, ids: Tensor, mask: Tensor, width: int, temperature: float) -> Tensor:
    """Return the log-probabilities of every token at the last `width` positions: (B, R, V), fp32."""
    output = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(model.device),
        use_cache=False,
        logits_to_keep=width + 1,  # the last position predicts what follows the response
    )
    logprobs: Tensor = (output.logits[:, :-1].float() / temperature).log_softmax(-1)
    return logprobs
