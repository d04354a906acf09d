"""Settings are validated when they are created; an error names the setting."""

import json

import pytest

from reward_runs.errors import ConfigError
from reward_trainer.config import PRESETS, Config, make_config

GIVEN = {"reward_url": "http://127.0.0.1:8000", "run_dir": "runs/x"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(preset: str) -> None:
    assert make_config(preset, GIVEN).steps == PRESETS[preset]["steps"]


def test_the_demo_saves_at_least_six_checkpoints_of_at_least_eight_steps() -> None:
    config = make_config("demo", GIVEN)

    assert config.steps >= 8
    assert config.steps // config.save_every >= 6


def test_the_paper_preset_is_the_published_setting() -> None:
    """Kim & Seo (EMNLP 2024), PPO: batch 16, mini-batch 2 x accumulation 4, 4 epochs."""
    config = make_config("paper", GIVEN)

    assert (config.recipe, config.estimator, config.learning_rate) == ("rer-reference", "gae", 1e-5)
    assert config.max_new_tokens == 512
    assert (config.rollouts_per_step, config.micro_batch_size, config.effective_train_batch_size) == (16, 2, 8)
    assert (config.epochs_per_batch, config.advantage_gamma, config.advantage_lambda) == (4, 1.0, 0.95)
    assert (config.kl_coefficient, config.kl_target, config.kl_horizon) == (0.2, 6.0, 10_000)
    assert (config.clip, config.value_clip, config.seed, config.temperature) == (0.2, 0.2, 42, 1.0)


def test_given_settings_override_the_preset() -> None:
    assert make_config("demo", {**GIVEN, "learning_rate": 0.5}).learning_rate == 0.5


def test_the_save_interval_is_at_most_the_number_of_steps() -> None:
    assert make_config("paper", {**GIVEN, "steps": 3}).save_every == 3


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"samples_per_prompt": 1}, "group_norm compares several samples"),
        ({"train_batch_size": 12}, "does not divide the 32 rollouts"),
        ({"train_batch_size": 64}, "does not divide the 32 rollouts"),
        ({"micro_batch_size": 3}, "micro_batch_size 3"),
        ({"steps": 2, "save_every": 4}, "nothing would be saved"),
        ({"steps": 0}, "steps"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"reward_url": "localhost:8000"}, "reward_url"),
        ({"reward_url": "http://a,b"}, "reward_url"),
        ({"reward_url": "http://a,"}, "reward_url"),
        ({"nodes": 0}, "nodes"),
        ({"estimator": "ppo"}, "estimator"),
        ({"speling": 1}, "speling"),
        ({"raw_flags": ("--ckpt.path=elsewhere",)}, "--ckpt.path is set by the launcher"),
        ({"raw_flags": ("--ds.lora.rank", "8")}, "cannot load LoRA weights into its rollout engine"),
    ],
)
def test_an_error_names_the_invalid_setting(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make_config("demo", {**GIVEN, **wrong})


def test_an_unknown_preset_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="demo, paper, tiny"):
        make_config("fast", GIVEN)


def test_settings_survive_a_round_trip_through_json() -> None:
    config = make_config(
        "paper", {**GIVEN, "raw_flags": ("--actor.entropy_coef", "0.1"), "recipe_overrides": {"a": "1"}}
    )

    assert Config.model_validate(json.loads(config.model_dump_json())) == config
