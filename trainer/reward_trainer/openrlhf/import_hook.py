"""An import hook: provides stand-in modules, and patches a real module directly after its import.

import vllm      ──▶ a stand-in: a function returns its names at import, not at start-up
import deepspeed ──▶ the real module, then patches["deepspeed"](module)
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any

Patch = Callable[[ModuleType], None]
Names = Callable[[], Mapping[str, Any]]
"""Returns the names of a stand-in module; called when the module is imported."""


def install(*, stand_ins: Mapping[str, Names], patches: Mapping[str, Patch]) -> None:
    """Insert the hook first in `sys.meta_path`; patch modules that are already imported immediately."""
    sys.meta_path.insert(0, _Hook(stand_ins, patches))
    for name, patch in patches.items():
        if name in sys.modules:
            patch(sys.modules[name])


class _Hook(MetaPathFinder):
    def __init__(self, stand_ins: Mapping[str, Names], patches: Mapping[str, Patch]) -> None:
        self._stand_ins = stand_ins
        self._patches = dict(patches)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in self._stand_ins:
            loader = _StandInLoader(self._stand_ins[fullname])
            return importlib.machinery.ModuleSpec(fullname, loader, is_package=True)
        patch = self._patches.pop(fullname, None)  # removed first: the search below calls this method again
        if patch is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _PatchingLoader(spec.loader, patch)
        return spec


class _StandInLoader(Loader):
    def __init__(self, names: Names) -> None:
        self._names = names

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(self._names())


class _PatchingLoader(Loader):
    """The real loader, followed by the patch."""

    def __init__(self, real: Loader, patch: Patch) -> None:
        self._real = real
        self._patch = patch

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        self._patch(module)

    def __getattr__(self, name: str) -> Any:
        """Delegate the other methods of the real loader (`get_source`, resource readers)."""
        return getattr(self._real, name)
