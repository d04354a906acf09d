"""Export the model in FOLDER to FOLDER/model.onnx. Runs in `.venv-infinity`, so it imports no own code.

It uses torch's older exporter, because the newer one needs a package that infinity does not depend on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "last_hidden_state"


class LastHidden(torch.nn.Module):
    """A Transformers encoder as a plain function of three tensors (B, T), which can be traced."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        """Last hidden states (B, T, D)."""
        states: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types)[0]
        return states


def main(folder: Path) -> None:
    """Export with dynamic batch and time dimensions."""
    module = LastHidden(AutoModel.from_pretrained(folder, attn_implementation="eager").eval())
    ids = torch.randint(5, 100, (2, 16))
    torch.onnx.export(
        module,
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        str(folder / "model.onnx"),
        input_names=list(INPUTS),
        output_names=[OUTPUT],
        dynamic_axes={name: {0: "batch", 1: "time"} for name in (*INPUTS, OUTPUT)},
        opset_version=17,
        dynamo=False,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
