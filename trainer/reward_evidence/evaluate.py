"""`glassbox evaluate`, also `python -m reward_evidence.evaluate`: evaluate checkpoints or recorded responses.

options ──▶ EvaluationSource ──▶ EvaluationRun (policy, reward service) ──▶ evaluation.json ──▶ report
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from reward_client import RewardClient, RewardError
from reward_client.cli.command import run_program
from reward_client.urls import key_from_environment
from reward_evidence.errors import EvaluationError
from reward_evidence.evaluation.evaluation import Evaluation
from reward_evidence.evaluation.evaluation_run import EvaluationRun, find_recipe, use_gold
from reward_evidence.evaluation.source import EvaluationSource, select_steps
from reward_evidence.options import add_options, open_source, sampling_settings
from reward_evidence.report.write import write_report
from reward_evidence.sampling.recorded import RecordedSampler
from reward_evidence.sampling.samples import Sampler
from reward_runs.errors import RunError

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


def evaluate(options: argparse.Namespace, source: EvaluationSource, log: Callable[[str], None]) -> Evaluation:
    """Evaluate `source`; raise RunError or RewardError when that is not possible."""
    steps = select_steps(source, options.steps)
    sampling = sampling_settings(options, source)
    for step in source.incomplete:
        log(f"step {step} is excluded: its checkpoint was not written completely")
    url = options.reward_url or source.reward_url
    if url is None:
        raise EvaluationError("the address of the reward service is not known: set it with --reward-url")
    with RewardClient(url, api_key=key_from_environment()) as client:
        client.ready()
        info = client.info()
        evaluation_run = EvaluationRun(
            source=source,
            steps=steps,
            sampling=sampling,
            info=info,
            recipe=find_recipe(source.recipe, info),
            gold=use_gold(options.gold, info),
            log=log,
        )
        return evaluation_run.run(lambda: _sampler(evaluation_run, options.device), client)


def _sampler(evaluation_run: EvaluationRun, device: str | None) -> Sampler:
    source = evaluation_run.source
    if evaluation_run.sampling is None:
        return RecordedSampler(source.recorded)
    # Read by OpenMP when torch is loaded. Spinning threads delay each other when other processes use the CPU
    # (one measurement on two busy cores: 15 s with passive waiting, more than 130 s without).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from reward_evidence.sampling.policy_sampler import PolicySampler

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    evaluation_run.log(f"models on {chosen}")
    return PolicySampler(evaluation_run.sampling, source.checkpoints, evaluation_run.initial, chosen)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_options(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` and run the command; return the exit status."""
    return run_program("python -m reward_evidence.evaluate", configure, run, argv)


def run(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Evaluate and write the report; return the exit status: 0 done, 1 failed, 130 stopped."""
    if options.responses is None:
        for name in ("torch", "transformers"):
            if find_spec(name) is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)  # `glassbox` names the extra
    try:
        source = open_source(options)
        evaluation = evaluate(options, source, _log)
        report = write_report(source.out)
    except (RunError, RewardError) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; run the same command again to continue\n")
        return 130
    _log(f"\n{evaluation.verdict.headline}. {evaluation.verdict.sentence}")
    for line in [*evaluation.verdict.findings, *evaluation.notices]:
        _log(f"- {line}")
    _log(f"report: {report}")
    return 0


def _log(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
