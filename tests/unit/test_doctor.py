"""`glassbox doctor`: the installation, the output, the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reward_client.cli.main import main
from reward_client.doctor import installation
from reward_client.doctor.check import Status
from reward_client.doctor.frameworks import frameworks
from reward_service.settings import Settings
from tests.live import serving

REQUIREMENTS = [
    "httpx<1,>=0.27",
    "pydantic>=2.9; extra == 'service'",
    "absent-library[fast]>=1; extra == 'train'",
    "other-absent; sys_platform == 'win32' and extra == 'service'",
]


@pytest.mark.parametrize(
    ("extra", "needed", "status", "found"),
    [
        ("service", True, Status.OK, "all 1 packages are installed"),
        ("train", True, Status.FAILED, "not installed: absent-library"),
        ("train", False, Status.NOTE, "not installed: absent-library"),
    ],
)
def test_doctor_compares_an_extra_with_what_is_installed(
    extra: str, needed: bool, status: Status, found: str
) -> None:
    check = installation.packages(extra, REQUIREMENTS, needed=needed)

    assert (check.status, check.found) == (status, found)
    assert (check.fix == f"pip install 'glassbox-reward[{extra}]'") == (status is not Status.OK)


@pytest.mark.slow
def test_without_options_the_machine_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"], [])

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {"disk", "memory", "torch"} <= {words[1] for words in lines if len(words) > 1}


def test_checks_for_which_no_time_is_left_are_not_made(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--for", "serve", "--url", "http://127.0.0.1:9", "--time-limit", "0.000001", "--json"], [])

    sections = json.loads(capsys.readouterr().out)["sections"]
    found = {check["subject"]: (check["status"], check["found"]) for one in sections for check in one["checks"]}
    assert found["torch"] == found["connection"] == ("skipped", "the time for all checks is over")


def test_a_service_that_is_not_there_is_one_failed_check_with_its_fix(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--url", "http://127.0.0.1:9"], []) == 1

    printed = capsys.readouterr().out
    assert "failed   connection     127.0.0.1:9: connection refused" in printed
    assert "→ start the service with `glassbox serve`, or correct --url" in printed
    assert "1 failed" in printed.splitlines()[-1]
    assert "to fix: connection" in printed.splitlines()[-1]


def test_json_is_one_object_with_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Settings(default_recipe="rer")) as url:
        status = main(["doctor", "--url", url, "--framework", "trl", "--json"], [])

    found = json.loads(capsys.readouterr().out)
    checks = {check["subject"]: check for section in found["sections"] for check in section["checks"]}
    assert (status, found["ok"]) == (0, True)
    assert checks["health"]["status"] == "ok"
    assert checks["a batch"]["found"].endswith("rows/s (median of 3)")
    assert f"GLASSBOX_URL={url}" in found["sections"][0]["text"]


@pytest.mark.parametrize("name", frameworks())
def test_a_framework_gets_the_lines_to_paste_and_what_it_does_on_a_failure(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLASSBOX_URL", raising=False)

    assert main(["doctor", "--framework", name], []) == 0

    printed = capsys.readouterr().out
    assert all(line in printed for line in frameworks()[name].pasted("http://HOST:8000").splitlines())
    assert "service away" in printed


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("absent.yaml", None, "cannot be read: No such file"),
        ("a.yaml", "a: [1,\nb: }", "is not YAML, line 2"),
        ("a.toml", "a = ", "is not TOML"),
        ("a.sh", "echo hello", "no framework is recognised"),
        ("a.sh", b"\xff\xfe\x00", "is not UTF-8"),
        ("a.json", "[" * 100_000, "is not YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_a_failed_check(
    name: str, text: str | bytes | None, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    assert main(["doctor", "--config", str(path)], []) == 1

    assert found in capsys.readouterr().out
