"""Feature plug-ins for tests: packages as pip installs them, made in a temporary folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

__all__ = ["install_plugin"]

_HEADER = """
from reward_service.features import Feature, GoldScore, PromptVectors, RecipeOnly, ReferenceVectors, ResponseText
from reward_service.features import SentenceVectors

def feature(name, needs, compute, **options):
    given = {"range": (0.0, 1.0), "label": name.title(), "log_key": name} | options
    return Feature(name=name, needs=needs, compute=compute, **given)

"""


def install_plugin(
    folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, code: str, *, version: str = "1.0"
) -> None:
    """Install a package whose entry point is FEATURE, which `code` defines, until the end of the test."""
    (folder / f"{package}.py").write_text(_HEADER + code)
    metadata = folder / f"{package}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[glassbox.features]\nmine = {package}:FEATURE\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, package, raising=False)
