"""`glassbox doctor` on services: ours in several states, and servers that are not ours."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from reward_client.cli.main import main
from reward_service.settings import Settings
from tests.doubles import LetterEncoder
from tests.live import serving
from tests.unit.client_server import Answer, answering

SETTINGS = {"default_recipe": "rer"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLASSBOX_API_KEY", "GLASSBOX_URL", "GLASSBOX_RECIPE"):
        monkeypatch.delenv(name, raising=False)


def page(text: str, status: int = 200, **headers: str) -> Callable[[str], Answer]:
    return lambda _: (status, headers, text.encode())


class Doctor:
    """Runs `glassbox doctor` and reads its checks."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.printed = ""

    def __call__(self, *arguments: str) -> dict[str, tuple[str, str, str]]:
        """(status, found, fix) by the subject of the check."""
        main(["doctor", "--json", *arguments], [])
        self.printed = self._capsys.readouterr().out
        sections = json.loads(self.printed)["sections"]
        return {
            check["subject"]: (check["status"], check["found"], check["fix"])
            for section in sections
            for check in section["checks"]
        }


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(capsys)


def test_a_good_service_passes_every_check(doctor: Doctor) -> None:
    with serving(Settings(**SETTINGS)) as url:
        checks = doctor("--url", url)

    assert {status for status, _, _ in checks.values()} == {"ok", "note"}
    assert {"connection", "clock", "versions", "readiness", "limits", "one item", "a wrong item"} <= checks.keys()


# API keys ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keyed() -> Iterator[str]:
    with serving(Settings(api_key="the-right-key", **SETTINGS)) as url:
        yield url


