"""The imports of a source tree, read from its syntax: every module, and what it imports on which line.

modules(folders) ──▶ {module name: file}
imports(modules) ──▶ [Import(importer, target, line)]     pure; nothing is executed
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import resolve_name
from pathlib import Path

__all__ = ["Import", "cycle", "environment_reads", "imports", "modules"]

_DYNAMIC = {"import_module", "__import__"}
_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}


@dataclass(frozen=True)
class Import:
    """One imported name. `target` is a module where the tree has it, else the dotted name as written."""

    importer: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"

    def reaches(self, name: str) -> bool:
        """Whether the target is the module `name` or inside it."""
        return within(self.target, name)


def within(module: str, package: str) -> bool:
    """Whether `module` is `package` or a module inside it."""
    return module == package or module.startswith(f"{package}.")


def modules(folders: Iterable[Path]) -> dict[str, Path]:
    """Every Python file below `folders` by its module name; each folder is an entry of sys.path."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(known: Mapping[str, Path]) -> list[Import]:
    """Every import of the modules `known`: at the top, inside functions, for type checking, by importlib."""
    return [
        Import(module, target, line)
        for module, path in known.items()
        for target, line in _targets(module, path, known)
    ]


def _targets(module: str, path: Path, known: Mapping[str, Path]) -> Iterator[tuple[str, int]]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            for name in (f"{base}.{alias.name}" for alias in node.names):
                yield (name if name in known else base), node.lineno
        elif isinstance(node, ast.Call) and _called(node.func) in _DYNAMIC:
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield resolve_name(argument.value, package), node.lineno


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def cycle(found: Iterable[Import], known: Mapping[str, Path]) -> Sequence[str]:
    """The modules of an import cycle, in order; empty without one."""
    graph: dict[str, set[str]] = {module: set() for module in known}
    for one in found:
        if one.target in known and one.target != one.importer:
            graph[one.importer].add(one.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as exc:
        members: Sequence[str] = exc.args[1]
        return members
    return ()


def environment_reads(path: Path) -> list[int]:
    """The lines on which a file uses the process's environment through `os`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in _ENVIRONMENT]
    imported = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module == "os"
        and any(alias.name in _ENVIRONMENT for alias in node.names)
    ]
    return sorted(used + imported)
