"""A run whose rewards fail is stopped, with the cause that stands in OpenRLHF's log or the service gives."""

from reward_trainer.failure_detector import GIVE_UP_S, FailureDetector, last_error, phase_of

PREFIX = "(RolloutRayActor pid=7) INFO 11-23 19:40:23 agent.py:355] "


def test_a_reward_that_failed_for_good_stops_the_run_with_the_cause_of_the_attempts() -> None:
    watch = FailureDetector()

    assert watch.line(PREFIX + "Request error, please check: Cannot connect to host 127.0.0.1:8000") is None
    stop = watch.line(
        PREFIX + "[SingleTurnExecutor] Failed to fetch reward from remote RM: Request error for 5 times"
    )
    assert stop == "Cannot connect to host 127.0.0.1:8000"


def test_attempts_that_succeed_in_the_end_do_not_stop_the_run() -> None:
    watch = FailureDetector()

    assert [watch.line(PREFIX + "Request error, please check: 503") for _ in range(4)] == [None] * 4
    assert watch.line("(PPOTrainer pid=8) Global step 1: {}") is None


def test_a_service_that_stays_away_stops_the_run_within_a_minute() -> None:
    watch = FailureDetector()

    assert watch.service("connection refused", now_s=100) is None
    assert watch.service("connection refused", now_s=100 + GIVE_UP_S - 1) is None
    stop = watch.service("connection refused", now_s=100 + GIVE_UP_S)
    assert stop is not None
    assert "connection refused" in stop
    assert GIVE_UP_S < 60


def test_a_service_that_comes_back_in_time_is_forgiven() -> None:
    watch = FailureDetector()
    watch.service("connection refused", now_s=0)
    watch.service(None, now_s=30)

    assert watch.service("connection refused", now_s=35) is None
    assert watch.service("connection refused", now_s=35 + GIVE_UP_S / 2) is None


def test_the_last_exception_in_the_log_is_the_one_reported() -> None:
    lines = [
        "(PPOTrainer pid=8)   File x.py, line 3",
        "(PPOTrainer pid=8) ValueError: reward_model_group is required",
        "ray.exceptions.RayTaskError(ValueError): ray::PPOTrainer.fit()",
        "    at work",
    ]

    assert last_error(lines) == "ray.exceptions.RayTaskError(ValueError): ray::PPOTrainer.fit()"
    assert last_error(["all is well"]) is None


def test_phases_are_told_in_plain_words() -> None:
    assert phase_of("(PPOTrainer pid=8) INFO Starting experience making with 16 samples") is not None
    assert phase_of("something else") is None