def test_the_right_key_is_accepted_and_a_wrong_one_refused(
    keyed: str, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSBOX_API_KEY", "the-right-key")

    checks = doctor("--url", keyed)

    assert checks["API key"][:2] == ("ok", "the key is accepted, and requests without it are refused")
    assert checks["wrong key"][:2] == ("ok", "refused: this key is not accepted")


@pytest.mark.parametrize(
    ("key", "found", "fix"),
    [
        (None, "needs a key, and none was given", "export GLASSBOX_API_KEY"),
        ("another-key", "does not accept the key", "compare GLASSBOX_API_KEY"),
    ],
)
def test_a_missing_or_wrong_key_fails_with_what_to_do(
    key: str | None, found: str, fix: str, keyed: str, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key is not None:
        monkeypatch.setenv("GLASSBOX_API_KEY", key)

    status, text, help_text = doctor("--url", keyed)["API key"]

    assert status == "failed"
    assert found in text
    assert fix in help_text


def test_a_key_that_cannot_be_one_is_named_without_being_shown(
    keyed: str, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSBOX_API_KEY", '"hush-hush"')

    assert "quotation marks" in doctor("--url", keyed)["address"][1]
    assert "hush-hush" not in doctor.printed


def test_no_key_is_shown_even_if_a_server_repeats_it(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_API_KEY", "hush-one")
    with answering(page("your keys are hush-one and hush-two", 500)) as url:
        doctor("--url", url.replace("//", "//key:hush-two@"))

    assert "(key hidden)" in doctor.printed
    assert "hush" not in doctor.printed


# Our service in bad states -----------------------------------------------------------------------------------


class NanEncoder(LetterEncoder):
    """Ready, but every other text becomes NaN."""

    @staticmethod
    def _vector(text: str) -> list[float]:
        return [1.0] * 26 if text == "ready?" else [float("nan")] * 26


def test_a_model_that_returns_nan_fails(doctor: Doctor) -> None:
    with serving(Settings(**SETTINGS), NanEncoder()) as url:
        status, found, _ = doctor("--url", url)["trial rewards"]

    assert status == "failed"
    assert "items have no reward" in found


def test_a_recipe_that_is_unknown_or_needs_a_model_fails(doctor: Doctor) -> None:
    with serving(Settings(gold="none", **SETTINGS)) as url:
        assert "did you mean 'rer'?" in doctor("--url", url, "--recipe", "rr")["recipe"][2]
        status, found, _ = doctor("--url", url, "--recipe", "gold")["recipe"]

    assert status == "failed"
    assert "needs a gold model" in found


def test_a_reward_that_the_framework_would_clip_fails(doctor: Doctor) -> None:
    with serving(Settings(**SETTINGS)) as url:
        status, found, fix = doctor("--url", url, "--recipe", "gold", "--framework", "openrlhf")["reward range"]

    assert status == "failed"
    assert "OpenRLHF clips to [-10, 10]" in found
    assert "--reward.clip_range" in fix


def fake(about: dict[str, Any], **paths: Answer) -> Callable[[str], Answer]:
    """Our service, but for the answers to `paths`."""
    good: dict[str, Answer] = {
        "healthz": (200, {}, b'{"status": "alive"}'),
        "readyz": (200, {}, b'{"status": "ready"}'),
        "info": (200, {}, json.dumps(about).encode()),
    }
    return lambda path: (good | paths).get(path.strip("/"), (404, {}, b"{}"))


@pytest.fixture(scope="module")
def info() -> dict[str, Any]:
    with serving(Settings(**SETTINGS)) as url:
        found: dict[str, Any] = httpx.get(f"{url}/info").json()
    return found


def test_a_service_that_is_not_ready_fails_with_the_cause(doctor: Doctor, info: dict[str, Any]) -> None:
    problem = {"title": "Service Unavailable", "status": 503, "detail": "the encoder is loading"}
    with answering(fake(info, readyz=(503, {"retry-after": "7"}, json.dumps(problem).encode()))) as url:
        checks = doctor("--url", url)

    assert checks["readiness"][:2] == ("failed", "the encoder is loading; the service asks to try again in 7 s")
    assert "trial rewards" not in checks


def test_a_model_that_is_loaded_when_readiness_is_asked_is_found(doctor: Doctor, info: dict[str, Any]) -> None:
    asked: list[str] = []
    loading = fake(info | {"gold": None})

    def answer(path: str) -> Answer:
        asked.append(path)
        return fake(info)(path) if "/readyz" in asked else loading(path)

    with answering(answer) as url:
        checks = doctor("--url", url, "--recipe", "gold")

    assert "models: " in checks["recipe"][1]


def test_a_clock_that_differs_is_noted(doctor: Doctor, info: dict[str, Any]) -> None:
    body = json.dumps(info).encode()
    with answering(fake(info, info=(200, {"date": formatdate(time.time() - 300, usegmt=True)}, body))) as url:
        status, found, _ = doctor("--url", url)["clock"]

    assert status == "note"
    assert "s behind this machine" in found


def test_another_wire_version_is_noted(doctor: Doctor, info: dict[str, Any]) -> None:
    with answering(fake(info | {"wire_version": 1})) as url:
        assert doctor("--url", url)["versions"][2] == "update the service"


def test_numbers_that_are_not_finite_fail(doctor: Doctor, info: dict[str, Any]) -> None:
    results = [{"reward": float("nan"), "features": {}} for _ in range(12)]
    score: Answer = (200, {}, json.dumps({"rewards": [], "results": results}).encode())
    with answering(fake(info, score=score)) as url:
        status, found, _ = doctor("--url", url)["trial rewards"]

    assert status == "failed"
    assert "reward is nan" in found


# Servers that are not ours -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "found", "fix"),
    [
        (page('{"detail": "Not Found"}', 404), "404", "this is another server"),
        (page("<html><body>502 Bad Gateway</body></html>", 502), "502 with an HTML page", "a reverse proxy"),
        (
            page("", 301, location="https://elsewhere/healthz"),
            "redirect to https://elsewhere/healthz",
            "https://elsewhere:",
        ),
        (page("", 407), "407", "the proxy needs a user and a password"),
        (page("\xff\x00" * 100), "200", "this is another server"),
    ],
)
def test_another_server_is_recognised(
    answer: Callable[[str], Answer], found: str, fix: str, doctor: Doctor
) -> None:
    with answering(answer) as url:
        checks = doctor("--url", url)

    assert checks["health"][0] == "failed"
    assert found in checks["health"][1]
    assert fix in checks["health"][2]
    assert "API key" not in checks


def test_a_proxy_that_answers_in_place_of_the_service_is_named(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(page("<html>blocked</html>", 403)) as url:
        monkeypatch.setenv("http_proxy", url.replace("//", "//user:hush@"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        checks = doctor("--url", "http://reward.example:8000")

    assert "http_proxy=http://127.0.0.1" in checks["proxy"][1]
    assert checks["health"][2].endswith("set NO_PROXY=reward.example")
    assert "hush" not in doctor.printed


def test_https_to_a_server_without_tls_fails_with_the_right_scheme(doctor: Doctor) -> None:
    with answering(page("")) as url:
        status, _, fix = doctor("--url", url.replace("http:", "https:"))["TLS"]

    assert status == "failed"
    assert "http:// instead of https://" in fix


def test_a_name_without_an_address_fails(doctor: Doctor) -> None:
    assert doctor("--url", "http://absent.invalid:8000")["name"][0] == "failed"


def test_a_route_in_the_url_is_left_out(doctor: Doctor) -> None:
    status, _, fix = doctor("--url", "http://127.0.0.1:8000/get_reward")["address"]

    assert (status, fix) == ("failed", "write --url http://127.0.0.1:8000")


def test_a_server_that_hangs_ends_the_checks_in_time(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        checks = doctor("--url", f"http://127.0.0.1:{server.getsockname()[1]}", "--timeout", "0.5")

    assert checks["health"][0] == "failed"
    assert time.monotonic() - started < 5


def test_a_server_that_says_nothing_in_tls_ends_within_the_time_limit(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        checks = doctor("--url", f"https://127.0.0.1:{server.getsockname()[1]}", "--time-limit", "0.5")

    assert checks["TLS"][0] == "failed"
    assert time.monotonic() - started < 4


def test_what_a_server_sends_does_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(page("\x1b[2Jcleared \u202e\x9b31m", 500)) as url:
        main(["doctor", "--url", url], [])

    printed = capsys.readouterr().out
    assert "cleared" in printed
    assert printed.replace("\n", "").isprintable()


class SlowEncoder(LetterEncoder):
    """Takes half a second for every batch but that of the readiness check."""

    def embed(self, batch: Any) -> Any:
        if "".join(map(chr, batch[0].input_ids)) != "ready?":
            threading.Event().wait(0.5)
        return super().embed(batch)


def test_a_slow_service_is_measured_within_the_time_limit(doctor: Doctor) -> None:
    with serving(Settings(**SETTINGS), SlowEncoder()) as url:
        started = time.monotonic()
        checks = doctor("--url", url, "--time-limit", "3")

    assert "the time for all checks is over" in " ".join(found for _, found, _ in checks.values())
    assert time.monotonic() - started < 8
