"""`glassbox doctor` reports what is missing, and what to do next."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reward_client import __version__
from reward_client.cli import doctor
from reward_client.cli.doctor import Status
from reward_client.cli.main import main

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
        ("train", True, Status.MISSING, "not installed: absent-library"),
        ("train", False, Status.NOTE, "not installed: absent-library"),
    ],
)
def test_doctor_compares_an_extra_with_what_is_installed(
    extra: str, needed: bool, status: Status, found: str
) -> None:
    check = doctor.packages(extra, REQUIREMENTS, needed=needed)

    assert (check.status, check.found) == (status, found)
    assert (check.next_step == f"pip install 'glassbox-reward[{extra}]'") == (status is not Status.OK)


@contextmanager
def service(version: str) -> Iterator[str]:
    """A service that is ready; yields its URL."""
    limits = {"max_body_bytes": 1, "max_items": 1, "max_text_chars": 1}
    names: dict[str, object] = {"version": version, "default_recipe": "rer", "recipes": [], "versions": {}}
    info = names | {"relevance": None, "gold": None, "limits": limits}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(info if self.path == "/info" else {}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize(("version", "status"), [(__version__, "ok"), ("99.0", "note")])
def test_doctor_reports_a_service_that_is_ready(
    version: str, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with service(version) as url:
        main(["doctor", "--url", url], [])

    row = next(line for line in capsys.readouterr().out.splitlines() if line.split()[1] == "service")
    assert row.startswith(status)
    assert f"ready at {url}, version {version}" in row


def test_doctor_fails_with_the_next_step_when_the_service_does_not_respond(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "--url", "http://127.0.0.1:9"], []) == 1

    printed = capsys.readouterr().out
    assert "missing  service        the request to http://127.0.0.1:9/readyz" in printed
    assert "→ start it with `glassbox serve`, or correct --url" in printed
