"""The load tests themselves: losses count, the tested proxy is the shipped one, a scenario not run fails."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from load import fuzz
from load.growth import fit
from load.proxy import SHIPPED, loopback_config
from load.report import Check, Findings, Results, exit_status
from load.service import ScenarioError
from tools.load_clients import CallResult, LoadClients, reward_difference

SHIPPED_TEXT = SHIPPED.read_text(encoding="utf-8")
MET = Findings("posts", "done", [Check("rule", "measured", met=True)])
NOT_MET = Findings("posts", "done", [Check("rule", "measured", met=False)])
NOT_RUN = Findings("kills: service behind the proxy", "done", not_run="no haproxy")


def test_a_client_that_ends_with_an_exception_is_a_loss() -> None:
    died = threading.Event()
    threading.excepthook, hook = (lambda _: died.set()), threading.excepthook
    try:
        with LoadClients([lambda: 1 // 0]) as clients:  # type: ignore[list-item, return-value]
            assert died.wait(20)
    finally:
        threading.excepthook = hook

    assert [result.problem for result in clients.lost] == [
        "a client ended with ZeroDivisionError('integer division or modulo by zero')"
    ]


def test_results_that_do_not_arrive_in_time_are_a_loss() -> None:
    with LoadClients() as clients:
        clients.wait_for(3, timeout_s=0.0)

    assert [result.problem for result in clients.lost] == ["0 of 3 results in 0 s"]


def test_clients_repeat_their_call_until_the_block_ends() -> None:
    with LoadClients([lambda: CallResult("any", 0.0, 2, None)]) as clients:
        clients.wait_for(5, timeout_s=20.0)

    assert not clients.lost
    assert clients.n_retries == len(clients.results) >= 5


@pytest.mark.parametrize("got", [[0.5, 0.5], [], [None], [0.0], [float("nan")]])
def test_duplicate_missing_and_wrong_rewards_differ(got: list[float | None]) -> None:
    assert reward_difference([0.5], got) is not None
    assert reward_difference([0.5], [0.50001]) is None


def test_the_tested_proxy_differs_from_the_shipped_one_only_in_its_addresses() -> None:
    shipped, tested = (lines(text) for text in (SHIPPED_TEXT, loopback_config(SHIPPED_TEXT, 1, 2, 3)))

    added, removed = (
        [line for line in tested if line not in shipped],
        [line for line in shipped if line not in tested],
    )

    assert added == [
        "bind 127.0.0.1:1",
        "bind 127.0.0.1:2",
        "server ready 127.0.0.1:3 check inter 2s fastinter 1s fall 3 rise 1",
        "server held 127.0.0.1:3 backup",
    ]
    resolvers = itertools.takewhile(
        lambda line: not line.startswith("frontend"),
        itertools.dropwhile(lambda line: not line.startswith("resolvers"), shipped),
    )
    assert set(removed) <= {*resolvers, *(line for line in shipped if ":8" in line)}


@pytest.mark.parametrize(
    "changed",
    [
        SHIPPED_TEXT.replace("bind :8000", "bind :9000"),
        SHIPPED_TEXT + "    server-template more 1-2 other:8000 resolvers containers\n",
        SHIPPED_TEXT.replace("resolvers containers\n    nameserver", "resolvers engine\n    nameserver"),
    ],
)
def test_a_proxy_with_unknown_addresses_is_rejected(changed: str) -> None:
    with pytest.raises(ScenarioError):
        loopback_config(changed, 1, 2, 3)


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_growth_is_the_rise_of_the_line_after_the_first_third() -> None:
    warming_up = [(float(at), 10.0 * at) for at in range(4)]
    then = [(float(at), 100.0 + at) for at in range(4, 13)]

    growth = fit(warming_up + then)

    assert growth.first == pytest.approx(104.0)
    assert growth.last == pytest.approx(112.0)
    assert growth.share == pytest.approx(8 / 104)


def test_too_few_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit([(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)])


def test_only_a_run_that_meets_all_requirements_succeeds() -> None:
    assert exit_status([MET]) == 0
    assert exit_status([MET, NOT_MET, NOT_RUN]) == 1
    assert exit_status([MET, NOT_RUN]) == 2
    assert not Findings("posts", "nothing was checked").met


def test_the_results_name_a_scenario_that_was_not_run() -> None:
    section = NOT_RUN.markdown("today")

    assert "**Not run**: no haproxy." in section
    assert "yes" not in section


def test_a_run_replaces_its_own_sections_and_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    results = Results(path)
    results.put("posts", {"posts": "of posts"})
    results.put("kills", {"kills": "unfinished"})

    results.put("kills", {"kills: serving process": "of the process", "kills: service": "of the service"})

    text = path.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## posts",
        "## kills: serving process",
        "## kills: service",
    ]
    assert "of posts" in text
    assert "unfinished" not in text


GENERATED = """
from hypothesis import given, settings, strategies

@settings(max_examples={n})
@given(strategies.integers())
def test_{name}(value):
    pass
"""


@pytest.mark.slow
def test_generated_cases_are_counted_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_a.py").write_text(GENERATED.format(n=7, name="one") + GENERATED.format(n=20, name="other"))
    (folder / "test_b.py").write_text(GENERATED.format(n=3, name="third"))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-show-statistics"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    assert fuzz.count_cases(ended.stdout) == {"tests/test_a.py": 27, "tests/test_b.py": 3}
