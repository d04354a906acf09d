"""The vocabulary check finds a listed word in prose, with file and line, and ignores code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.vocabulary import ROOT, count, pattern


def found(path: Path) -> list[tuple[str, int, str]]:
    return [(file.name, line, match) for file, line, match in count(path, pattern()).matches]


def test_a_listed_word_is_found_in_docstrings_and_comments(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text('"""A module.\n\nIt waits for whoever calls.\n"""\n\nx = 1  # nobody reads it\n')

    assert found(tmp_path) == [("module.py", 3, "whoever"), ("module.py", 6, "nobody")]


def test_statements_and_string_literals_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text('whoever = "nobody"\nprint(f"{whoever} stands")\n')

    assert found(tmp_path) == []
    assert count(tmp_path, pattern()).words == 0


def test_a_listed_word_is_found_in_markdown_after_a_code_block(tmp_path: Path) -> None:
    blocks = "    whoever --indented\n\n```\nwhoever --fenced\n```\n"
    (tmp_path / "page.md").write_text(f"# Title\n\n{blocks}\nCall `whoever` first.\nAnd whoever waits.\n")

    assert found(tmp_path) == [("page.md", 10, "whoever")]


def test_a_wrapped_list_entry_is_prose(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("- An entry of the list that\n    nobody indents by two.\n")

    assert found(tmp_path) == [("page.md", 2, "nobody")]


@pytest.mark.parametrize("text", ["The client sends a request.", "A standard term.", "The queue is full."])
def test_plain_sentences_have_no_match(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text)

    assert found(tmp_path) == []


def test_the_command_ends_quietly_when_its_reader_does(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("nobody\n" * 100_000)
    command = [sys.executable, "-m", "tools.vocabulary", "--show", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()

    assert errors == b""
