"""The table of frameworks agrees with the adapters, the protocols and the pages of the documentation."""

from __future__ import annotations

import json
import re

import pytest

from reward_client.doctor.check import Status
from reward_client.doctor.exchange import Service, TimeLimit
from reward_client.doctor.frameworks import Framework, frameworks
from reward_client.doctor.own_request import own_request
from reward_client.urls import Address
from reward_service.app import create_app
from reward_service.settings import Settings
from tests.conftest import ROOT
from tests.live import serving

PAGES = ROOT / "docs/frameworks"


@pytest.mark.parametrize("framework", frameworks().values(), ids=frameworks())
def test_the_lines_to_paste_are_those_of_the_page(framework: Framework) -> None:
    page = (PAGES / f"{framework.page}.md").read_text(encoding="utf-8")

    assert [line for line in framework.lines.strip().splitlines() if line.strip() not in page] == []


def test_the_table_of_the_documentation_has_the_same_labels() -> None:
    rows = re.findall(
        r"^\| \[([^\]]+)\]\([^)]*\)[^|]*\|[^|]*\| \*([^*]+)\*", (PAGES / "README.md").read_text(), re.M
    )
    labels = {framework.title: framework.label for framework in frameworks().values()}
    documented = {title: label for names, label in rows for title in names.split(", ") if title in labels}

    assert documented == labels


def test_the_readme_has_every_framework_under_its_label() -> None:
    """Those that the table of the command does not have are on the page of training frameworks, unverified."""
    table = re.findall(r"^\| (\*(?:run|unverified)[^|]*) \| (.+) \|$", (ROOT / "README.md").read_text(), re.M)
    claimed = {title: label for label, titles in table for title in titles.split(", ")}

    page = (PAGES / "README.md").read_text()
    rows = re.findall(r"^\| \[([^\]]+)\]\([^)]*\)[^|]*\|[^|]*\| \*unverified\*", page, re.M)
    unverified = {title: "*unverified*" for titles in rows for title in titles.split(", ")}
    listed = {one.title: _claim(one) for name, one in frameworks().items() if name != "own-loop"}

    assert claimed == unverified | listed


def _claim(framework: Framework) -> str:
    """How the README names what was tried."""
    if framework.label == "unverified":
        return "*unverified*"
    extent = "with training" if framework.training else "the reward's path only"
    return f"*{framework.label}*, {extent}"


def test_every_way_in_exists() -> None:
    """Modules of adapters and routes of protocols that the table names."""
    routes = create_app(Settings()).openapi()["paths"]

    for name, one in frameworks().items():
        if one.module is not None:
            assert (ROOT / "client" / f"{one.module.replace('.', '/')}.py").is_file(), name
        else:
            assert one.route in routes, name
        json.loads(one.body or "{}")


def test_what_each_framework_posts_gets_a_reward() -> None:
    posting = [one for one in frameworks().values() if one.body is not None]
    with serving(Settings(default_recipe="rer")) as url:
        service = Service(Address.parse(url), TimeLimit(60), 10)
        checks = [own_request(service, one, None) for one in posting]
        wrong = own_request(service, frameworks()["openrlhf"], f"{url}/score")
        service.close()

    assert posting
    assert [check for check in checks if check.status is not Status.OK] == []
    assert wrong.status is Status.FAILED
