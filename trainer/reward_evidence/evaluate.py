"""The command that judges a run: `python -m reward_evidence.evaluate --run-dir runs/NAME`.

It reads the command line, opens the run, asks the service what it has, and hands over to `evidence.session`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from reward_client import RewardClient, RewardError
from reward_client.cli.command import new_parser
from reward_client.urls import key_from_environment
from reward_evidence.evaluation.evaluation import Evaluation
from reward_evidence.evaluation.evaluation_run import EvaluationRun, find_recipe, wants_gold
from reward_evidence.evaluation.store import EvaluationError
from reward_evidence.report.write import write_report
from reward_evidence.sampling.samples import Sampler, SamplingSettings
from reward_runs.errors import TrainerError
from reward_runs.run_reader import Checkpoint, RunReader

__all__ = ["evaluate", "main"]

_DESCRIPTION = """\
Judge the checkpoints of a training run: each answers the run's held-out prompts, the reward service scores the
answers with the run's recipe and, when it has one, its gold model, and a report says whether gold rose with proxy.

Writes into the run directory: evaluation/STEP.jsonl (every response with its features), evaluation.json (the
figures), report.html, plots/*.png, alpaca_eval.json. A checkpoint that is finished under the same settings is not
evaluated again, so an evaluation that was stopped goes on where it stopped."""

_EPILOG = """\
examples:
  python -m reward_evidence.evaluate --run-dir runs/demo
  python -m reward_evidence.evaluate --run-dir runs/demo --checkpoints 0,12 --samples 4
  python -m reward_evidence.evaluate --run-dir runs/demo --reward-url http://127.0.0.1:8000 --no-gold
  python -m reward_evidence.report --run-dir runs/demo          sample the report again, without model and service

docs/evidence.md says what each figure means and what can be concluded from it."""


def evaluate(options: argparse.Namespace, say: Callable[[str], None]) -> Evaluation:
    """Evaluate a run as the command line says; raise `TrainerError` or `RewardError` when that is not possible."""
    folder = RunReader.open(options.run_dir)
    checkpoints = folder.select(options.checkpoints)
    for step in folder.incomplete:
        say(f"step {step} is left out: its checkpoint was not written to the end")
    url = options.reward_url or folder.config.reward_url
    if url is None:
        raise EvaluationError("config.json names no reward_url: give one with --reward-url")
    with RewardClient(url, api_key=key_from_environment()) as client:
        client.ready()
        info = client.info()
        session = EvaluationRun(
            folder=folder,
            checkpoints=checkpoints,
            start=_start(folder, wanted=options.kl),
            draw_settings=_draw_settings(options, folder),
            info=info,
            recipe=find_recipe(folder.config.recipe, info),
            gold=wants_gold(options.gold, info),
            say=say,
        )
        return session.run(lambda: _responder(session, options.device), client)


def _start(folder: RunReader, *, wanted: bool) -> Checkpoint | None:
    first = folder.checkpoints[0]
    if wanted and first.step != 0:
        raise EvaluationError("there is no checkpoint of step 0 to measure the divergence from: give --no-kl")
    return first if wanted else None


def _draw_settings(options: argparse.Namespace, folder: RunReader) -> SamplingSettings:
    config = folder.config
    return SamplingSettings(
        samples=options.samples,
        temperature=options.temperature,
        max_new_tokens=options.max_new_tokens or config.max_new_tokens,
        seed=config.seed if options.seed is None else options.seed,
        batch_size=options.batch_size,
        system_prompt=config.system_prompt,
        apply_chat_template=config.apply_chat_template,
        kl=options.kl,
    )


def _responder(session: EvaluationRun, device: str | None) -> Sampler:
    # OpenMP reads it when torch is loaded. Threads that spin while they wait for each other come to a standstill
    # when something else wants the CPU (one trial on two busy cores: 15 s against more than 130 s).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from reward_evidence.sampling.policy_sampler import PolicySampler

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    session.say(f"models on {chosen}")
    return PolicySampler(session.draw_settings, session.start, chosen)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("--run-dir", type=Path, required=True, metavar="DIR", help="folder of the training run")
    add("--checkpoints", type=_steps, metavar="STEPS", help="steps to evaluate, as 0,4,12 (default: all)")
    add("--samples", type=_positive_int, default=1, metavar="N", help="responses to each prompt (default: 1)")
    add(
        "--temperature",
        type=_positive_float,
        default=0.7,
        metavar="T",
        help="of sampling (default: 0.7, as the paper)",
    )
    add("--max-new-tokens", type=_positive_int, metavar="N", help="token limit (default: the run's)")
    add("--seed", type=int, metavar="N", help="of sampling, alike for every checkpoint (default: the run's)")
    add(
        "--batch-size",
        type=_positive_int,
        default=128,
        metavar="N",
        help="prompts answered at once, at most (default: 128)",
    )
    add(
        "--reward-url",
        metavar="URL",
        help="where the reward service listens (default: the run's); its key in GLASSBOX_API_KEY",
    )
    add(
        "--gold",
        action=argparse.BooleanOptionalAction,
        help="score with the gold model too (default: when the service has one)",
    )
    add(
        "--kl",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure the KL divergence from step 0, two more forward passes a response (default: yes)",
    )
    add("--device", metavar="NAME", help="torch device (default: cuda when there is one, else cpu)")


def _steps(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of steps such as 0,4,12") from exc


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0: sampling needs a temperature")
    return value


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` and run the command; return the exit status."""
    parser = new_parser("python -m reward_evidence.evaluate")
    configure(parser)
    return run(parser.parse_args(argv))


def run(options: argparse.Namespace) -> int:
    """Evaluate and write the report; return the exit status: 0 done, 1 failed, 130 stopped."""
    try:
        evaluation = evaluate(options, _say)
        report = write_report(options.run_dir)
    except (TrainerError, RewardError) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on with the checkpoint that was being evaluated\n")
        return 130
    _say(f"\n{evaluation.verdict.headline}. {evaluation.verdict.sentence}")
    for line in [*evaluation.verdict.findings, *evaluation.notices]:
        _say(f"- {line}")
    _say(f"report: {report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
