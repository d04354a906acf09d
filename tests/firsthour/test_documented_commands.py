"""The commands of README and docs that are marked runnable work as printed, on a service with embedded models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.firsthour.fenced import blocks, with_service
from tests.firsthour.hour import Step, Terminal, service
from tests.firsthour.material import write_material

PAGES = {
    str(page.relative_to(ROOT)): blocks(page)
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    if blocks(page)
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service as `glassbox serve` starts it, with a recipe of the user."""
    folder = tmp_path_factory.mktemp("service")
    write_material(folder)
    with service(folder, "--recipes-dir", "recipes") as url:
        yield url


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_as_printed(page: str, url: str, tmp_path: Path) -> None:
    write_material(tmp_path)
    terminal = Terminal(tmp_path, url)
    for block in PAGES[page]:
        text = with_service(block.text, url)
        if block.file is None:
            terminal.run(Step(page, f"set -e -o pipefail\n{text}"))
        else:
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(text, encoding="utf-8")


def test_the_marks_of_blocks_are_spelt_as_the_reader_expects() -> None:
    """A fence with a word after its language that is neither mark would never be run."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        fences = [line.split() for line in page.read_text(encoding="utf-8").splitlines() if "```" in line[:8]]
        marked = [fence for fence in fences if len(fence) > 1]
        assert len(marked) == len(blocks(page)), f"{page}: {marked}"
