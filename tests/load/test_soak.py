"""The soak harness itself: a loss counts, the tested proxy is the shipped one, what was not run has not passed."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from load import fuzz
from load.growth import fitted
from load.proxy import SHIPPED, localised
from load.report import Check, Findings, Results, exit_status
from load.service import SoakError
from tools.held_load import Answer, Crowd, difference

SHIPPED_TEXT = SHIPPED.read_text(encoding="utf-8")
HELD = Findings("posts", "done", [Check("rule", "measured", held=True)])
BROKEN = Findings("posts", "done", [Check("rule", "measured", held=False)])
NOT_RUN = Findings("kills: service behind the front", "done", not_run="no haproxy")


def test_a_client_that_ends_with_an_exception_is_a_loss() -> None:
    died = threading.Event()
    threading.excepthook, hook = (lambda _: died.set()), threading.excepthook
    try:
        with Crowd([lambda: 1 // 0]) as crowd:  # type: ignore[list-item, return-value]
            assert died.wait(20)
    finally:
        threading.excepthook = hook

    assert [answer.problem for answer in crowd.lost] == [
        "a client ended with ZeroDivisionError('integer division or modulo by zero')"
    ]


def test_answers_that_do_not_come_in_time_are_a_loss() -> None:
    with Crowd() as crowd:
        crowd.wait_for(3, timeout_s=0.0)

    assert [answer.problem for answer in crowd.lost] == ["0 of 3 answers in 0 s"]


def test_a_crowd_asks_until_its_block_ends() -> None:
    with Crowd([lambda: Answer("any", 0.0, 2, None)]) as crowd:
        crowd.wait_for(5, timeout_s=20.0)

    assert not crowd.lost
    assert crowd.n_repeats == len(crowd.answers) >= 5


@pytest.mark.parametrize("got", [[0.5, 0.5], [], [None], [0.0], [float("nan")]])
def test_rewards_that_are_doubled_lost_or_wrong_differ(got: list[float | None]) -> None:
    assert difference([0.5], got) is not None
    assert difference([0.5], [0.50001]) is None


def test_the_tested_proxy_is_the_shipped_one_but_for_its_addresses() -> None:
    shipped, tested = (lines(text) for text in (SHIPPED_TEXT, localised(SHIPPED_TEXT, 1, 2, 3)))

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
def test_a_proxy_with_addresses_that_are_not_known_here_is_refused(changed: str) -> None:
    with pytest.raises(SoakError):
        localised(changed, 1, 2, 3)


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_growth_is_the_rise_of_the_line_after_the_first_third() -> None:
    warming_up = [(float(at), 10.0 * at) for at in range(4)]
    then = [(float(at), 100.0 + at) for at in range(4, 13)]

    growth = fitted(warming_up + then)

    assert growth.first == pytest.approx(104.0)
    assert growth.last == pytest.approx(112.0)
    assert growth.share == pytest.approx(8 / 104)


def test_too_few_samples_are_no_growth() -> None:
    with pytest.raises(ValueError, match="too few"):
        fitted([(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)])


def test_only_what_was_run_and_held_is_a_success() -> None:
    assert exit_status([HELD]) == 0
    assert exit_status([HELD, BROKEN, NOT_RUN]) == 1
    assert exit_status([HELD, NOT_RUN]) == 2
    assert not Findings("posts", "nothing was looked at").held


def test_what_was_not_run_says_so_in_the_results() -> None:
    section = NOT_RUN.markdown("today")

    assert "**Not run**: no haproxy." in section
    assert "yes" not in section


def test_a_run_replaces_its_own_sections_and_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    results = Results(path)
    results.put("posts", {"posts": "of posts"})
    results.put("kills", {"kills": "not at its end"})

    results.put("kills", {"kills: worker": "of the worker", "kills: service": "of the service"})

    text = path.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## posts",
        "## kills: worker",
        "## kills: service",
    ]
    assert "of posts" in text
    assert "not at its end" not in text


GENERATED = """
from hypothesis import given, settings, strategies

@settings(max_examples={n})
@given(strategies.integers())
def test_{name}(value):
    pass
"""


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

    assert fuzz.count(ended.stdout) == {"tests/test_a.py": 27, "tests/test_b.py": 3}
