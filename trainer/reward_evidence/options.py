"""Command-line options of an evaluation, and the source that they select."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from reward_client.cli.options import KeyValue, positive_float, positive_int
from reward_evidence.errors import EvaluationError
from reward_evidence.evaluation.source import (
    DEFAULT_MAX_NEW_TOKENS,
    DEFAULT_SEED,
    EvaluationSource,
    from_checkpoints,
    from_responses,
    from_run,
)
from reward_evidence.sampling.samples import SamplingSettings
from reward_runs.prompts import EMBEDDED_PROMPTS, Columns, load_prompts

_SAMPLING = ("samples", "temperature", "max_new_tokens", "seed", "batch_size", "kl", "device")
_PROMPTS = ("prompts", "prompt_column", "reference_column", "query_type_column")
_NOT_APPLICABLE = {
    "run": ("out", "recipe", "recipe_overrides", "system_prompt", *_PROMPTS),
    "checkpoints": (),
    "responses": (*_SAMPLING, *_PROMPTS),
}
"""Options that a source excludes: a run directory records them, recorded responses need no sampling."""
_STEPS = re.compile(r"\d+(,\d+)*")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options."""
    _add_source(parser.add_argument_group("source (one of them)").add_mutually_exclusive_group(required=True))
    _add_prompts(parser.add_argument_group("with --checkpoints and --responses"))
    _add_scoring(parser.add_argument_group("scoring"))
    _add_sampling(parser.add_argument_group("sampling (not with --responses)"))


def _add_source(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument("--run-dir", type=Path, metavar="DIR", help="folder of a training run")
    group.add_argument(
        "--checkpoints",
        type=_folder,
        metavar="DIR",
        help="folder with one Hugging Face folder per checkpoint: step-10, checkpoint-10, global_step_10, …",
    )
    group.add_argument(
        "--responses",
        type=Path,
        metavar="FILE",
        help="JSON Lines with step, prompt, response; optional: reference, query_type, prompt_id, sample",
    )


def _add_prompts(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--out", type=Path, metavar="DIR", help="folder for the results (required)")
    add("--recipe", metavar="NAME", help="reward recipe (default: the service's default)")
    add(
        "--recipe-override",
        dest="recipe_overrides",
        action=KeyValue,
        nargs="+",
        metavar="K=V",
        help="parameters of the recipe",
    )
    add("--system-prompt", metavar="TEXT", help="system message before each prompt (default: the chat template's)")
    add(
        "--prompts",
        metavar="SOURCE",
        help="with --checkpoints: embedded held-out prompts (default), FILE.jsonl, FILE.json, or a dataset",
    )
    add("--prompt-column", metavar="NAME", help="field with the prompt (default: prompt)")
    add("--reference-column", metavar="NAME", help="field with the reference (default: reference)")
    add("--query-type-column", metavar="NAME", help="field with the query type (default: query_type)")


def _add_scoring(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--steps", type=_steps, metavar="STEPS", help="steps to evaluate, as 0,4,12 (default: all)")
    add(
        "--reward-url",
        metavar="URL",
        help="address of the reward service (default: the run's); set its key in GLASSBOX_API_KEY",
    )
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


def open_source(options: argparse.Namespace) -> EvaluationSource:
    """Read the source that the options select; raise RunError when it is invalid or an option does not apply."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    kind = next(name for name in ("run_dir", "checkpoints", "responses") if name in given)
    _check_applicable("run" if kind == "run_dir" else kind, given)
    if kind == "run_dir":
        return from_run(options.run_dir)
    if "out" not in given:
        raise EvaluationError(f"--{kind} needs --out: name a folder for the results")
    scoring = {name: given[name] for name in ("recipe", "recipe_overrides", "system_prompt") if name in given}
    if kind == "responses":
        return from_responses(options.responses, options.out, **scoring)
    columns = {name: given[f"{name}_column"] for name in vars(Columns()) if f"{name}_column" in given}
    prompts = load_prompts(options.prompts or EMBEDDED_PROMPTS, Columns(**columns), embedded="heldout")
    return from_checkpoints(options.checkpoints, prompts, options.out, **scoring)


def _check_applicable(kind: str, given: dict[str, Any]) -> None:
    for name in _NOT_APPLICABLE[kind]:
        if name in given:
            option = "--recipe-override" if name == "recipe_overrides" else f"--{name.replace('_', '-')}"
            source = "--run-dir: the run's are used" if kind == "run" else "--responses: nothing is sampled"
            raise EvaluationError(f"{option} cannot be combined with {source}")


def sampling_settings(options: argparse.Namespace, source: EvaluationSource) -> SamplingSettings | None:
    """Return how responses are sampled; None for recorded responses."""
    if source.kind == "responses":
        return None
    wanted = source.kind == "run" or source.initial is not None if options.kl is None else options.kl
    if wanted and source.initial is None:
        raise EvaluationError("there is no checkpoint of step 0 to measure the divergence from: use --no-kl")
    return SamplingSettings(
        samples=options.samples or 1,
        temperature=options.temperature or 0.7,
        max_new_tokens=options.max_new_tokens or source.max_new_tokens,
        seed=source.seed if options.seed is None else options.seed,
        batch_size=options.batch_size or 128,
        system_prompt=source.system_prompt,
        apply_chat_template=source.apply_chat_template,
        kl=wanted,
    )
