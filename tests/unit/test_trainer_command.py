"""OpenRLHF's command line is a function of the settings and the launch inputs."""

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from reward_client.wire import RecipeInfo
from reward_runs.layout import RunDir
from reward_trainer.config import Config, make_config
from reward_trainer.hardware import Hardware
from reward_trainer.openrlhf.command import (
    UNCLIPPED,
    LaunchInputs,
    build_command,
    clip_range,
    recipe_overrides,
    reward_endpoint,
)

RUN = RunDir("/runs/my run")
INPUTS = LaunchInputs(
    hardware=Hardware(n_gpus=0, n_threads=2),
    policy="/models/policy",
    has_chat_template=True,
    max_prompt_tokens=70,
    endpoint="http://127.0.0.1:8000/r/x/get_reward?recipe=rer",
    clip=(-10.0, 10.0),
    run=RUN,
)


def config(preset: str = "demo", **given: Any) -> Config:
    return make_config(preset, {"reward_url": "http://127.0.0.1:8000/", "run_dir": str(RUN.path), **given})


def recipe(high: float = 5.12, **parameters: Any) -> RecipeInfo:
    return RecipeInfo(
        name="rer", hash="h", description="", reward_range=(0.0, high), calibrated_for=None, needs_encoder=True,
        needs_gold=False, parameters=parameters,
    )  # fmt: skip


def value(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_only_flags_for_the_device_differ_between_cpu_and_gpu() -> None:
    on_cpu = set(build_command(config(), INPUTS))
    on_gpu = set(build_command(config(), replace(INPUTS, hardware=Hardware(n_gpus=1, n_threads=8))))

    assert {part for part in on_cpu ^ on_gpu if part.startswith("--")} == {
        "--ds.packing_samples", "--ds.enable_sleep", "--actor.gradient_checkpointing_enable",
        "--vllm.enable_sleep", "--vllm.gpu_memory_utilization",
    }  # fmt: skip


def test_every_gpu_has_a_rank_and_an_engine() -> None:
    command = build_command(config(), replace(INPUTS, hardware=Hardware(n_gpus=4, n_threads=8)))

    flags = [
        "--actor.num_gpus_per_node",
        "--ref.num_gpus_per_node",
        "--critic.num_gpus_per_node",
        "--vllm.num_engines",
    ]
    assert [value(command, flag) for flag in flags] == ["4"] * 4


def test_the_maximum_length_covers_the_longest_prompt_and_response() -> None:
    assert value(build_command(config(), INPUTS), "--data.max_len") == str(70 + 128)


def test_the_chat_template_flag_needs_a_chat_template() -> None:
    assert "--data.apply_chat_template" not in build_command(config(), replace(INPUTS, has_chat_template=False))


def test_resuming_adds_only_the_load_flag() -> None:
    fresh, resumed = build_command(config(), INPUTS), build_command(config(), INPUTS, resume=True)

    assert set(resumed) - set(fresh) == {"--ckpt.load_enable"}


def test_raw_flags_are_last_so_that_they_take_precedence() -> None:
    command = build_command(config(raw_flags=("--actor.entropy_coef", "0.1")), INPUTS)

    assert command[-2:] == ["--actor.entropy_coef", "0.1"]


def test_the_wandb_key_is_not_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")

    assert "secret" not in " ".join(build_command(config(wandb_project="p"), INPUTS))


def test_the_endpoint_names_run_recipe_and_limit_without_a_comma() -> None:
    overrides = {"max_response_tokens": "128", "stop_strings": "a,b"}
    url = urlsplit(reward_endpoint(config(gold=True), RUN, overrides))

    assert url.path == "/r/my-run/get_reward"
    assert parse_qs(url.query) == {
        "recipe": ["glassbox"], "max_response_tokens": ["128"], "stop_strings": ["a,b"], "gold": ["true"],
    }  # fmt: skip
    assert "," not in url.geturl()


def test_overrides_that_may_widen_the_range_disable_clipping() -> None:
    low, high = clip_range(recipe(max_response_tokens=512), {"query_relevance_range": [0, 0.1]})

    assert low <= -1e6
    assert high >= 1e6


def test_a_recipe_with_a_response_limit_receives_that_of_the_run() -> None:
    assert recipe_overrides(config(), recipe(max_response_tokens=512)) == {"max_response_tokens": 128}
    assert recipe_overrides(config(), recipe()) == {}
    assert recipe_overrides(
        config(recipe_overrides={"max_response_tokens": "64"}), recipe(max_response_tokens=512)
    ) == {"max_response_tokens": "64"}


@pytest.mark.parametrize(
    ("high", "limit", "expected"),
    [(5.12, "128", 10.0), (20.0, "512", 20.0), (5.12, "2048", 20.48)],
    ids=["at least OpenRLHF's default", "the range of the recipe", "proportional to the response limit"],
)
def test_no_reward_inside_the_recipes_range_is_clipped(high: float, limit: str, expected: float) -> None:
    low, top = clip_range(recipe(high, max_response_tokens=512), {"max_response_tokens": limit})

    assert (low, top) == pytest.approx((-10.0, expected))


def test_nothing_is_clipped_when_a_longer_response_earns_more_than_in_proportion() -> None:
    squared = recipe(max_response_tokens=512).model_copy(update={"formula": {"open_ended": "length_incentive^2"}})

    assert clip_range(squared, {"max_response_tokens": "2048"}) == UNCLIPPED
    assert clip_range(squared, {"max_response_tokens": "128"}) == (-10.0, 10.0)
