"""`glassbox fit-gold`, also `python -m reward_trainer.fit_gold`: fit a small gold model on preference pairs.

read pairs ──▶ balance lengths ──▶ fit ──▶ write delta.safetensors and config.json
                                    └────▶ measure on the test file ──▶ MODEL_CARD.md
"""

import argparse
import random
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch

from reward_client.cli.command import run_program
from reward_runs.errors import RunError
from reward_runs.files import replace_text
from reward_trainer.gold.fit import FitSettings, fit, score_rows
from reward_trainer.gold.folder import Snapshot, model_card, write_model
from reward_trainer.gold.model import GoldNet, load_base
from reward_trainer.gold.preferences import Pair, balance_lengths, read_pairs
from reward_trainer.gold.quality import Row, quality
from reward_trainer.gold.text import PairLengths, encode_pairs

EXCLUDED = ("ultrafeedback", "*gpt4*")
"""Sources excluded by default, because another model judged them: `demo-gold` is fitted on human judgements."""

EPILOG = """\
A preference file has one JSON object per line, and may be gzipped:
  {"prompt": "...", "chosen": "...", "rejected": "...", "source": "my_survey"}

Example (7 000 pairs took 26 minutes on two shared cores):
  glassbox fit-gold --preferences train.jsonl.gz --test test.jsonl.gz --out my_gold
  glassbox serve --gold my_gold
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` and run the command; return the exit status."""
    return run_program("python -m reward_trainer.fit_gold", configure, run, argv)


def run(options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Fit and write the model; return 0 when it is written, 2 when the input cannot be used."""
    try:
        fit_gold(options, shlex.join(["glassbox", "fit-gold", *argv]))
    except RunError as exc:
        sys.stderr.write(f"fit-gold: {exc}\n")
        return 2
    return 0


def fit_gold(options: argparse.Namespace, command: str) -> None:
    """Fit the model, measure it and write it; raise RunError for invalid input."""
    read = read_pairs(options.preferences, options.exclude_source)
    used = list(read) if options.keep_lengths else balance_lengths(read, random.Random(options.seed))
    if options.rows:
        used = random.Random(options.seed).sample(used, min(options.rows, len(used)))
    test = read_pairs([options.test], options.exclude_source) if options.test else []
    torch.manual_seed(options.seed)  # the head is initialised randomly
    base = load_base(options.base)
    settings, lengths = _settings(options), PairLengths()
    net = GoldNet(base.model.to("cuda" if torch.cuda.is_available() else "cpu"), options.layers)
    snapshot = Snapshot(base, net)
    _log(f"{len(read)} pairs read, {len(used)} used; fitting on {net.model.device}")
    started = time.monotonic()
    fit(net, encode_pairs(base.tokenizer, used, lengths), settings, _log)
    minutes = (time.monotonic() - started) / 60
    delta = snapshot.round_to_delta()
    rows = _measure(net, base.tokenizer, lengths, test, {pair.source for pair in used})
    fitted = {
        "command": command,
        "seed": settings.seed,
        "pairs_by_source": dict(sorted(Counter(pair.source for pair in used).items())),
        "accuracy": {row.name: asdict(row.model) for row in rows},
    }
    write_model(options.out, base, delta, lengths, fitted)
    card = model_card(
        used,
        read,
        test,
        base=base,
        settings=settings,
        lengths=lengths,
        excluded=options.exclude_source,
        rows=rows,
        command=command,
        made_on=datetime.now(UTC).date(),
        minutes=minutes,
        n_trained=sum(tensor.numel() for tensor in delta.values()),
    )
    replace_text(options.out / "MODEL_CARD.md", card)
    _log(f"written: {options.out}; serve it with: glassbox serve --gold {options.out}")


def _measure(
    net: GoldNet, tokenizer: object, lengths: PairLengths, test: Sequence[Pair], fitted_on: set[str]
) -> list[Row]:
    """Return the accuracy of the model as it is stored."""
    if not test:
        return []
    responses = [row for pair in encode_pairs(tokenizer, test, lengths) for row in pair]
    scores = score_rows(net, responses, _log)
    margins = [chosen - rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)]
    return quality(test, margins, fitted_on)


def _settings(options: argparse.Namespace) -> FitSettings:
    return FitSettings(
        n_trained_layers=options.layers,
        epochs=options.epochs,
        batch_pairs=options.batch_pairs,
        learning_rate=options.learning_rate,
        seed=options.seed,
        precision=getattr(torch, options.precision),
    )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description = "Fit a small gold model on preference pairs and write a folder that the service can load."
    parser.epilog = EPILOG
    add = parser.add_argument
    fitting = FitSettings()
    add("--preferences", type=Path, nargs="+", required=True, metavar="FILE", help="preference pairs to fit on")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write; existing files are replaced")
    add(
        "--test",
        type=Path,
        metavar="FILE",
        help="preference pairs with other prompts, for the accuracy in the model card",
    )
    add("--base", default="minilm", metavar="minilm|FOLDER", help="BERT encoder to start from (default: minilm)")
    add("--exclude-source", nargs="*", default=list(EXCLUDED), metavar="PATTERN",
        help=f"sources to exclude (default: {' '.join(EXCLUDED)}); without a pattern, none")  # fmt: skip
    add(
        "--keep-lengths",
        action="store_true",
        help="do not balance lengths; the model may then prefer longer responses",
    )
    add("--rows", type=int, metavar="N", help="use N random pairs at most (default: all)")
    add("--layers", type=int, default=fitting.n_trained_layers, metavar="N",
        help="layers to train, from the top (default: %(default)s)")  # fmt: skip
    add("--epochs", type=int, default=fitting.epochs, help="passes over the pairs (default: %(default)s)")
    add("--batch-pairs", type=int, default=fitting.batch_pairs, help="pairs per step (default: %(default)s)")
    add("--learning-rate", type=float, default=fitting.learning_rate, help="peak (default: %(default)s)")
    add("--precision", choices=("float32", "bfloat16"), default="float32",
        help="while fitting; bfloat16 is faster on processors that have it (default: float32)")  # fmt: skip
    add(
        "--seed",
        type=int,
        default=fitting.seed,
        help="of the sampling, the order and the initial head (default: %(default)s)",
    )


def _log(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
