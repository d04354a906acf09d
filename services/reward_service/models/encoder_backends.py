"""The forward pass of an encoder that Transformers loaded, by back end. In fp32 their results agree to 1e-5.

    tokens of B texts ──▶ vectors (B, D)

OpenVINO runs the traced torch module on a CPU, with its layers fused; measured ratios are in docs/performance.md.
OpenVINO's converter sends telemetry, so this module calls its frontend directly, which does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from reward_service.models.cuda import CudaRunner, Inputs
from reward_service.models.encoder_parts import Forward
from reward_service.models.padding import pad_right
from reward_service.models.protocols import Embeddings, Tokens

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class _Pooled(torch.nn.Module):
    """A model and the mean over tokens as a plain function of two tensors, which can be traced."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Vectors (B, D) in fp32 of rows (B, T)."""
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean: torch.Tensor = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        return mean


class TorchForward:
    """Torch on a CPU, with fused attention; autocast for narrow number formats."""

    def __init__(self, model: Any, device: torch.device, precision: str) -> None:
        self.name = f"torch {precision}"
        self._module = _Pooled(model).eval()
        self._device = device
        self._dtype = _DTYPES[precision]

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Tokens], pad_id: int) -> Embeddings:
        """Vectors (B, D) of the rows."""
        inputs = {name: torch.from_numpy(rows).to(self._device) for name, rows in pad_right(batch, pad_id).items()}
        narrow = self._dtype is not torch.float32
        with torch.autocast(self._device.type, dtype=self._dtype if narrow else None, enabled=narrow):
            vectors = self._module(inputs["input_ids"], inputs["attention_mask"])
        rows: Embeddings = vectors.cpu().numpy()
        return rows


class CudaForward:
    """Torch on a GPU: weights in the configured number format, the mean over tokens in fp32."""

    def __init__(self, model: Any, device: torch.device, precision: str) -> None:
        self.name = f"torch {precision}"
        self._module = _Pooled(model.to(_DTYPES[precision])).eval()
        positions = getattr(model.config, "max_position_embeddings", None)
        self._cuda = CudaRunner(self.vectors, device, positions, graphs=True)

    def __call__(self, batch: Sequence[Tokens], pad_id: int) -> Embeddings:
        """Vectors (B, D) of the rows."""
        return self._cuda(batch, pad_id)

    def vectors(self, inputs: Inputs) -> torch.Tensor:
        """The forward pass: vectors (B, D) of rows (B, T)."""
        vectors: torch.Tensor = self._module(inputs["input_ids"], inputs["attention_mask"])
        return vectors


def openvino_forward(model: Any, precision: str, threads: int | None) -> Forward:
    """Trace `model` and compile it for this CPU, which takes about 3 s. Raises errors of OpenVINO and torch."""
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    from reward_service.models.openvino_cpu import OpenVinoForward

    ids = torch.randint(5, 100, (3, 17))
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    frontend = FrontEndManager().load_by_framework("pytorch")
    module = _Pooled(model).eval()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about every branch; the results are compared below
        decoder = TorchScriptPythonDecoder(module, example_input=(ids, mask))
    graph = frontend.convert(frontend.load(decoder))
    for tensor, name in zip(graph.inputs, ("input_ids", "attention_mask"), strict=True):
        tensor.get_tensor().set_names({name})
        tensor.node.set_partial_shape(openvino.PartialShape([-1, -1]))
        tensor.node.set_element_type(openvino.Type.i64)
    graph.validate_nodes_and_infer_types()
    forward = OpenVinoForward(graph, precision, threads)
    ids = torch.randint(5, 100, (2, 40))  # another shape: tracing may freeze values of the example input
    mask = torch.ones_like(ids)
    mask[0, 31:] = 0
    with torch.inference_mode():
        expected = module(ids, mask).float().numpy()
    forward.check({"input_ids": ids.numpy(), "attention_mask": mask.numpy()}, expected)
    return forward
