"""The metrics of a step are those that OpenRLHF printed."""

from pathlib import Path

from reward_client.wire import FeatureInfo
from reward_evidence.report.formatting import duration
from reward_runs.layout import StepMetrics, read_metrics
from reward_trainer.monitor import feature_labels, step_line
from reward_trainer.openrlhf.log_parser import parse_step

LINE = (
    "(PPOTrainer pid=7) INFO 11-23 19:40:54 ppo_trainer.py:551] ✨ Global step 3: {'kl': 0.25, 'reward': 9.0, "
    "'actor_grad_norm': nan, 'policy_loss': -1.5e-08, 'relevance': 1.0, 'score': 0.5, 'rollout/reward_mean': 0.5, "
    "'rollout/response_length_mean': 36.5, 'rollout/truncated_rate': 0.0625, 'timing/step_total': 43.4}"
)


def test_a_step_line_is_parsed_and_its_metrics_renamed() -> None:
    step = parse_step(LINE, has_reference_policy=True)

    assert step == {
        "step": 3, "kl": 0.25, "reward": 0.5, "grad_norm": None, "policy_loss": -1.5e-08, "relevance": 1.0,
        "response_length": 36.5, "truncated": 0.0625, "step_s": 43.4,
    }  # fmt: skip


def test_the_reward_is_the_mean_over_all_rollouts_not_over_training_batches() -> None:
    step = parse_step(LINE, has_reference_policy=True)

    assert step is not None
    assert step["reward"] == 0.5


def test_without_a_reference_policy_there_is_no_kl() -> None:
    step = parse_step(LINE, has_reference_policy=False)

    assert step is not None
    assert "kl" not in step


def test_other_lines_are_not_steps() -> None:
    assert parse_step("(PPOTrainer pid=7) Episode [1/1]: 50%", has_reference_policy=True) is None


def test_a_resumed_run_replaces_repeated_steps(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = StepMetrics(path)
    for number in (1, 2, 3):
        first.add({"step": number, "reward": 0.0})

    StepMetrics(path).add({"step": 2, "reward": 1.0})

    assert [(step["step"], step["reward"]) for step in read_metrics(path)] == [(1, 0.0), (2, 1.0)]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_the_progress_line_shows_step_metrics_and_remaining_time() -> None:
    steps = [
        {"step": n, "time_s": 60.0 * n, "reward": 0.5, "response_length": 36.5, "truncated": 0.25} for n in (1, 2)
    ]

    line = step_line(steps, n_steps=8, labels={})

    assert "step 2/8" in line
    assert "reward 0.500" in line
    assert "25% truncated" in line
    assert "about 6 min left" in line


def test_the_progress_line_has_the_features_that_the_service_logs() -> None:
    features = [
        FeatureInfo(name="length_incentive", label="Length incentive", log_key="length_incentive"),
        FeatureInfo(name="query_relevance", label="Query relevance", log_key="relevance"),
        FeatureInfo(name="reference_relevance", label="Reference relevance", log_key="relevance"),
        FeatureInfo(name="mine", label="My feature", log_key="my_feature"),
        FeatureInfo(name="unused", label="Unused", log_key="unused"),
        FeatureInfo(name="max_length_incentive", label="A constant"),
    ]
    step = {"step": 1, "time_s": 60.0, "length_incentive": 0.5, "relevance": 0.25, "my_feature": 0.75}

    line = step_line([step], 8, feature_labels(features))

    assert "length incentive 0.50  relevance 0.25  my feature 0.75" in line
    assert "unused" not in line


def test_the_progress_line_has_the_gold_reward_once() -> None:
    features = [FeatureInfo(name="gold", label="Gold", log_key="gold_reward")]

    line = step_line([{"step": 1, "time_s": 60.0, "gold_reward": -0.5}], 8, feature_labels(features))

    assert line.count("gold -0.50") == 1


def test_the_progress_line_has_the_features_of_a_service_that_does_not_list_them() -> None:
    step = {
        "step": 1, "time_s": 60.0, "length_incentive": 0.5, "repetition_penalty": 0.75, "relevance": 0.25,
        "gold_reward": -0.5,
    }  # fmt: skip

    line = step_line([step], 8, feature_labels([]))

    assert "length 0.50  repetition 0.75  relevance 0.25  gold -0.50" in line


def test_durations_are_readable() -> None:
    assert [duration(s) for s in (40, 700, 12_000)] == ["40 s", "12 min", "3 h 20 min"]


def test_a_feature_is_averaged_over_the_rollouts_that_have_a_value() -> None:
    shares = "'finished_measured': 0.25, 'finished': 0.2, 'asked_measured': 0.0, 'asked': 0.0, "

    step = parse_step(LINE.replace("'relevance'", f"{shares}'relevance'"), has_reference_policy=True)

    assert step is not None
    assert (step["finished"], step["asked"]) == (0.8, None)
    assert not [name for name in step if name.endswith("_measured")]
