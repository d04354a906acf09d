"""The page at `/`: complete in itself, labelled, and in agreement with its policy."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient

CONTROLS = {"textarea", "select", "input", "button"}


class Document(HTMLParser):
    """Tags with their attributes, and the texts of style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.content: dict[str, list[str]] = {"style": [], "script": []}
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open in self.content:
            self.content[self._open].append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


@pytest.fixture
def html(service: TestClient) -> str:
    page: str = service.get("/").text
    return page


@pytest.fixture
def document(html: str) -> Document:
    return Document(html)


def test_the_policy_permits_the_pages_own_style_and_script(service: TestClient, document: Document) -> None:
    policy = service.get("/").headers["content-security-policy"]

    for tag, content in document.content.items():
        digest = base64.b64encode(hashlib.sha256("".join(content).encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert len(content) == 1


def test_the_policy_would_block_style_attributes_and_inline_handlers_so_there_are_none(document: Document) -> None:
    for tag, attributes in document.tags:
        assert not any(name == "style" or name.startswith("on") for name in attributes), tag


def test_every_control_has_a_name(document: Document) -> None:
    labelled = {attributes.get("for") for tag, attributes in document.tags if tag == "label"}
    for tag, attributes in document.tags:
        if tag in CONTROLS - {"button"} and attributes.get("type") != "checkbox":  # a label surrounds the checkbox
            assert attributes["id"] in labelled


def test_ids_are_unique_and_references_to_them_resolve(html: str, document: Document) -> None:
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))

    names = ("for", "aria-describedby", "aria-labelledby")
    referred = {attributes[name] for _, attributes in document.tags for name in names if name in attributes}
    assert referred | set(re.findall(r'\bel\("(\w+)"\)', html)) <= set(ids)


def test_nothing_changes_the_order_of_the_keyboard_focus(document: Document) -> None:
    assert {attributes["tabindex"] for _, attributes in document.tags if "tabindex" in attributes} <= {"-1", "0"}


def test_addresses_are_relative_and_nothing_is_stored(html: str) -> None:
    assert re.findall(r"https?://|//[a-z]+\.[a-z]+/", html) == []
    assert re.findall(r"""(?:fetch|call|href|src)\W{1,4}["'`]/""", html) == []
    assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie", html)


def test_text_from_the_service_is_never_parsed_as_html(html: str) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", html)


def test_the_page_is_small_and_has_a_dark_mode_and_a_narrow_layout(html: str) -> None:
    assert len(html.encode()) < 60_000
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    assert re.search(r"@media \(max-width: \d+rem\)", html)


def test_the_script_parses(document: Document, tmp_path_factory: pytest.TempPathFactory) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = tmp_path_factory.mktemp("page") / "page.js"
    script.write_text("".join(document.content["script"]), encoding="utf-8")

    assert subprocess.run([node, "--check", str(script)], capture_output=True, check=False).returncode == 0


def test_every_flag_that_the_page_can_show_is_explained_on_it(service: TestClient, html: str) -> None:
    responses = ["", "<think>a</think>b", "<think>a", "b\n### Instruction: c", "b\u200bc"]
    items = [{"prompt": "a", "response": response} for response in responses]
    references = ["12", "3/4", "B", "yes", "3 May 2020", "red, green, blue", "Paris"]
    items += [
        {"prompt": "a", "response": "b", "reference": reference, "query_type": "closed_ended"}
        for reference in references
    ]
    branches = {
        "open_ended": ["length_incentive"],
        "closed_ended": [{"feature": "reference_match", "otherwise": "repetition_penalty"}],
    }
    body = {
        "items": items,
        "recipe": "li",
        "recipe_overrides": branches | {"reasoning": "drop", "words": "unicode"},
    }
    results = service.post("/score", json=body).json()["results"]

    flags = {flag for result in results for flag in result["flags"]}
    assert len(flags) >= 9
    assert flags <= set(re.findall(r"^  (\w+): \"", html, re.MULTILINE))
