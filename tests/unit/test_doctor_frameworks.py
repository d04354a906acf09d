"""The table of frameworks agrees with the adapters, the protocols and the pages of the documentation."""

from __future__ import annotations

import json
import re

import pytest

from reward_client.doctor.frameworks import Framework, frameworks
from reward_service.app import create_app
from reward_service.settings import Settings
from tests.conftest import ROOT

PAGES = ROOT / "docs/frameworks"
DOCUMENTED = [(name, one) for name, one in frameworks().items() if (PAGES / f"{one.page}.md").is_file()]


@pytest.mark.parametrize(("name", "framework"), DOCUMENTED, ids=[name for name, _ in DOCUMENTED])
def test_the_lines_to_paste_are_those_of_the_page(name: str, framework: Framework) -> None:
    page = (PAGES / f"{framework.page}.md").read_text(encoding="utf-8")
    lines = {line.strip() for line in page.splitlines()}

    assert [line for line in framework.lines.strip().splitlines() if line.strip() not in lines | {""}] == []


def test_the_table_of_the_documentation_has_the_same_labels() -> None:
    rows = re.findall(
        r"^\| \[([^\]]+)\]\([^)]*\)[^|]*\|[^|]*\| \*([^*]+)\*", (PAGES / "README.md").read_text(), re.M
    )
    titles = {framework.title: framework for framework in frameworks().values()}

    assert len(rows) > 3
    assert {title: label for title, label in rows if title in titles and titles[title].label != label} == {}


def test_every_way_in_exists() -> None:
    """Modules of adapters and routes of protocols that the table names."""
    routes = create_app(Settings()).openapi()["paths"]

    for name, one in DOCUMENTED:
        if one.module is not None:
            assert (ROOT / "client" / f"{one.module.replace('.', '/')}.py").is_file(), name
        else:
            assert one.route in routes, name
        json.loads(one.body or "{}")
