"""Commands that decide by `GET /info` whether there is a gold model wait for one that the service is loading."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from reward_client import RewardClient, RewardUnavailableError
from reward_client.loaded import ENCODER, loaded_info
from reward_client.wire import WIRE_VERSION_HEADER
from reward_service.models.protocols import GoldModel
from reward_service.settings import Settings
from reward_trainer.service_probe import service_info
from tests.command import exit_status
from tests.doubles import LengthGold
from tests.json_server import Received, json_server
from tests.live import serving, until
from tests.unit.evidence_run import info
from tests.unit.test_commands import ENTRY_POINTS

WAITING = "it loads its gold model"


@dataclass
class Loading:
    """A service whose gold model loads until `finish`."""

    url: str = ""
    finished: threading.Event = field(default_factory=threading.Event)

    def load(self, _: Settings) -> GoldModel:
        if not self.finished.wait(timeout=60):
            raise TimeoutError("the test did not end the load")
        return LengthGold()

    def finish(self, said: str) -> None:
        """End the load once a command has `said` that it waits."""
        if WAITING in said:
            self.finished.set()


@pytest.fixture
def loading() -> Iterator[Loading]:
    service = Loading()
    with serving(Settings(), gold_loader=service.load, ready=False) as service.url:
        until(lambda: httpx.get(f"{service.url}/info").json()["models"]["encoder"] == "loaded")
        try:
            yield service
        finally:
            service.finished.set()


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROWS = [
    {"step": step, "prompt": f"p {n}", "response": "a b " * (step + n + 1)} for step in (0, 1) for n in range(4)
]


def evaluated(url: str, folder: Path) -> list[str | Path]:
    source = written(folder / "in.jsonl", ROWS)
    return ["evaluate", "--responses", source, "--reward-url", url, "--out", folder / "out"]


def compared(url: str, folder: Path) -> list[str | Path]:
    source = written(folder / "in.jsonl", ROWS)
    return ["diff", "--recipe", "li", "--recipe", "rer", source, "--url", url, "--json", folder / "report.json"]


def best_of(url: str, folder: Path) -> list[str | Path]:
    source = written(folder / "in.jsonl", [row | {"step": 0, "prompt": "p"} for row in ROWS])
    return ["best-of-n", "--samples-file", source, "--reward-url", url, "--out", folder / "out"]


COMMANDS = pytest.mark.parametrize(
    ("command", "file"),
    [(evaluated, "out/evaluation.json"), (compared, "report.json"), (best_of, "out/best_of_n.json")],
)
Command = Callable[[str, Path], list[str | Path]]


class Output(io.StringIO):
    """What a command prints; `heard` gets all of it after each piece."""

    def __init__(self, heard: Callable[[str], None]) -> None:
        super().__init__()
        self._heard = heard

    def write(self, text: str) -> int:
        n = super().write(text)
        self._heard(self.getvalue())
        return n


def outcome(argv: Sequence[str | Path], heard: Callable[[str], None] = lambda _: None) -> tuple[int, str]:
    """Exit status of a command, and what it printed."""
    output = Output(heard)
    with redirect_stdout(output), redirect_stderr(output):
        status = exit_status(*argv, programs=ENTRY_POINTS)
    return status, output.getvalue()


@COMMANDS
def test_a_command_waits_for_a_gold_model_that_is_loading(
    loading: Loading, tmp_path: Path, command: Command, file: str
) -> None:
    status, printed = outcome(command(loading.url, tmp_path), loading.finish)

    assert status == 0, printed
    assert printed.count(WAITING) == 1
    assert "the gold model is loading" in printed
    report = json.loads((tmp_path / file).read_text())
    assert (report.get("gold") or report.get("golds") or report["service"]["gold"]) is not None


@COMMANDS
def test_a_gold_model_that_could_not_be_loaded_is_an_error(tmp_path: Path, command: Command, file: str) -> None:
    def fail(_: Settings) -> GoldModel:
        raise ValueError("its weights are missing")

    with serving(Settings(), gold_loader=fail, ready=False) as url:
        until(lambda: "failed" in httpx.get(f"{url}/info").json()["models"].values())
        status, printed = outcome(command(url, tmp_path))

    assert status == 1
    assert f"the service at {url} could not load its gold model" in printed
    assert "its weights are missing" in printed
    assert not (tmp_path / file).exists()


def test_the_trainer_waits_for_a_gold_model_that_is_loading(loading: Loading) -> None:
    found = service_info([loading.url], "rer", say=loading.finish)

    assert found.gold is not None
    assert found.gold.id == LengthGold().id


def test_a_wait_for_models_has_an_end(loading: Loading) -> None:
    with (
        RewardClient(loading.url) as client,
        pytest.raises(RewardUnavailableError, match=r"has not loaded its gold model after 0\.1 s .*--wait S"),
    ):
        loaded_info(client, lambda _: None, limit_s=0.1)


def test_a_model_that_is_not_needed_is_not_waited_for(loading: Loading) -> None:
    with RewardClient(loading.url) as client:
        found = loaded_info(client, pytest.fail, kinds=[ENCODER])

    assert found.gold is None


def test_only_the_model_that_failed_is_named_and_the_option_that_leaves_it_out() -> None:
    loads = Loading()

    def load(settings: Settings) -> GoldModel:
        if settings.gold == "a":
            raise ValueError("its weights are missing")
        return loads.load(settings)

    with serving(Settings(gold="a,b"), gold_loader=load, ready=False) as url, RewardClient(url) as client:
        until(lambda: httpx.get(f"{url}/info").json()["models"]["gold"] == "failed")
        with pytest.raises(RewardUnavailableError, match=r"could not load its gold model \(.*or use --no-gold$"):
            loaded_info(client, pytest.fail, without_gold="--no-gold")
        loads.finished.set()


def test_all_gold_models_are_waited_for() -> None:
    second = Loading()

    def load(settings: Settings) -> GoldModel:
        return LengthGold(id="a") if settings.gold == "a" else second.load(settings)

    with serving(Settings(gold="a,b"), gold_loader=load, ready=False) as url, RewardClient(url) as client:
        found = loaded_info(client, lambda _: second.finished.set())

    assert [one.id for one in found.golds] == ["a", LengthGold().id]


def test_a_service_without_gold_is_not_waited_for() -> None:
    with serving(Settings(gold="none")) as url, RewardClient(url) as client:
        found = loaded_info(client, pytest.fail)

    assert (found.gold, found.models) == (None, {"encoder": "loaded"})


@contextmanager
def older_service(unready: threading.Event, *, gold: bool = True) -> Iterator[str]:
    """A service that does not say which models it was started with."""

    def answer(request: Received) -> tuple[int, Any]:
        if request.path == "/readyz" and unready.is_set():
            return 503, {"title": "Not ready", "status": 503, "detail": "the gold model is loading"}
        about = info(gold=gold and not unready.is_set()).model_dump(mode="json", exclude={"models"})
        return 200, about if request.path == "/info" else {"status": "ready"}

    with json_server(answer, {"retry-after": "1"}) as url:
        yield url


def test_an_older_service_is_asked_whether_it_is_ready() -> None:
    unready, said = threading.Event(), []
    unready.set()

    def say(line: str) -> None:
        said.append(line)
        unready.clear()

    with older_service(unready) as url, RewardClient(url) as client:
        found = loaded_info(client, say)

    assert found.gold is not None
    assert ["the gold model is loading" in line for line in said] == [True]


def test_an_older_service_is_not_waited_for_when_it_has_what_is_needed() -> None:
    unready = threading.Event()
    unready.set()

    with older_service(unready) as url, RewardClient(url) as client:
        assert loaded_info(client, pytest.fail, kinds=[ENCODER]).relevance is not None


def test_an_older_service_without_gold_is_not_waited_for() -> None:
    with older_service(threading.Event(), gold=False) as url, RewardClient(url) as client:
        assert loaded_info(client, pytest.fail).gold is None


def test_info_names_the_models_that_are_loading_but_not_to_clients_of_the_first_version(loading: Loading) -> None:
    current, first = (
        httpx.get(f"{loading.url}/info", headers={WIRE_VERSION_HEADER: version}).json() for version in "21"
    )

    assert (current["gold"], current["models"]) == (None, {"encoder": "loaded", "gold": "loading"})
    assert "models" not in first
