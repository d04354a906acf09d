"""Loads a module out of a framework's checkout, for frameworks without a package; nothing of it is copied here.

The module's own imports from its framework become stand-ins, so that the framework need not be installed. What the
test calls is the framework's code, unchanged.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class _StandIn(ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(MetaPathFinder, Loader):
    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.split(".")[0] == self.package else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _StandIn(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def load(checkout: Path, file: str, names: Mapping[str, Mapping[str, Any]] | None = None) -> ModuleType:
    """The module in `file` of a checkout, which may be a bare git repository, or an unpacked wheel.

    `names` are those that stand-ins have, by module, where a class without members is not enough.
    """
    package = file.partition("/")[0]
    if not any(isinstance(finder, _Finder) and finder.package == package for finder in sys.meta_path):
        sys.meta_path.append(_Finder(package))
    for module_name, values in (names or {}).items():
        vars(import_module(module_name)).update(values)
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = ModuleType(name)
    module.__package__ = name if file.endswith("__init__.py") else name.rpartition(".")[0]
    module.__path__ = []
    sys.modules[name] = module
    exec(compile(_source(checkout, file), file, "exec"), module.__dict__)  # noqa: S102 - that is the purpose
    return module


def _source(checkout: Path, file: str) -> str:
    if (checkout / file).is_file():
        return (checkout / file).read_text(encoding="utf-8")
    shown = ["git", "-C", str(checkout), "show", f"HEAD:{file}"]
    return subprocess.run(shown, capture_output=True, text=True, check=True).stdout
