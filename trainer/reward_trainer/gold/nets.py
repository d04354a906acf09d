"""The two halves of a BERT and of a decoder, of which only the upper one is trained.

    BERT      ids ──▶ embeddings, lower layers ──▶ top layers, pooler, classifier    all weights of the top trained
    decoder   ids ──▶ embeddings, lower layers ──▶ top layers + LoRA, norm, head     LoRA, norm and head trained

LoRA: E. J. Hu and others, "LoRA: low-rank adaptation of large language models" (2021); W + B A, without a scale.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from reward_runs.errors import ConfigError
from reward_trainer.gold.model import Base, GoldNet
from reward_trainer.gold.text import Encoded, to_tensors

LORA_A, LORA_B = ".lora_a", ".lora_b"
"""Endings of the names of a linear layer's two matrices, (rank, in) and (out, rank)."""


def make_net(base: Base, n_trained_layers: int, rank: int) -> GoldNet:
    """Return the trainable model. Raises ConfigError when the layers do not allow it."""
    n_layers = base.model.config.get_text_config().num_hidden_layers
    if not 1 <= n_trained_layers <= n_layers:
        raise ConfigError(f"--layers must be from 1 to {n_layers}, the layers of the model")
    if base.is_bert:
        return BertNet(base.model, n_trained_layers)
    net = CausalNet(base.model, n_trained_layers, rank)
    _check_halves(net)
    return net


class BertNet:
    """The two halves of a `BertForSequenceClassification`."""

    def __init__(self, model: Any, n_trained_layers: int) -> None:
        """Freeze everything but the last `n_trained_layers` layers, the pooler and the classifier."""
        layers = model.bert.encoder.layer
        self.model = model.eval()  # without dropout: few passes do not overfit, and it costs a third
        self.n_frozen = len(layers) - n_trained_layers
        model.requires_grad_(False)
        for module in (*layers[self.n_frozen :], model.bert.pooler, model.classifier):
            module.requires_grad_(True)

    @torch.no_grad()
    def lower(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the hidden states (B, T, D) below the trained layers."""
        hidden = self.model.bert.embeddings(inputs["input_ids"], token_type_ids=inputs["token_type_ids"])
        return self._through(self.model.bert.encoder.layer[: self.n_frozen], hidden, inputs["attention_mask"])

    def upper(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return scores (B,)."""
        hidden = self._through(self.model.bert.encoder.layer[self.n_frozen :], hidden, mask)
        pooled = self.model.bert.pooler(hidden)  # (B, D), of the first token
        scores: torch.Tensor = self.model.classifier(pooled)[:, 0]
        return scores

    @staticmethod
    def _through(layers: Any, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        visible = mask[:, None, None, :].bool()  # (B, 1, 1, T): attention to every token that is not padding
        for layer in layers:
            hidden = layer(hidden, visible)
        return hidden


class CausalNet:
    """The two halves of a decoder with a sequence-classification head, which reads the last token.

    Padding is on the right, where no token attends to it, so neither half needs a mask.
    """

    def __init__(self, model: Any, n_trained_layers: int, rank: int) -> None:
        """Freeze everything but the final norm, the head, and new LoRA matrices in the last layers."""
        decoder = getattr(model, model.base_model_prefix)
        self.model = model.eval()
        self.n_frozen = len(decoder.layers) - n_trained_layers
        model.requires_grad_(False)
        for layer in decoder.layers[self.n_frozen :]:
            for module in list(layer.modules()):
                if isinstance(module, torch.nn.Linear):
                    add_lora(module, rank)
        decoder.norm.requires_grad_(True)
        model.score.requires_grad_(True)
        torch.nn.init.zeros_(model.score.weight)
        self.lower_part = _part(decoder, layers=decoder.layers[: self.n_frozen], norm=torch.nn.Identity())
        self.upper_part = _part(decoder, layers=decoder.layers[self.n_frozen :])

    @torch.no_grad()
    def lower(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the hidden states (B, T, D) below the trained layers."""
        hidden: torch.Tensor = self.lower_part(input_ids=inputs["input_ids"], use_cache=False).last_hidden_state
        return hidden

    def upper(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return scores (B,) of the last token of each row."""
        states = self.upper_part(inputs_embeds=hidden, use_cache=False).last_hidden_state
        last = states[torch.arange(len(mask), device=mask.device), mask.sum(1) - 1]  # (B, D)
        scores: torch.Tensor = self.model.score(last)[:, 0]
        return scores


def add_lora(linear: torch.nn.Linear, rank: int) -> None:
    """Add B A to the output of `linear`, with B = 0 at first."""
    a = torch.empty(rank, linear.in_features, device=linear.weight.device)
    linear.lora_a = torch.nn.Parameter(torch.nn.init.kaiming_uniform_(a, a=5**0.5))
    linear.lora_b = torch.nn.Parameter(a.new_zeros(linear.out_features, rank))
    linear.register_forward_hook(_add_low_rank)


def _add_low_rank(linear: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    changed: torch.Tensor = output + inputs[0] @ linear.lora_a.T @ linear.lora_b.T
    return changed


def _part(decoder: Any, **modules: torch.nn.Module) -> Any:
    """Return a decoder that shares everything with `decoder` except the named modules."""
    part = copy.copy(decoder)
    part._modules = {**decoder._modules, **modules}  # a copy shares the dictionary otherwise
    return part


@torch.no_grad()
def _check_halves(net: CausalNet) -> None:
    """Raise ConfigError when the halves do not equal the complete model: then the base is of another structure."""
    decoder = getattr(net.model, net.model.base_model_prefix)
    ids = list(range(min(32, net.model.config.get_text_config().vocab_size)))
    inputs = to_tensors([Encoded(ids, 0)], net.model.device)
    whole = decoder(input_ids=inputs["input_ids"], use_cache=False).last_hidden_state
    halves = net.upper_part(inputs_embeds=net.lower(inputs), use_cache=False).last_hidden_state
    if not torch.allclose(whole, halves, rtol=1e-3, atol=1e-3 * float(whole.abs().max())):
        raise ConfigError(
            f"a {net.model.config.model_type} model cannot be run in two halves; choose a base of another family, "
            "such as Llama or Qwen"
        )
