"""Writes a fitted model as a folder that the service can load: the difference from its base.

delta.safetensors   in float16 fitted − base for parameters of the base, and LoRA; the complete head in float32
config.json         format, base, base_revision, changed, whole, text_pair, notices, fitted; of a decoder also
                    kept_layers, lora, frame
MODEL_CARD.md       sources, attribution, measured accuracy
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined
from safetensors.torch import save

from reward_client.writing import writing
from reward_runs.files import replace_text
from reward_trainer.gold.battery import mean_accuracy
from reward_trainer.gold.degrade import SOURCE
from reward_trainer.gold.model import Base, GoldNet, trained_parameters
from reward_trainer.gold.nets import LORA_A, LORA_B
from reward_trainer.gold.preferences import Pair
from reward_trainer.gold.quality import Estimate
from reward_trainer.gold.text import PairLengths

NOTICES = (
    "demo model, not a judge of quality",
    "put a real reward model in its place with --gold Skywork/Skywork-Reward-V2-Qwen3-0.6B, any other "
    "Hugging Face sequence-classification reward model, or a folder",
)
"""Part of every reply and report with this model's scores."""


class Snapshot:
    """The trained parameters before training; the delta is the difference from them."""

    def __init__(self, base: Base, net: GoldNet) -> None:
        self._net = net
        self._before = {
            name: parameter.detach().clone()
            for name, parameter in trained_parameters(net).items()
            if name not in base.new_parameters and not _is_lora(name)
        }

    @torch.no_grad()
    def round_to_delta(self) -> dict[str, torch.Tensor]:
        """Return the delta as it is stored, and set the model's parameters to what a reader will reconstruct."""
        delta = {}
        for name, parameter in trained_parameters(self._net).items():
            if name in self._before:
                delta[name] = (parameter - self._before[name]).to(torch.float16)
                parameter.copy_(self._before[name] + delta[name].float())
            elif _is_lora(name):
                delta[name] = parameter.to(torch.float16)
                parameter.copy_(delta[name])
            else:
                delta[name] = parameter.detach().clone()
        return {name: tensor.cpu().contiguous() for name, tensor in delta.items()}


def _is_lora(name: str) -> bool:
    return name.endswith((LORA_A, LORA_B))


def write_model(
    out: Path, base: Base, delta: dict[str, torch.Tensor], lengths: PairLengths, fitted: dict[str, Any]
) -> None:
    """Write delta.safetensors and config.json into `out`, replacing each atomically.

    Args:
        out: folder to write.
        base: the model that the delta applies to.
        delta: difference by parameter.
        lengths: how texts are truncated.
        fitted: information about the fit (rows per source, settings), which the service ignores.
    """
    config = {
        "format": f"glassbox-gold-delta/{1 if base.is_bert else 2}",
        "base": base.name,
        "base_revision": base.revision,
        "changed": sorted(name for name in delta if name not in base.new_parameters and not _is_lora(name)),
        "whole": sorted(name for name in delta if name in base.new_parameters),
        "text_pair": asdict(lengths),
        **({} if base.is_bert else _decoder_fields(base, delta)),
        "notices": NOTICES,
        "fitted": fitted,
    }
    temporary = out / "delta.safetensors.tmp"
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(save(delta))  # `save_file` would make it readable by its owner only
        temporary.replace(out / "delta.safetensors")
    replace_text(out / "config.json", json.dumps(config, indent=2) + "\n")


def _decoder_fields(base: Base, delta: dict[str, torch.Tensor]) -> dict[str, Any]:
    lora = sorted(name.removesuffix(LORA_A) for name in delta if name.endswith(LORA_A))
    return {"kept_layers": base.kept_layers, "lora": lora, "frame": asdict(base.frame)}


def model_card(used: Sequence[Pair], read: Sequence[Pair], test: Sequence[Pair], **facts: Any) -> str:
    """Return the card as Markdown: sources, attribution, measured accuracy.

    Args:
        used: the pairs that the model was fitted on.
        read: the training pairs, besides those of excluded sources.
        test: the pairs that its accuracy was measured on, if any.
        facts: the other variables of `card.md.j2`.
    """
    known = _known_sources()
    n_used, n_read = Counter(pair.source for pair in used), Counter(pair.source for pair in read)
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - Markdown
    environment.filters["estimate"] = _estimate
    environment.tests["unproven"] = lambda row: row.difference.interval is None or row.difference.interval[0] <= 0
    environment.filters["mean_accuracy"] = lambda rows: (
        "-" if (mean := mean_accuracy(rows)) is None else f"{mean:.3f}"
    )
    template = environment.from_string((files(__package__) / "card.md.j2").read_text(encoding="utf-8"))
    unknown = {"judged_by": "not recorded", "origin": "given on the command line", "licence": "not recorded"}
    return template.render(
        facts,
        notices=NOTICES,
        balanced=sum(n_used[source] for source in n_read) < len(read),
        degraded=sorted((s.removeprefix(SOURCE), n) for s, n in n_used.items() if s.startswith(SOURCE)),
        sources=[(s, n_used[s], n_read[s], known.get(s, unknown)) for s in sorted(n_read)],
        test_only=[(s, known.get(s, unknown)) for s in sorted({pair.source for pair in test} - n_read.keys())],
    )


def judged_by_models() -> set[str]:
    """Return the recorded sources whose preferences a model stated."""
    return {name for name, source in _known_sources().items() if source.get("judged_by_model")}


def _known_sources() -> dict[str, Any]:
    known: dict[str, Any] = json.loads((files(__package__) / "sources.json").read_text(encoding="utf-8"))
    return known


def _estimate(value: Estimate) -> str:
    """`.612 [.590, .633]`."""
    if value.interval is None:
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} [{value.interval[0]:.3f}, {value.interval[1]:.3f}]"
