"""A graph that OpenVINO has compiled for this CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from reward_service.models.padding import pad_right
from reward_service.models.protocols import Tokens

Inputs = Mapping[str, NDArray[np.int64]]
"""Inputs of a model by name, each (B, T)."""
Values = NDArray[np.float32]
"""What a model computes of rows (B, T): vectors (B, D) or scores (B,)."""

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
"""Number formats that OpenVINO has on a CPU, with its own names."""
_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}
"""Largest difference from the expected values, relative to the largest of these."""


class OpenVinoForward:
    """One forward pass over a batch. Call it from one thread at a time."""

    def __init__(self, graph: Any, precision: str, threads: int | None) -> None:
        """Compile `graph`, an `openvino.Model` with one output. Its inputs are token ids, attention mask and,
        if it has a third one, token types.

        Raises:
            ValueError: OpenVINO on a CPU does not have this number format.
            Exception: those of OpenVINO.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"OpenVINO on a CPU has no {precision}")
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # pinned, all services of a machine would share the same cores
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self.name = f"openvino {precision}"
        self._precision = precision
        self._reads_types = len(graph.inputs) == 3
        self._request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()

    def __call__(self, batch: Sequence[Tokens], pad_id: int) -> Values:
        """Values of the rows."""
        return self.values(pad_right(batch, pad_id))

    def values(self, inputs: Inputs) -> Values:
        """Values of rows (B, T). Token types that `inputs` lacks are 0."""
        given = [inputs["input_ids"], inputs["attention_mask"]]
        if self._reads_types:
            given.append(inputs.get("token_type_ids", np.zeros_like(given[0])))
        found: Values = self._request.infer(given)[0]
        return found.astype(np.float32, copy=True)

    def check(self, inputs: Inputs, expected: Values) -> None:
        """Raise ValueError when the values of `inputs` are not those that another library computed."""
        difference = float(np.abs(self.values(inputs) - expected).max())
        if not difference <= _TOLERANCE[self._precision] * float(np.abs(expected).max()):
            raise ValueError(f"its values differ from the expected ones by {difference:.2g}")
