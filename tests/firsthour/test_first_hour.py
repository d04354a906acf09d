"""A first hour with the product: each step is a command, run in order, and what a new user must see.

The steps share a folder and a service with the embedded models, so a step may need those before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.firsthour.hour import Step, Terminal, service
from tests.firsthour.material import write_material
from tests.firsthour.steps import AFTER_START, BEFORE_START, readme_example

pytestmark = pytest.mark.slow


def numbered(steps: list[Step], first: int) -> pytest.MarkDecorator:
    ids = [f"{number:02}-{step.name}" for number, step in enumerate(steps, first)]
    return pytest.mark.parametrize("step", steps, ids=ids)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first hour")  # with a blank, as folders of users may have
    write_material(folder)
    return folder


@pytest.fixture(scope="module")
def terminal(folder: Path) -> Iterator[Terminal]:
    """A terminal beside the running service."""
    with service(folder) as url:
        code = readme_example().replace("http://127.0.0.1:8000", url)
        (folder / "readme.py").write_text(code, encoding="utf-8")
        yield Terminal(folder, url)


@numbered(BEFORE_START, 1)
def test_before_the_service_is_started(step: Step, folder: Path) -> None:
    Terminal(folder).run(step)


@numbered(AFTER_START, len(BEFORE_START) + 1)
def test_with_the_service(step: Step, terminal: Terminal) -> None:
    terminal.run(step)
