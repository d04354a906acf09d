"""A run without rewards is stopped, with the cause from OpenRLHF's log or the service."""

from reward_trainer.monitor import MAX_UNAVAILABLE_S, FailureDetector
from reward_trainer.openrlhf.log_parser import last_error, phase_of

PREFIX = "(RolloutRayActor pid=7) INFO 11-23 19:40:23 agent.py:355] "


def test_a_failed_reward_stops_the_run_with_the_cause_of_its_last_attempt() -> None:
    detector = FailureDetector()

    assert (
        detector.observe_line(PREFIX + "Request error, please check: Cannot connect to host 127.0.0.1:8000")
        is None
    )
    stop = detector.observe_line(
        PREFIX + "[SingleTurnExecutor] Failed to fetch reward from remote RM: Request error for 5 times"
    )
    assert stop == "Cannot connect to host 127.0.0.1:8000"


def test_failed_attempts_alone_do_not_stop_the_run() -> None:
    detector = FailureDetector()

    assert [detector.observe_line(PREFIX + "Request error, please check: 503") for _ in range(4)] == [None] * 4
    assert detector.observe_line("(PPOTrainer pid=8) Global step 1: {}") is None


def test_an_unavailable_service_stops_the_run_within_a_minute() -> None:
    detector = FailureDetector()

    assert detector.observe_service("connection refused", now_s=100) is None
    assert detector.observe_service("connection refused", now_s=100 + MAX_UNAVAILABLE_S - 1) is None
    stop = detector.observe_service("connection refused", now_s=100 + MAX_UNAVAILABLE_S)
    assert stop is not None
    assert "connection refused" in stop
    assert MAX_UNAVAILABLE_S < 60


def test_a_service_that_restarts_in_time_does_not_stop_the_run() -> None:
    detector = FailureDetector()
    detector.observe_service("connection refused", now_s=0)
    detector.observe_service(None, now_s=30)

    assert detector.observe_service("connection refused", now_s=35) is None
    assert detector.observe_service("connection refused", now_s=35 + MAX_UNAVAILABLE_S / 2) is None


def test_the_last_exception_in_the_log_is_reported_not_what_announces_it() -> None:
    lines = [
        "(PPOTrainer pid=8)   File x.py, line 3",
        "(PPOTrainer pid=8) ValueError: reward_model_group is required",
        "ray.exceptions.RayTaskError(ValueError): ray::PPOTrainer.fit()",
        "    at work",
    ]

    assert last_error(lines) == "ValueError: reward_model_group is required"
    assert last_error(["all is well"]) is None


def test_phases_are_recognised() -> None:
    assert phase_of("(PPOTrainer pid=8) INFO Starting experience making with 16 samples") is not None
    assert phase_of("something else") is None
