"""`glassbox evaluate`, also `python -m reward_evidence.evaluate`: evaluate checkpoints or recorded responses.

options ──▶ EvaluationSource ──▶ EvaluationRun (policy, reward service) ──▶ evaluation.json ──▶ report
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

from reward_client import RewardClient, RewardError
from reward_client.cli.command import run_program
from reward_client.cli.options import connect
from reward_client.info import find_recipe
from reward_client.loaded import ENCODER, loaded_info
from reward_client.urls import split_urls
from reward_client.wire import Info
from reward_evidence.evaluate_options import configure
from reward_evidence.evaluation.evaluation import Evaluation
from reward_evidence.evaluation.evaluation_run import EvaluationRun, use_gold
from reward_evidence.evaluation.source import (
    EvaluationSource,
    from_checkpoints,
    from_responses,
    from_run,
    select_steps,
)
from reward_evidence.report.write import write_report
from reward_evidence.sampling.recorded import RecordedSampler
from reward_evidence.sampling.samples import Sampler, SamplingSettings
from reward_runs.errors import EvaluationError, RunError
from reward_runs.prompts import EMBEDDED_PROMPTS, Columns, load_prompts
from reward_runs.record import MOVED

_SAMPLING = ("samples", "temperature", "max_new_tokens", "seed", "batch_size", "kl", "device")
_PROMPTS = ("prompts", "prompt_column", "reference_column", "query_type_column", "query_type_default")
_NOT_APPLICABLE = {
    "run": ("out", "recipe", "recipe_overrides", "system_prompt", *_PROMPTS),
    "checkpoints": (),
    "responses": (*_SAMPLING, *_PROMPTS),
}
"""Options that a source excludes: a run directory records them, recorded responses need no sampling."""


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
    names = {f"{name}_column": name for name in vars(Columns())} | {"query_type_default": "query_type_default"}
    columns = {name: given[option] for option, name in names.items() if option in given}
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


def evaluate(options: argparse.Namespace, source: EvaluationSource, log: Callable[[str], None]) -> Evaluation:
    """Evaluate `source`; raise RunError or RewardError when that is not possible."""
    steps = select_steps(source, options.steps)
    sampling = sampling_settings(options, source)
    for step in source.incomplete:
        log(f"step {step} is excluded: its checkpoint was not written completely")
    url = options.reward_url or source.reward_url
    if url is None:
        raise EvaluationError("the address of the reward service is not known: set it with --reward-url")
    with _connected(options, source, url, log) as (client, info):
        evaluation_run = EvaluationRun(
            source=source,
            steps=steps,
            sampling=sampling,
            info=info,
            recipe=find_recipe(info, source.recipe),
            gold=use_gold(options.gold, info),
            log=log,
        )
        return evaluation_run.run(lambda: _sampler(evaluation_run, options.device), client)


@contextmanager
def _connected(
    options: argparse.Namespace, source: EvaluationSource, url: str, log: Callable[[str], None]
) -> Iterator[tuple[RewardClient, Info]]:
    """A client of the service, and what that offers once the models to score with can be used."""
    with ExitStack() as stack:
        try:
            client = stack.enter_context(connect(split_urls(url), options.wait))
            info = loaded_info(client, log, kinds=[ENCODER], without_gold="--no-gold")
            if options.gold is not False or find_recipe(info, source.recipe).needs_gold:
                info = loaded_info(client, log, without_gold="--no-gold")
                client.ready()  # a gold model that is loaded may be unusable; nothing has been sampled yet
        except RewardError as exc:
            if options.reward_url is not None:
                raise
            raise EvaluationError(f"{exc}; {MOVED}") from exc  # the address is that of the run's record
        yield client, info


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


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` and run the command; return the exit status."""
    return run_program("python -m reward_evidence.evaluate", configure, run, argv)


def run(options: argparse.Namespace, argv: Sequence[str]) -> int:
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
        sys.stderr.write(f"stopped; continue with: glassbox evaluate {shlex.join(argv)}\n")
        return 130
    _log(f"\n{evaluation.verdict.headline}. {evaluation.verdict.sentence}")
    for warning in evaluation.warnings:
        _log(f"- warning: {warning.message}")
    for line in [*evaluation.verdict.findings, *evaluation.notices]:
        _log(f"- {line}")
    _log(f"report: {report}")
    return 0


def _log(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
