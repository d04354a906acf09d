"""`glassbox best-of-n`: what each recipe picks among n samples of a policy, judged by gold.

options ──▶ samples (policy, endpoint, file) ──▶ scores (gold, recipes) ──▶ figures ──▶ table, JSON, page
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from reward_client import RewardError
from reward_client.cli.options import (
    KeyValue,
    add_recipe_overrides,
    add_wait,
    connect,
    file_path,
    positive_float,
    positive_int,
)
from reward_client.cli.options import url as service_url
from reward_client.info import find_recipe, model_identity
from reward_client.loaded import GOLD as GOLD_MODEL
from reward_client.loaded import loaded_info
from reward_client.rows import FileError
from reward_client.urls import DEFAULT_URL, split_urls
from reward_client.wire import Info
from reward_evidence.best_of_n.figures import GOLD, LONGEST, RANDOM, JudgedSamples
from reward_evidence.best_of_n.page import render
from reward_evidence.best_of_n.result import BestOfN, Provenance, judge, write_result
from reward_evidence.best_of_n.samples_file import LINES_NAME
from reward_evidence.best_of_n.scores import SampleScores, check_gold
from reward_evidence.best_of_n.selection import SelectedSamples, select_samples
from reward_evidence.best_of_n.table import lines
from reward_evidence.evaluation.shared_base import gold_notices
from reward_runs.errors import EvaluationError, RunError
from reward_runs.files import lock_folder, replace_text
from reward_runs.prompts import EMBEDDED_PROMPTS, add_columns
from reward_runs.provenance import versions
from reward_runs.record import trained_policy

PAGE_NAME = "best_of_n.html"
DEFAULT_RECIPES = ("glassbox", "rer", "li-rp", "li")
"""Those of them that the service has, and its default recipe."""
_LIBRARIES = ("glassbox-reward", "torch", "transformers", "numpy", "scipy")

_DESCRIPTION = """\
Show how far a reward can be optimised before it harms, without training. A policy answers each prompt n times,
every recipe picks the response that it rewards most, and the gold model of the service judges the picks. All
recipes pick from the same samples. Gold is shown for n = 1, 2, 4 … with the divergence from the policy that
picking the best of n amounts to: where gold falls while the recipe's own reward rises, it is over-optimised.

Written into --out: samples.jsonl (every sample), scores/ (every reward), best_of_n.json (the figures),
best_of_n.html (charts, paired differences between recipes, examples). A run that was stopped is continued by the
same command; with more recipes only those are scored."""

_EPILOG = f"""\
examples:
  glassbox best-of-n --policy smollm2-135m-instruct --out bon
  glassbox best-of-n --policy runs/demo/checkpoints/000012 --prompts heldout.jsonl --n 32 --out bon
  glassbox best-of-n --endpoint http://127.0.0.1:8001 --model Qwen/Qwen3-8B --recipe rer --recipe mine --out bon
  glassbox best-of-n --samples-file bon/{LINES_NAME} --recipe another --out bon-another

docs/how-to/best-of-n.md explains the figures. The service needs a gold model (glassbox serve --gold …)."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    _add_source(parser.add_argument_group("source of the samples (one of the first three)"))
    _add_prompts(parser.add_argument_group("prompts (not with --samples-file)"))
    _add_sampling(parser.add_argument_group("sampling (not with --samples-file)"))
    _add_scoring(parser.add_argument_group("recipes and results"))


def _add_source(group: argparse._ArgumentGroup) -> None:
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--policy",
        metavar="NAME",
        help="folder of a checkpoint, Hugging Face id, or smollm2-135m-instruct (embedded)",
    )
    source.add_argument(
        "--endpoint",
        type=service_url,
        metavar="URL",
        help="OpenAI-compatible server, as vLLM's; set its key in OPENAI_API_KEY",
    )
    source.add_argument(
        "--samples-file",
        type=file_path,
        metavar="FILE",
        help="JSON Lines with prompt and response, several for each prompt; optional: reference, query_type, "
        f"prompt_id, sample; also the {LINES_NAME} of another run",
    )
    add = group.add_argument
    add("--model", metavar="NAME", help="with --endpoint: name of the model there (required)")
    add(
        "--endpoint-api",
        choices=["chat", "completions"],
        help="with --endpoint: /v1/chat/completions (default), or /v1/completions, whose prompt is plain text",
    )
    add("--in-flight", type=positive_int, metavar="N", help="with --endpoint: requests at a time (default: 8)")
    add(
        "--choices",
        type=positive_int,
        metavar="N",
        help="with --endpoint: samples of one request (default: all of a prompt; 1 for a server that allows one)",
    )
    add(
        "--timeout",
        type=positive_float,
        metavar="S",
        help="with --endpoint: seconds for one request (default: 600)",
    )
    add(
        "--body",
        action=KeyValue,
        nargs="+",
        metavar="K=V",
        help="with --endpoint: more fields of a request, as top_p=0.9; seed=null removes a field; they are "
        "written to --out, so a key belongs in OPENAI_API_KEY",
    )


def _add_prompts(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--prompts",
        metavar="SOURCE",
        help=f"{EMBEDDED_PROMPTS} held-out prompts (default), FILE.jsonl, FILE.json, or a dataset",
    )
    add("--limit", type=positive_int, metavar="N", help="only the first N prompts")
    add_columns(group)


