"""The options of `glassbox evaluate`."""

import argparse
import re
from pathlib import Path

from reward_client.cli.options import (
    add_recipe_overrides,
    add_wait,
    file_path,
    given_text,
    positive_float,
    positive_int,
)
from reward_evidence.evaluation.source import DEFAULT_MAX_NEW_TOKENS, DEFAULT_SEED
from reward_runs.prompts import add_columns

_DESCRIPTION = """\
Evaluate a training run. Every checkpoint responds to the same prompts, the reward service scores the responses
with the recipe and, if it has one, with its gold model, and a report states whether gold rose with the proxy.

The checkpoints are those of a run directory or of any folder of Hugging Face checkpoints. Alternatively,
--responses reads recorded responses from a file, and no policy is loaded.

Written into the run directory or --out: evaluation/STEP.jsonl (every response with its features), evaluation.json
(the figures), report.html, plots/*.png, alpaca_eval.json. Checkpoints that are already evaluated with the same
settings are not evaluated again, so an evaluation that was stopped can be continued with the same command."""

_EPILOG = """\
examples:
  glassbox evaluate --run-dir runs/demo
  glassbox evaluate --run-dir runs/demo --steps 0,12 --samples 4
  glassbox evaluate --checkpoints outputs/ --prompts heldout.jsonl --reward-url http://127.0.0.1:8000 --out results
  glassbox evaluate --responses responses.jsonl --reward-url http://127.0.0.1:8000 --recipe rer --out results
  glassbox report --out results                              write the report again, without model and service

docs/guide/evaluating-checkpoints.md explains each figure and what can be concluded from it."""

_STEPS = re.compile(r"\d+(,\d+)*")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    _add_source(parser.add_argument_group("source (one of them)").add_mutually_exclusive_group(required=True))
    _add_prompts(parser.add_argument_group("with --checkpoints and --responses"))
    _add_scoring(parser.add_argument_group("scoring"))
    _add_sampling(parser.add_argument_group("sampling (not with --responses)"))


def _add_source(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument("--run-dir", type=file_path, metavar="DIR", help="folder of a training run")
    group.add_argument(
        "--checkpoints",
        type=_folder,
        metavar="DIR",
        help="folder with one Hugging Face folder per checkpoint: step-10, checkpoint-10, global_step_10, …",
    )
    group.add_argument(
        "--responses",
        type=file_path,
        metavar="FILE",
        help="JSON Lines with step, prompt, response; optional: reference, query_type, prompt_id, sample",
    )


def _add_prompts(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--out", type=file_path, metavar="DIR", help="folder for the results (required)")
    add("--recipe", type=given_text, metavar="NAME", help="reward recipe (default: the service's default)")
    add_recipe_overrides(group)
    add(
        "--prompts",
        metavar="SOURCE",
        help="with --checkpoints: embedded held-out prompts (default), a data file, or a dataset of the hub",
    )
    add_columns(group)


def _add_scoring(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--steps", type=_steps, metavar="STEPS", help="steps to evaluate, as 0,4,12 (default: all)")
    add(
        "--reward-url",
        metavar="URL",
        help="address of the reward service (default: the run's); set its key in GLASSBOX_API_KEY",
    )
    add_wait(group)
    add(
        "--gold",
        action=argparse.BooleanOptionalAction,
        help="also score with the gold model (default: if the service has one)",
    )


def _add_sampling(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--samples", type=positive_int, metavar="N", help="responses per prompt (default: 1)")
    add("--temperature", type=positive_float, metavar="T", help="default: 0.7, as in the paper")
    add(
        "--max-new-tokens",
        type=positive_int,
        metavar="N",
        help=f"token limit (default: the run's; with --checkpoints {DEFAULT_MAX_NEW_TOKENS})",
    )
    add(
        "--seed",
        type=int,
        metavar="N",
        help=f"the same for every checkpoint (default: the run's; with --checkpoints {DEFAULT_SEED})",
    )
    add("--batch-size", type=positive_int, metavar="N", help="maximum prompts per batch (default: 128)")
    add(
        "--kl",
        action=argparse.BooleanOptionalAction,
        help="measure the KL divergence from step 0, with two more forward passes per response (default: yes; "
        "with --checkpoints if there is a step 0)",
    )
    add("--device", metavar="NAME", help="torch device (default: cuda if available, else cpu)")


def _steps(text: str) -> list[int]:
    if not _STEPS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of steps such as 0,4,12")
    return [int(part) for part in text.split(",")]


def _folder(text: str) -> Path:
    if _STEPS.fullmatch(text) and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder; select steps with --steps {text}")
    return Path(text)
