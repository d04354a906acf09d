"""Reward models whose score is a sum of several rewards, with weights that a gating network makes of the prompt.

    hidden state of the last token ─▶ regression_layer ─▶ rewards (B, K) ─▶ transform ─┐
    hidden state where the response begins ─▶ gating ─▶ weights (B, K), softmax ───────┴▶ sum ─▶ score (B,)

ArmoRM (RLHFlow/ArmoRM-Llama3-8B-v0.1; Wang et al., "Interpretable Preferences via Multi-Objective Reward Modeling
and Mixture-of-Experts", 2024) has K = 19 and comes with this head as code of its repository, which is not run;
this is the same computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

RESPONSE_START = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
"""Text before the response; the gating network reads the first token of its last occurrence."""


class _Gating(nn.Module):
    """A perceptron with ReLU; its outputs are weights that sum to `logit_scale`."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        n_hidden, width = getattr(config, "gating_n_hidden", 3), getattr(config, "gating_hidden_dim", 1024)
        sizes = [config.hidden_size, *[width] * n_hidden, n_objectives(config)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.logit_scale = nn.Parameter(torch.ones(1))
        self._temperature = float(getattr(config, "gating_temperature", 10))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Weights (B, K) of prompt states (B, D)."""
        for layer in self.layers[:-1]:
            values = torch.relu(layer(values))
        weights = torch.softmax(self.layers[-1](values) / self._temperature, dim=-1)
        scaled: torch.Tensor = weights * self.logit_scale[0]
        return scaled


class GatedReward(LlamaPreTrainedModel):  # type: ignore[misc] # Transformers has no types
    """A Llama with a regression layer and a gating network. `response_start` must be set before the first pass."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.model = LlamaModel(config)
        n = n_objectives(config)
        self.regression_layer = nn.Linear(config.hidden_size, n, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.eye(n), requires_grad=False)
        self.gating = _Gating(config)
        self.response_start: Sequence[int] = ()
        """Tokens of RESPONSE_START."""
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        """Scores (B, 1) of rows (B, T) that are padded on the right.

        Raises ValueError when a row has no response, because it was truncated or is no conversation.
        """
        hidden = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
        rows = torch.arange(len(input_ids), device=input_ids.device)
        rewards = self.regression_layer(hidden[rows, self._last_tokens(input_ids)])
        weights = self.gating(hidden[rows, self._response_starts(input_ids)])
        score = (weights * (rewards @ self.reward_transform_matrix)).sum(dim=-1, keepdim=True)
        return SequenceClassifierOutput(logits=score)

    def _last_tokens(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Positions (B,) of the last tokens that are not padding."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last: torch.Tensor = (places * (input_ids != self.config.pad_token_id)).argmax(dim=-1)
        return last

    def _response_starts(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Positions (B,) at which the last occurrence of RESPONSE_START begins."""
        start = torch.tensor(list(self.response_start), device=input_ids.device)
        if input_ids.shape[1] < len(start):
            raise ValueError(_NO_RESPONSE)
        found = (input_ids.unfold(1, len(start), 1) == start).all(dim=-1)  # (B, T − P + 1)
        if not bool(found.any(dim=-1).all()):
            raise ValueError(_NO_RESPONSE)
        places = torch.arange(found.shape[1], device=input_ids.device)
        return (places * found).argmax(dim=-1)


_NO_RESPONSE = (
    "the text does not show where the response begins: it is too long, or no conversation in this format"
)


def n_objectives(config: LlamaConfig) -> int:
    """The number of rewards K."""
    return int(getattr(config, "num_objectives", 19))
