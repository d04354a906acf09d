"""`glassbox doctor --tokenizer`: what a chat template renders is read by the service, or the check says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from reward_client.cli.main import main
from reward_client.doctor.exchange import Service, TimeLimit
from reward_client.doctor.tokenizer import round_trip
from reward_client.urls import Address
from reward_client.wire import Info
from reward_service.settings import Settings
from tests.live import serving
from tests.tiny_llama import save_tiny_llama
from tests.unit.client_server import Answer, answering

pytestmark = pytest.mark.slow

TITLES = {"one question", "with a system message", "several turns"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings(default_recipe="rer")) as url:
        yield url


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return save_tiny_llama(tmp_path / "policy")


def checks(url: str, tokenizer: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    """(status, found) by conversation."""
    capsys.readouterr()
    main(["doctor", "--url", url, "--tokenizer", str(tokenizer), "--time-limit", "120", "--json"], [])
    section = json.loads(capsys.readouterr().out)["sections"][-1]
    return {check["subject"]: (check["status"], check["found"]) for check in section["checks"]}


def test_conversations_are_read_as_they_were_rendered(
    url: str, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = checks(url, tokenizer, capsys)

    assert found.keys() == TITLES
    assert {status for status, _ in found.values()} == {"ok"}
    assert "both ways" in found["several turns"][1]


def test_a_template_of_an_unknown_format_fails(
    url: str, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tokenizer / "chat_template.jinja"
    template.write_text(template.read_text().replace("im_start", "talk_begins").replace("im_end", "talk_ends"))

    status, text = checks(url, tokenizer, capsys)["one question"]

    assert status == "failed"
    assert "markers of no known format" in text


@pytest.mark.parametrize(
    ("query", "direct", "status"), [("[null]", "[1.0]", "failed"), ("[1.0]", "[null]", "note")]
)
def test_a_reward_that_is_null_is_a_check_and_ends_no_other(
    query: str, direct: str, status: str, url: str, tokenizer: Path
) -> None:
    def answer(path: str) -> Answer:
        rewards = query if path.startswith("/get_reward") else direct
        return 200, {"content-type": "application/json"}, f'{{"rewards": {rewards}, "flags": [null]}}'.encode()

    known = Info.model_validate_json(httpx.get(f"{url}/info").content)
    with answering(answer) as other, closing(Service(Address.parse(other), TimeLimit(120), 5)) as service:
        found = list(round_trip(service, str(tokenizer), known, "rer"))

    assert {check.subject: check.status.value for check in found} == dict.fromkeys(TITLES, status)


def test_a_folder_without_a_tokenizer_fails(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (status, found), *_ = checks(url, tmp_path, capsys).values()

    assert status == "failed"
    assert "cannot be loaded" in found
