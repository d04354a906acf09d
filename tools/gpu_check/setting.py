"""Options of a run, and the sizes that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tools.gpu_check.figures import Figures

SizeT = TypeVar("SizeT")


@dataclass(frozen=True)
class Setting:
    """Device, size and output of the measurements."""

    device: str
    """`cuda`, or `cpu` for a dry run."""
    small: bool
    """Sizes that take a CPU a moment."""
    scratch: Path
    """A folder shared by the steps of one run."""
    figures: Figures

    def size(self, full: SizeT, small: SizeT) -> SizeT:
        """`full` on a GPU, `small` in a dry run."""
        return small if self.small else full

    def note(self, name: str, value: float, unit: str = "", note: str = "", kept: bool | None = None) -> None:
        """Write a figure."""
        self.figures.note(name, value, unit, note, kept)

    @property
    def precisions(self) -> tuple[Any, ...]:
        """The encoder's number formats on this device."""
        return ("fp32", "fp16", "bf16") if self.device == "cuda" else ("fp32",)
