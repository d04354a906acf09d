"""OpenRLHF's parser accepts the command that we build, with the intended values.

`openrlhf.cli.train_ppo_ray` runs in the environment of a run until its arguments are parsed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from reward_runs.layout import RunDir
from reward_trainer.config import ESTIMATORS, PRESETS, make_config
from reward_trainer.hardware import Hardware
from reward_trainer.openrlhf.command import LaunchInputs, build_command, reward_endpoint
from reward_trainer.openrlhf.cpu.hooks import accept_fp32_argument
from reward_trainer.openrlhf.environment import cpu_environment
from reward_trainer.openrlhf.flag_check import parse, refusal, script
from reward_trainer.openrlhf.installed import flag_notes, notes
from reward_trainer.preflight import OPENRLHF

pytestmark = pytest.mark.slow

PARSE = """
import argparse, json, runpy, sys
import openrlhf.utils, ray

class Parsed(BaseException):
    pass

def plain(value):
    return {name: plain(part) for name, part in vars(value).items()} if hasattr(value, "__dict__") else value

def stop(args):
    raise Parsed(plain(args))

def parse_args(self, *given, **how):
    options.update(option for action in self._actions for option in action.option_strings)
    return real_parse(self, *given, **how)

def parse(command):
    sys.argv = ["train_ppo_ray", *command]
    try:
        runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__")
    except Parsed as parsed:
        return parsed.args[0]

