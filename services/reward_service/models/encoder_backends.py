"""The encoder's forward pass, by back end. In fp32 their results agree to 1e-5.

    tokens of B texts ──▶ vectors (B, D)

OpenVINO runs the traced torch module on a CPU, with its layers fused; measured ratios are in docs/performance.md.
OpenVINO's converter sends telemetry, so this module calls its frontend directly, which does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from reward_service.models.cuda import CudaRunner, Inputs
from reward_service.models.padding import pad_right
from reward_service.models.protocols import Embeddings, Tokens

Ids = NDArray[np.int64]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_OPENVINO_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class Forward(Protocol):
    """One forward pass over a batch."""

    name: str
    """Library and number format."""

    def __call__(self, batch: Sequence[Tokens], pad_id: int) -> Embeddings:
        """Vectors (B, D) of the rows."""
        ...


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


class _OpenVinoForward:
    def __init__(self, compiled: Any, precision: str) -> None:
        self.name = f"openvino {precision}"
        self._request = compiled.create_infer_request()

    def __call__(self, batch: Sequence[Tokens], pad_id: int) -> Embeddings:
        inputs = pad_right(batch, pad_id)
        return self.vectors(inputs["input_ids"], inputs["attention_mask"])

    def vectors(self, ids: Ids, mask: Ids) -> Embeddings:
        """The forward pass: vectors (B, D) of rows (B, T)."""
        rows: Embeddings = self._request.infer([ids, mask])[0].astype(np.float32, copy=True)
        return rows


def openvino_forward(model: Any, precision: str, threads: int | None) -> Forward:
    """Trace `model` and compile it for this CPU, which takes about 3 s. Raises errors of OpenVINO and torch."""
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    if precision not in _OPENVINO_PRECISIONS:
        raise ValueError(f"OpenVINO on a CPU has no {precision}")
    ids = torch.randint(5, 100, (3, 17))
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    frontend = FrontEndManager().load_by_framework("pytorch")
    module = _Pooled(model).eval()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about every branch; `_check` compares the results
        decoder = TorchScriptPythonDecoder(module, example_input=(ids, mask))
    graph = frontend.convert(frontend.load(decoder))
    for tensor, name in zip(graph.inputs, ("input_ids", "attention_mask"), strict=True):
        tensor.get_tensor().set_names({name})
        tensor.node.set_partial_shape(openvino.PartialShape([-1, -1]))
        tensor.node.set_element_type(openvino.Type.i64)
    graph.validate_nodes_and_infer_types()
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISIONS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # pinned, all services of a machine would share the same cores
    }
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(graph, "CPU", options)
    forward = _OpenVinoForward(compiled, precision)
    _check(forward, module, precision)
    return forward


def _check(forward: _OpenVinoForward, module: torch.nn.Module, precision: str) -> None:
    """Compare the compiled model with torch on another shape: tracing may freeze values of the example input."""
    ids = torch.randint(5, 100, (2, 40))
    mask = torch.ones_like(ids)
    mask[0, 31:] = 0
    with torch.inference_mode():
        expected = module(ids, mask).float().numpy()
    tolerance = (1e-4 if precision == "fp32" else 5e-2) * float(np.abs(expected).max())
    difference = float(np.abs(forward.vectors(ids.numpy(), mask.numpy()) - expected).max())
    if not difference <= tolerance:
        raise ValueError(f"its vectors differ from torch's by {difference:.2g}")
