"""The options of `glassbox fit-gold`."""

import argparse

import torch

from reward_client.cli.options import bounded_number, file_path, positive_float, positive_int
from reward_trainer.gold.fit import FitSettings
from reward_trainer.gold.text import PairLengths

EXCLUDED = ("ultrafeedback", "*gpt4*")
"""Sources excluded by default, because another model judged them: `demo-gold` is fitted on human judgements."""

EPILOG = """\
A preference file has one JSON object per line, and may be gzipped:
  {"prompt": "...", "chosen": "...", "rejected": "...", "source": "my_survey"}

Examples (the first took 26 minutes with 7 000 pairs on two shared cores):
  glassbox fit-gold --preferences train.jsonl.gz --test test.jsonl.gz --out my_gold
  glassbox fit-gold --base ./Qwen3-0.6B --preferences train.jsonl.gz --test test.jsonl.gz --out my_gold --work work
  glassbox serve --gold my_gold
"""


def fit_settings(options: argparse.Namespace) -> FitSettings:
    """Return the settings of the fit."""
    return FitSettings(
        n_trained_layers=options.layers,
        rank=options.rank,
        epochs=options.epochs,
        batch_pairs=options.batch_pairs,
        learning_rate=options.learning_rate,
        seed=options.seed,
        precision=getattr(torch, options.precision),
    )


def pair_lengths(options: argparse.Namespace) -> PairLengths:
    """Return how texts are truncated."""
    return PairLengths(*options.lengths)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description = (
        "Fit a gold model on preference pairs, and write a folder that the service can load. The base is a BERT, "
        "whose upper layers are trained, or a decoder with a chat template, whose upper layers get LoRA matrices."
    )
    parser.epilog = EPILOG
    add = parser.add_argument
    add(
        "--preferences",
        type=file_path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="preference pairs to fit on",
    )
    add("--out", type=file_path, required=True, metavar="DIR", help="folder to write; existing files are replaced")
    measured = parser.add_mutually_exclusive_group()
    measured.add_argument("--test", type=file_path, metavar="FILE",
        help="preference pairs with other prompts, for the accuracy in the model card")  # fmt: skip
    measured.add_argument("--hold-out", type=bounded_number(0.01, 0.5), metavar="SHARE",
        help="measure on this share of the prompts of --preferences instead, and do not fit on them: to choose "
        "settings without reading the test pairs")  # fmt: skip
    add("--exclude-source", nargs="*", default=list(EXCLUDED), metavar="PATTERN",
        help=f"sources to exclude (default: {' '.join(EXCLUDED)}); without a pattern, none")  # fmt: skip
    add("--keep-lengths", action="store_true",
        help="do not balance lengths; the model may then prefer longer responses")  # fmt: skip
    add("--rows", type=positive_int, metavar="N", help="use N random pairs at most (default: all)")
    _add_degraded(parser)
    _add_model(parser)
    _add_fit(parser)


def _add_degraded(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--degraded", type=positive_int, default=0, metavar="N",
        help="add N pairs of a chosen response and a degraded form of it (default: 0)")  # fmt: skip
    add("--similar-prompts", type=positive_int, default=0, metavar="N",
        help="add N pairs of a chosen response and one to a similar prompt (default: 0)")  # fmt: skip
    add("--degrade-source", nargs="+", default=["*"], metavar="PATTERN",
        help="sources of both: not those whose prompts deserve a refusal (default: all)")  # fmt: skip
    add("--closed-ended", metavar="SOURCE",
        help="prompt file, or `embedded`: add a wrong answer to each closed-ended prompt")  # fmt: skip


def _add_model(parser: argparse.ArgumentParser) -> None:
    add, fitting, lengths = parser.add_argument, FitSettings(), PairLengths()
    add("--base", default="minilm", metavar="minilm|smollm2-135m-instruct|FOLDER|HUB_ID",
        help="BERT or decoder to start from (default: minilm)")  # fmt: skip
    add("--keep-layers", type=positive_int, metavar="N",
        help="use the lowest N layers of the base only: a smaller, faster model (default: all)")  # fmt: skip
    add("--layers", type=positive_int, default=fitting.n_trained_layers, metavar="N",
        help="layers to train, from the top (default: %(default)s)")  # fmt: skip
    add("--rank", type=positive_int, default=fitting.rank, metavar="N",
        help="of the LoRA matrices in the trained layers of a decoder (default: %(default)s)")  # fmt: skip
    kept = (lengths.prompt_head, lengths.prompt_tail, lengths.response_head, lengths.response_tail)
    add("--lengths", type=positive_int, nargs=4, default=kept, metavar="N",
        help="tokens to read: first and last of a prompt, first and last of a response (default: "
        f"{' '.join(map(str, kept))})")  # fmt: skip


def _add_fit(parser: argparse.ArgumentParser) -> None:
    add, fitting = parser.add_argument, FitSettings()
    add("--work", type=file_path, metavar="DIR",
        help="folder for the states of the frozen layers, which are computed once, and for checkpoints: the same "
        "command continues there after an interruption (default: none)")  # fmt: skip
    add("--epochs", type=positive_int, default=fitting.epochs, help="passes over the pairs (default: %(default)s)")
    add(
        "--batch-pairs",
        type=positive_int,
        default=fitting.batch_pairs,
        help="pairs per step (default: %(default)s)",
    )
    add("--learning-rate", type=positive_float, default=fitting.learning_rate, help="peak (default: %(default)s)")
    add("--precision", choices=("float32", "bfloat16"), default="float32",
        help="while fitting; bfloat16 is faster on processors that have it (default: float32)")  # fmt: skip
    add("--seed", type=int, default=fitting.seed,
        help="of the sampling, the order and the initial head (default: %(default)s)")  # fmt: skip
