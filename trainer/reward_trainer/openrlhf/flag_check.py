"""OpenRLHF's own parser and the checks after it, without what they start: no torch, no Ray, no GPU.

    python -m reward_trainer.openrlhf.flag_check cpu|gpu ARGUMENTS ──▶ status 0, or the reason ends standard error

The parser exists only in the body of a script that imports everything, so the body is run without those imports
and without its last step, `train(args)`, in a process of its own, because it reads `sys.argv` and may exit.
Written for openrlhf 0.11.2; the test compares the results with those of the script itself.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from reward_trainer.openrlhf.cpu.hooks import accept_fp32_argument

_SCRIPT = "cli/train_ppo_ray.py"
_PACKAGE = "openrlhf"
_TIMEOUT_S = 60.0


def script() -> Path | None:
    """Return the installed script of OpenRLHF; None when there is none."""
    spec = find_spec(_PACKAGE)
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or []]
    return next((folder / _SCRIPT for folder in folders if (folder / _SCRIPT).is_file()), None)


def refusal(command: Sequence[str], *, has_gpu: bool) -> str | None:
    """Return why the installed OpenRLHF refuses `command`; None when it does not, or is not installed."""
    if script() is None:
        return None
    arguments = [sys.executable, "-m", __name__, "gpu" if has_gpu else "cpu", *command]
    try:
        done = subprocess.run(  # noqa: S603 - our module
            arguments, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"its parser did not end within {_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return None
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return last.split(": error: ")[-1].removeprefix("AssertionError: ")


def parse(path: Path, train: Any) -> None:
    """Run the body of the script at `path`, which reads `sys.argv` and calls `train` with the parsed arguments."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = [part for node in tree.body if isinstance(node, ast.If) for part in node.body]
    names: dict[str, Any] = {"train": train}
    _run((node for node in tree.body if _is_standard(node)), path, names)
    for node in body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{_PACKAGE}."):
            names |= _imported(node, path.parents[1])
        else:
            _run([node], path, names)


def _is_standard(node: ast.stmt) -> bool:
    """Whether `node` imports modules of the standard library only."""
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in sys.stdlib_module_names
    return isinstance(node, ast.Import) and all(
        alias.name.split(".")[0] in sys.stdlib_module_names for alias in node.names
    )


def _run(nodes: Iterable[ast.stmt], path: Path, names: dict[str, Any]) -> None:
    code = compile(ast.Module(list(nodes), type_ignores=[]), str(path), "exec")
    exec(code, names)  # noqa: S102 - the installed package, which the run will execute too


def _imported(node: ast.ImportFrom, package: Path) -> dict[str, Any]:
    """The names that `node` imports, from the file itself: importing its package would import torch."""
    file = package.joinpath(*(node.module or "").split(".")[1:]).with_suffix(".py")
    spec = spec_from_file_location(f"_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {file}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}


def main() -> int:
    """Parse the arguments of this process after the first; return the exit status."""
    path = script()
    if sys.argv.pop(1) == "cpu":
        accept_fp32_argument()
    if path is None:
        sys.stderr.write(f"{_PACKAGE} is not installed\n")
        return 1
    parse(path, lambda _: None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