options = set()
real_parse, argparse.ArgumentParser.parse_args = argparse.ArgumentParser.parse_args, parse_args
ray.is_initialized, openrlhf.utils.get_strategy = (lambda: True), stop
results = {name: parse(command) for name, command in json.load(sys.stdin).items()}
print()
print(json.dumps({"parsed": results, "options": sorted(options)}, default=str))
"""


def command(preset: str, *, n_gpus: int = 0, resume: bool = False, **given: Any) -> list[str]:
    config = make_config(
        preset, {"reward_url": "http://127.0.0.1:8000", "recipe": "rer", "run_dir": "/runs/x", **given}
    )
    inputs = LaunchInputs(
        hardware=Hardware(n_gpus=n_gpus, n_threads=2),
        policy="/models/policy",
        has_chat_template=True,
        max_prompt_tokens=72,
        endpoint=reward_endpoint(config, RunDir(Path("/runs/x")), {"max_response_tokens": 128}),
        clip=(-10.0, 20.48),
        run=RunDir(Path("/runs/x")),
    )
    return build_command(config, inputs, resume=resume)


ALGORITHMS: dict[str, dict[str, Any]] = {
    "PPO with critic": {"preset": "paper"},
    "GRPO": {"preset": "demo", "estimator": "group_norm"},
    "REINFORCE++": {"preset": "demo", "estimator": "reinforce", "samples_per_prompt": 1, "prompts_per_step": 16},
    "REINFORCE++ baseline": {"preset": "demo", "estimator": "reinforce_baseline"},
    "RLOO": {"preset": "demo", "estimator": "rloo"},
    "Dr. GRPO": {"preset": "demo", "estimator": "dr_grpo"},
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "CPU": {"n_gpus": 0},
    "one GPU": {"n_gpus": 1},
    "hybrid engine": {"n_gpus": 2},
    "two nodes": {"n_gpus": 2, "nodes": 2},
    "asynchronous": {"n_gpus": 4, "asynchronous": True},
    "asynchronous, two nodes": {"n_gpus": 2, "nodes": 2, "asynchronous": True},
    "asynchronous on a CPU": {"n_gpus": 0, "asynchronous": True},
    "two reward URLs": {"n_gpus": 1, "reward_url": "http://a:8000,http://b:8000/"},
}
DEVICES = {
    # training ranks a node, nodes, engines, engines on the devices of training
    "CPU": (1, 1, 1, True),
    "one GPU": (1, 1, 1, True),
    "hybrid engine": (2, 1, 2, True),
    "two nodes": (2, 2, 4, True),
    "asynchronous": (2, 1, 2, False),
    "asynchronous, two nodes": (1, 2, 2, False),
    "asynchronous on a CPU": (1, 1, 1, False),
    "two reward URLs": (1, 1, 1, True),
}

COMMANDS: dict[str, list[str]] = {
    "demo": command("demo", resume=True),
    "paper": command("paper"),
    "gpus": command("demo", n_gpus=4),
    "raw": command("demo", raw_flags=("--rollout.top_p", "0.9", "--actor.adam.lr=3e-6")),
    **{estimator: command("demo", estimator=estimator) for estimator in ESTIMATORS},
    **{f"{a}, {b}": command(**ALGORITHMS[a], **LAYOUTS[b]) for a, b in product(ALGORITHMS, LAYOUTS)},
}


@pytest.fixture(scope="module")
def openrlhf() -> dict[str, Any]:
    """The parsed `COMMANDS` by name, and the options of OpenRLHF's parser."""
    env = cpu_environment(os.environ, n_devices=1, n_threads=1, rollouts_per_batch=1)
    done = subprocess.run(
        [sys.executable, "-c", PARSE],
        input=json.dumps(COMMANDS),
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_the_demo_command_is_parsed_as_intended(openrlhf: dict[str, Any]) -> None:
    args = openrlhf["parsed"]["demo"]

    assert args["reward"]["remote_url"] == [
        "http://127.0.0.1:8000/r/x/get_reward?recipe=rer&max_response_tokens=128"
    ]
    assert args["reward"]["clip_range"] == [-10.0, 20.48]
    assert args["actor"]["model_name_or_path"] == "/models/policy"
    assert args["actor"]["adam"]["lr"] == 2e-5
    assert (args["actor"]["lr_scheduler"], args["actor"]["lr_warmup_ratio"]) == ("constant", 0.0)
    assert args["critic"]["model_name_or_path"] is None
    assert args["rollout"] | {"batch_size": 8, "n_samples_per_prompt": 4, "micro_batch_size": 4} == args["rollout"]
    assert args["rollout"] | {"max_new_tokens": 128, "temperature": 0.7, "top_p": 1.0} == args["rollout"]
    assert (args["train"]["batch_size"], args["train"]["num_episodes"], args["train"]["seed"]) == (32, 1, 42)
    assert args["algo"]["advantage"]["estimator"] == "group_norm"
    assert (args["data"]["input_key"], args["data"]["label_key"]) == ("input", "label")
    assert (args["data"]["max_len"], args["data"]["apply_chat_template"]) == (200, True)
    assert (
        args["ds"] | {"param_dtype": "fp32", "attn_implementation": "sdpa", "packing_samples": False} == args["ds"]
    )
    assert (
        args["ckpt"] | {"save_steps": 2, "save_hf": True, "disable_ds": False, "load_enable": True} == args["ckpt"]
    )
    assert args["vllm"]["num_engines"] == 1
    assert args["logger"]["wandb"]["key"] is None


def test_the_paper_s_settings_are_parsed_as_intended(openrlhf: dict[str, Any]) -> None:
    args = openrlhf["parsed"]["paper"]

    assert args["critic"]["model_name_or_path"] == "/models/policy"
    assert args["critic"]["value_clip"] == 0.2
    assert (
        args["algo"]["advantage"] | {"gamma": 1.0, "lambd": 0.95, "estimator": "gae"} == args["algo"]["advantage"]
    )
    assert args["algo"]["kl"] | {"init_coef": 0.2, "target": 6.0, "horizon": 10_000} == args["algo"]["kl"]
    assert (args["train"]["max_epochs"], args["train"]["batch_size"], args["train"]["micro_batch_size"]) == (
        4,
        8,
        2,
    )


@pytest.mark.parametrize("n_gpus", [0, 4])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_flag_is_written_in_full(openrlhf: dict[str, Any], preset: str, n_gpus: int) -> None:
    """OpenRLHF accepts abbreviations, so a truncated name could set a different option."""
    given = {"wandb_project": "p", "kl_target": 1.0}
    used = [part for part in command(preset, n_gpus=n_gpus, resume=True, **given) if part.startswith("--")]

    assert set(used) - set(openrlhf["options"]) == set()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_openrlhf_has_every_estimator_that_we_offer(openrlhf: dict[str, Any], estimator: str) -> None:
    assert openrlhf["parsed"][estimator]["algo"]["advantage"]["estimator"] == estimator


def test_on_gpus_openrlhf_packs_samples_and_engines_sleep(openrlhf: dict[str, Any]) -> None:
    args = openrlhf["parsed"]["gpus"]

    assert args["vllm"] | {"num_engines": 4, "enable_sleep": True} == args["vllm"]
    assert args["ds"] | {"packing_samples": True, "param_dtype": "bf16", "enable_sleep": True} == args["ds"]
    assert args["actor"]["num_gpus_per_node"] == args["ref"]["num_gpus_per_node"] == 4


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_parsed_in_every_layout(openrlhf: dict[str, Any], algorithm: str, layout: str) -> None:
    args = openrlhf["parsed"][f"{algorithm}, {layout}"]
    ranks, nodes, engines, shared = DEVICES[layout]

    for model in ("actor", "ref", "critic"):
        assert (args[model]["num_gpus_per_node"], args[model]["num_nodes"]) == (ranks, nodes)
    assert (args["vllm"]["num_engines"], args["train"]["async_enable"]) == (engines, not shared)
    assert args["vllm"]["enable_sleep"] is (shared and layout != "CPU")
    assert args["train"]["colocate_all"] is True
    assert args["critic"]["model_name_or_path"] == ("/models/policy" if algorithm == "PPO with critic" else None)
    n_rollouts = args["rollout"]["batch_size"] * args["rollout"]["n_samples_per_prompt"]
    assert args["train"]["batch_size"] % (args["train"]["micro_batch_size"] * ranks * nodes) == 0
    assert n_rollouts % args["train"]["batch_size"] == 0


def test_several_reward_urls_are_parsed_as_several(openrlhf: dict[str, Any]) -> None:
    args = openrlhf["parsed"]["GRPO, two reward URLs"]

    route = "/r/x/get_reward?recipe=rer&max_response_tokens=128"
    assert args["reward"]["remote_url"] == [f"http://a:8000{route}", f"http://b:8000{route}"]


def test_a_release_has_no_flag_of_the_tried_one_dropped_or_renamed(
    openrlhf: dict[str, Any], shared_dir: Path
) -> None:
    """The failure lists them. Flags that are new do no harm."""
    table = shared_dir / "design" / f"openrlhf-{OPENRLHF}-flags.tsv"
    tried = {line.split("\t")[0] for line in table.read_text(encoding="utf-8").splitlines()}

    assert sorted(tried - set(openrlhf["options"])) == []


def test_the_installed_parser_is_read_from_its_source(openrlhf: dict[str, Any]) -> None:
    """As a run reads it, to warn of flags that the parser lacks."""
    options = [option for option in openrlhf["options"] if option not in ("-h", "--help")]

    assert notes(options) == []
    (note,) = notes(["--actor.adam.lr", "--actor.adam.learning_rate=1", "--train.colocate_al"])
    assert "--actor.adam.learning_rate, --train.colocate_al:" in note


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_gives_a_warning_with_the_tried_release(name: str) -> None:
    assert notes(COMMANDS[name]) == []


@pytest.mark.parametrize("name", ["demo", "paper", "gpus", "raw", "GRPO, two reward URLs"])
def test_the_flag_check_parses_as_the_script_does(
    openrlhf: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[Any] = []
    monkeypatch.setattr(sys, "argv", ["train_ppo_ray", *COMMANDS[name]])
    real_add_argument = argparse.ArgumentParser.add_argument
    monkeypatch.setattr(argparse._ActionsContainer, "add_argument", real_add_argument)  # restored afterwards
    accept_fp32_argument()
    path = script()
    assert path is not None
    parse(path, parsed.append)

    assert json.loads(json.dumps(plain(parsed[0]), default=str)) == openrlhf["parsed"][name]


def plain(value: Any) -> Any:
    return {name: plain(part) for name, part in vars(value).items()} if hasattr(value, "__dict__") else value


@pytest.mark.parametrize("n_gpus", [0, 1])
def test_what_the_script_refuses_is_refused_with_its_words(n_gpus: int) -> None:
    def refused(*flags: str) -> str | None:
        return refusal(command("demo", n_gpus=n_gpus, raw_flags=flags), has_gpu=n_gpus > 0)

    assert refused() is None
    assert refused("--train.see", "7") is None  # an abbreviation, of which another check warns
    assert "unrecognized arguments: --actor.learning_rate 7" in str(refused("--actor.learning_rate", "7"))
    assert "invalid int value: 'many'" in str(refused("--train.seed", "many"))
    assert "requires --train.async_enable" in str(refused("--train.partial_rollout_enable"))


def test_a_parser_without_flags_defines_none_of_ours() -> None:
    (note,) = flag_notes(["--train.seed", "3"], source="")

    assert "--train.seed" in note


def test_raw_flags_override_ours(openrlhf: dict[str, Any]) -> None:
    args = openrlhf["parsed"]["raw"]

    assert (args["rollout"]["top_p"], args["actor"]["adam"]["lr"]) == (0.9, 3e-6)