def _add_sampling(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--n",
        type=positive_int,
        metavar="N",
        help="samples of each prompt, the largest n (default: 16; with --samples-file all that every prompt has)",
    )
    add("--temperature", type=positive_float, metavar="T", help="default: 1, the policy itself")
    add("--max-new-tokens", type=positive_int, metavar="N", help="token limit of a response (default: 512)")
    add("--seed", type=int, metavar="N", help="default: 42")
    add(
        "--batch-size",
        type=positive_int,
        metavar="N",
        help="with --policy: responses in a batch (default: 64); the random numbers depend on it",
    )
    add("--device", metavar="NAME", help="with --policy: torch device (default: cuda if available, else cpu)")


def _add_scoring(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--recipe",
        action="append",
        metavar="NAME",
        help="a recipe to judge; repeat it for several (default: the service's default recipe, and of "
        f"{', '.join(DEFAULT_RECIPES)} those that it has). {LONGEST}, {RANDOM} and {GOLD} are always shown",
    )
    add_recipe_overrides(group)
    add(
        "--reward-url",
        metavar="URL",
        default=DEFAULT_URL,
        help=f"address of the reward service (default: {DEFAULT_URL}); set its key in GLASSBOX_API_KEY",
    )
    add_wait(group)
    add("--out", type=file_path, metavar="DIR", required=True, help="folder for samples, scores and results")


def choose_recipes(names: Sequence[str] | None, info: Info) -> list[str]:
    """Return the recipes to judge, without duplicates; raise an error for one that cannot be judged."""
    if names is None:
        known = {recipe.name for recipe in info.recipes}
        chosen = [info.default_recipe, *(name for name in DEFAULT_RECIPES if name in known)]
        return [name for name in dict.fromkeys(chosen) if name != GOLD]
    for name in names:
        if name in (GOLD, LONGEST, RANDOM):
            raise EvaluationError(f"--recipe {name}: {name} is always shown beside the recipes; leave it out")
        find_recipe(info, name)
    return list(dict.fromkeys(names))


def best_of_n(options: argparse.Namespace, log: Callable[[str], None]) -> BestOfN:
    """Draw and score what --out lacks; raise RunError, RewardError or FileError when that is not possible."""
    with lock_folder(options.out), connect(split_urls(options.reward_url), options.wait) as client:
        info = loaded_info(client, log, kinds=[GOLD_MODEL])
        recipes = choose_recipes(options.recipe, info)
        if any(find_recipe(info, name).needs_encoder for name in recipes):
            info = loaded_info(client, log)
        if not recipes:
            raise EvaluationError("the service has no recipe to judge: name one with --recipe")
        check_gold(info)
        selected = select_samples(options, log)
        scores = SampleScores(options.out, client, info, selected.system_prompt, log)
        result = judge(
            _judged(scores, recipes, options.recipe_overrides or {}, selected),
            _provenance(options, info, recipes, selected, scores.notices),
        )
    write_result(options.out, result)
    replace_text(options.out / PAGE_NAME, render(result))
    return result


def _judged(
    scores: SampleScores, recipes: Sequence[str], overrides: dict[str, Any], selected: SelectedSamples
) -> JudgedSamples:
    samples = selected.samples
    prompts = sorted(
        selected.prompts, key=lambda prompt: prompt.id
    )  # so that the order in the file does not matter
    gold, other_golds = scores.gold(prompts, samples)
    return JudgedSamples(
        prompts=tuple(prompts),
        samples=tuple(samples[prompt.id] for prompt in prompts),
        gold=gold,
        recipes={name: scores.recipe(name, overrides, prompts, samples) for name in recipes},
        other_golds=other_golds,
    )


def _provenance(
    options: argparse.Namespace, info: Info, recipes: Sequence[str], selected: SelectedSamples, notices: list[str]
) -> Provenance:
    found = {recipe.name: recipe for recipe in info.recipes}
    policy = options.model if options.policy is None else trained_policy(options.policy)
    gold = gold_notices(info.gold, policy) if info.gold else []
    return Provenance(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        settings={
            "source": selected.source,
            **(asdict(selected.settings) if selected.settings else {}),
            "prompts": options.prompts or (EMBEDDED_PROMPTS if options.samples_file is None else "of the file"),
            "recipe_overrides": options.recipe_overrides or {},
        },
        service={
            "gold": model_identity(info.gold),
            "relevance": model_identity(info.relevance),
            "recipes": {name: found[name].hash for name in recipes},
            "version": info.version,
            "versions": info.versions,
        },
        versions=versions(_LIBRARIES),
        notices=list(dict.fromkeys([*gold, *notices])),
    )


def run(options: argparse.Namespace, _: Sequence[str]) -> int:
    """Print the table and write the files; return the exit status: 0 done, 1 failed, 130 stopped."""
    try:
        result = best_of_n(options, _log)
    except (RunError, RewardError, FileError) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; run the same command again to continue\n")
        return 130
    _log("")
    for line in lines(result):
        _log(line)
    _log(f"report: {options.out / PAGE_NAME}")
    return 0


def _log(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
