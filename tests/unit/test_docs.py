"""The documentation matches the code: links resolve, the references are complete, the examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from reward_client.adapters.settings import AdapterSettings, variable
from reward_client.cli.command import GROUP, discover
from reward_service.app import create_app
from reward_service.features.factor_spec import FactorSpec
from reward_service.features.recipe import Recipe
from reward_service.http.problems import STATUS
from reward_service.settings import Settings
from tests.conftest import ROOT
from tests.live import serving

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")])
EXAMPLES = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""Python in fenced blocks is complete and runs as written; fragments are indented instead."""
LINK = re.compile(r"\]\(([^)\s]+)\)")


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub derives them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http:", "https:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page

        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_pages_named_in_the_source_exist() -> None:
    folders = ("benchmarks", "client", "deploy", "docker", "load", "services", "tests", "tools", "trainer")
    files = [*ROOT.glob("*"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    text = {".env.example", "Makefile", ".Dockerfile", ".j2", ".md", ".py", ".toml", ".yaml", ".yml"}
    for path in files:
        if path.is_file() and text & {path.name, path.suffix}:
            for page in re.findall(r"(?<![\w/.-])docs/[\w/-]+\.md\b", path.read_text(encoding="utf-8")):
                assert (ROOT / page).is_file(), f"{path} names {page}"


def test_every_page_is_in_the_index() -> None:
    linked = {(DOCS / link).resolve() for link in LINK.findall(read("README.md"))}

    assert {page for page in DOCS.rglob("*.md") if page.name != "README.md"} <= linked


HEADINGS = ["Paste this", "What you see in your logs", "When something fails", "Versions tried"]


@pytest.mark.parametrize("page", sorted((DOCS / "frameworks").glob("[!R]*.md")), ids=lambda page: page.stem)
def test_every_page_of_a_framework_answers_the_same_questions_in_this_order(page: Path) -> None:
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)

    assert [heading for heading in headings if heading in HEADINGS] == HEADINGS


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", read("reference/settings.md"), re.MULTILINE))

    for name, field in Settings.model_fields.items():
        default = "unset" if field.default is None else str(field.default).removesuffix(".0")
        assert rows[name].strip("`").lower() == default.lower(), name


def test_every_setting_of_adapters_is_documented() -> None:
    rows = re.findall(r"^\| `(GLASSBOX_\w+)` \|", read("frameworks/README.md"), re.MULTILINE)

    assert {variable(name) for name in AdapterSettings.model_fields} <= set(rows)


def test_every_route_is_documented() -> None:
    pages = read("reference/http-api.md")

    for path, methods in create_app(Settings()).openapi()["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in pages


def test_every_status_and_cause_of_an_error_is_documented() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", read("reference/errors.md"), re.MULTILINE)
    documented = {(int(status), cause.strip("`")) for status, causes in rows for cause in causes.split(", ")}

    assert {(status.value, kind.cause) for kind, status in STATUS.items()} <= documented


def test_every_metric_is_documented(service: str) -> None:
    page = read("reference/metrics.md")
    families = text_string_to_metric_families(httpx.get(f"{service}/metrics").text)
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}

    assert names
    for name in names:
        assert f"`{name}`" in page or name.endswith("_created")  # added by prometheus_client


def test_every_alert_is_documented_with_its_severity() -> None:
    groups = yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    page = read("reference/metrics.md")

    for rule in (rule for group in groups for rule in group["rules"]):
        assert f"| `{rule['alert']}` | {rule['labels']['severity']} |" in page


def test_every_command_is_documented() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = project["entry-points"][GROUP].items()
    commands, problems = discover([EntryPoint(name, value, GROUP) for name, value in points])
    assert not problems
    page = read("reference/command-line.md")

    for name in commands:
        assert f"| `glassbox {name}" in page


def test_make_targets_in_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    for page in PAGES:
        named = set(re.findall(r"(?:`| {4})make ([a-z-]+)", page.read_text(encoding="utf-8")))
        assert named <= targets or page.name == "CHANGELOG.md", page


def test_every_recipe_and_parameter_is_documented() -> None:
    page = read("reference/recipes.md")
    recipes = [path.stem for path in (ROOT / "services/reward_service/features/recipes").glob("*.yaml")]

    for name in [*recipes, *(Recipe.model_fields.keys() - {"name"})]:
        assert f"`{name}`" in page


def test_the_documented_defaults_of_a_recipe_are_those_of_the_model() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]*\| `?([^|]*?)`? \|", read("reference/recipes.md"), re.MULTILINE))

    for name, field in Recipe.model_fields.items():
        if isinstance(field.default, (bool, int, float, str)) and field.default != "":
            assert rows[name] == str(field.default).lower().removesuffix(".0"), name


def test_every_setting_of_a_factor_is_documented_and_the_example_is_a_recipe() -> None:
    page = read("reference/recipes.md")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)

    for name in FactorSpec.model_fields:
        assert f"| `{name}` |" in page
    assert Recipe.model_validate(yaml.safe_load(example) | {"name": "example"}).bounds() == (0.0, 1.0)


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """URL of a service with test models."""
    with serving(Settings(), None) as url:
        yield url


def test_the_feature_of_the_how_to_is_the_example_package() -> None:
    example = ROOT / "examples/plugin_feature/glassbox_format_score/__init__.py"

    assert EXAMPLES.findall(read("how-to/write-a-feature.md")) == [example.read_text(encoding="utf-8")]


def examples() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, code in enumerate(EXAMPLES.findall(page.read_text(encoding="utf-8")), 1):
            yield f"{page.relative_to(ROOT)}-{number}", code


@pytest.mark.slow
@pytest.mark.parametrize(("code"), [pytest.param(code, id=name) for name, code in examples()])
def test_examples_run(code: str, service: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code.replace("http://127.0.0.1:8000", service)],
        env=os.environ | {"GLASSBOX_URL": service},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
