"""Imports point one way: service → wire, trainer → client → wire; the maths knows neither torch nor HTTP."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "reward_service": ROOT / "services/reward_service",
    "reward_client": ROOT / "client/reward_client",
    "reward_trainer": ROOT / "trainer/reward_trainer",
}


def imports(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every module imported anywhere below `folder`, also inside functions."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield path, node.module


def offending(folder: Path, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, name in imports(folder)
        if any(name == f or name.startswith(f + ".") for f in forbidden) and name not in allowed
    ]


def test_the_client_imports_neither_torch_nor_service_nor_trainer() -> None:
    forbidden = ("torch", "transformers", "numpy", "fastapi", "reward_service", "reward_trainer")
    assert offending(PACKAGES["reward_client"], forbidden) == []


def test_the_service_takes_only_the_wire_from_the_client_and_nothing_from_the_trainer() -> None:
    forbidden = ("reward_client", "reward_trainer")
    assert (
        offending(
            PACKAGES["reward_service"], forbidden, allowed=("reward_client.wire", "reward_client.cli.command")
        )
        == []
    )


def test_the_trainer_meets_the_service_on_the_wire_only() -> None:
    assert offending(PACKAGES["reward_trainer"], ("reward_service",)) == []


@pytest.mark.parametrize("room", ["whitebox", "errors.py", "scoring.py", "batching.py", "candidates.py", "models"])
def test_http_stays_in_the_api(room: str) -> None:
    place = PACKAGES["reward_service"] / room
    http = ("fastapi", "starlette", "uvicorn", "httpx", "reward_service.http", "reward_service.app")
    folder = place if place.is_dir() else place.parent
    found = [line for line in offending(folder, http) if place.is_dir() or line.split()[0].endswith(f"/{room}")]
    assert found == []


def test_the_maths_is_pure() -> None:
    forbidden = ("torch", "transformers", "sentence_transformers", "time", "asyncio", "threading", "os")
    assert offending(PACKAGES["reward_service"] / "whitebox", forbidden) == []


def test_importing_the_client_loads_no_heavy_library() -> None:
    code = (
        "import sys, reward_client.cli.main; print([m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_settings_read_the_environment_in_the_service() -> None:
    readers = [
        str(path.relative_to(ROOT))
        for path in PACKAGES["reward_service"].rglob("*.py")
        if re.search(r"os\.environ|getenv", path.read_text(encoding="utf-8"))
    ]
    assert [path for path in readers if not path.endswith("settings.py")] == []
