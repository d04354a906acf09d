"""Imports between packages follow the layers below, and every module belongs to a layer.

wire ◀── client ◀── cli                    the client installs without torch and without the service
   ▲ ◀── query types ◀── cli, scoring      the classifier of query types: pure Python, shared by client and service
   ▲        ▲
   │        └── runs ◀── evidence ◀── trainer
   └── service: errors, settings, fair share ◀── features, batching ◀── models, data sets ◀── scoring
                                             scoring ◀── http, admission ◀── protocols
                                             models, client ◀── remote models, which send requests
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.import_graph import Import, cycle, environment_reads, imports, modules, within

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / name for name in ("client", "services", "trainer")]
MODULES = modules(SOURCES)
IMPORTS = imports(MODULES)

LAYERS = {
    "reward_client.wire": "wire",
    "reward_client": "client",
    "reward_client.*": "client",
    "reward_client.query_types": "query types",
    "reward_client.embedded_models": "embedded models",
    "reward_client.base_weights": "base weights",
    "reward_client.writing": "writing",
    "reward_client.adapters": "adapters",
    "reward_client.tables": "tables",
    "reward_client.annotate": "annotate",
    "reward_client.hub": "hub",
    "reward_client.probe": "probe",
    "reward_client.diff": "diff",
    "reward_client.doctor": "doctor",
    "reward_client.cli": "cli",
    "reward_runs": "runs",
    "reward_runs.*": "runs",
    "reward_evidence": "evidence",
    "reward_evidence.*": "evidence",
    "reward_evidence.best_of_n": "evidence",
    "reward_evidence.comparison": "evidence",
    "reward_evidence.engineer": "evidence",
    "reward_evidence.evaluation": "evidence",
    "reward_evidence.report": "evidence",
    "reward_evidence.sampling": "evidence",
    "reward_evidence.statistics": "evidence",
    "reward_evidence.study": "evidence",
    "reward_trainer": "trainer",
    "reward_trainer.*": "trainer",
    "reward_trainer.gold": "trainer",
    "reward_trainer.openrlhf": "openrlhf",
    "reward_trainer.on_ray": "cluster",
    "run": "trainer",
    "reward_service": "service",
    "reward_service.errors": "errors",
    "reward_service.fair_share": "fair share",
    "reward_service.cpu_limit": "cpu limit",
    "reward_service.environment": "settings",
    "reward_service.settings": "settings",
    "reward_service.telemetry": "telemetry",
    "reward_service.features": "features",
    "reward_service.batching": "batching",
    "reward_service.models": "models",
    "reward_service.models.remote": "remote models",
    "reward_service.datasets": "data sets",
    "reward_service.scoring": "scoring",
    "reward_service.http": "http",
    "reward_service.admission": "admission",
    "reward_service.protocols": "protocols",
    "reward_service.protocols.base": "protocol spec",
    "reward_service.process": "process",
    "reward_service.process.cpu_scheduling": "cpu scheduling",
    "reward_service.app": "wiring",
    "reward_service.model_workers": "wiring",
    "reward_service.ray_app": "wiring",
    "reward_service.__main__": "wiring",
    "reward_service.commands": "wiring",
    "reward_service.recipe_command": "wiring",
}
"""Module or folder → layer. A folder's entry covers everything in it, but the entry of a top-level package covers
only its `__init__`, and `package.*` the modules directly in it: each folder needs an entry."""

FIRST_PARTY = {name.split(".")[0] for name in LAYERS}

_CLIENT = {"wire", "client", "writing"}
_SERVICE_CORE = {"wire", "errors", "settings", "features", "batching", "models", "data sets", "scoring"}
_SERVICE_HTTP = _SERVICE_CORE | {"fair share", "protocol spec", "telemetry", "http", "admission"}

MAY_IMPORT: dict[str, set[str]] = {
    "wire": set(),
    "client": {"wire", "writing"},
    "query types": {"wire"},
    "adapters": _CLIENT,
    "tables": _CLIENT | {"adapters"},
    "annotate": _CLIENT | {"query types"},
    "probe": _CLIENT,
    "diff": _CLIENT,
    "embedded models": {"writing"},
    "base weights": {"embedded models", "hub"},
    "writing": set(),
    "cluster": set(),
    "hub": _CLIENT,
    "doctor": _CLIENT | {"adapters"},
    "cli": _CLIENT | {"adapters", "annotate", "probe", "diff", "hub", "doctor"},
    "runs": _CLIENT,
    "evidence": _CLIENT | {"runs", "cli", "hub", "probe", "embedded models"},
    "trainer": _CLIENT
    | {"runs", "cli", "hub", "evidence", "openrlhf", "probe", "embedded models", "base weights"},
    "openrlhf": _CLIENT | {"runs", "evidence", "trainer"},
    "service": {"wire"},
    "errors": {"wire"},
    "settings": {"wire", "embedded models", "errors"},
    "telemetry": {"wire", "errors", "settings", "batching"},
    "features": {"wire", "errors", "settings", "cpu limit"},
    "cpu limit": set(),
    "fair share": set(),
    "batching": {"errors", "fair share", "cpu scheduling"},
    "models": {"wire", "embedded models", "base weights", "errors", "settings", "batching"},
    "remote models": _CLIENT | {"errors", "batching", "models"},
    "data sets": {"wire", "errors", "settings", "fair share"},
    "scoring": {"wire", "query types", "errors", "settings", "features", "batching", "models", "data sets"},
    "protocol spec": _SERVICE_CORE,
    "admission": _SERVICE_HTTP,
    "http": _SERVICE_HTTP,
    "protocols": _SERVICE_HTTP,
    "cpu scheduling": set(),
    "process": {"errors", "settings", "fair share", "telemetry", "cpu scheduling", "wiring"},
    "wiring": _SERVICE_HTTP | {"protocols", "process", "cpu scheduling", "cli", "hub", "remote models"},
}
"""Layer → the layers that it may import besides itself."""

_WEB = ("fastapi", "starlette", "uvicorn", "httptools", "jinja2", "prometheus_client")
_LEARNING = ("torch", "transformers", "sentence_transformers", "openvino", "safetensors")
_TRAINING = ("openrlhf", "ray", "deepspeed", "vllm", "peft", "datasets")
_CLOCK = ("time", "asyncio", "threading", "os")

MAY_NOT_IMPORT: dict[str, tuple[str, ...]] = {
    "wire": (*_WEB, *_LEARNING, *_TRAINING, "numpy", "httpx"),
    "query types": (*_WEB, *_LEARNING, *_TRAINING, *_CLOCK, "numpy", "httpx"),
    "client": (*_WEB, *_LEARNING, *_TRAINING, "numpy"),
    "embedded models": (*_WEB, *_TRAINING, "numpy", "httpx"),
    "base weights": (*_WEB, *_LEARNING, *_TRAINING, "numpy", "httpx"),
    "probe": (*_WEB, *_LEARNING, *_TRAINING, "numpy"),
    "tables": (*_WEB, *_LEARNING, *_TRAINING[:-1], "numpy"),
    "annotate": (*_WEB, *_LEARNING, *_TRAINING, "numpy"),
    "diff": (*_WEB, *_LEARNING, *_TRAINING, "numpy"),
    "doctor": (*_WEB, "torch", *_TRAINING, "numpy"),
    "cli": (*_WEB, *_LEARNING, *_TRAINING, "numpy"),
    "runs": (*_WEB, *_LEARNING, "openrlhf", "ray", "deepspeed", "vllm", "peft"),
    "evidence": (*_WEB[:-2], *_TRAINING),
    "trainer": (*_WEB[:-2], *_TRAINING),
    "features": (*_WEB, *_LEARNING, *_TRAINING, *_CLOCK, "httpx"),
    "batching": (*_WEB, *_LEARNING, *_TRAINING, "httpx"),
    "models": (*_WEB[:-2], *_TRAINING, "httpx"),
    "remote models": (*_WEB, *_TRAINING, "torch"),
    "data sets": (*_WEB, *_LEARNING, *_TRAINING, "httpx"),
    "scoring": (*_WEB, *_TRAINING, "httpx"),
    "http": (*_LEARNING, *_TRAINING),
    "admission": (*_LEARNING, *_TRAINING),
    "protocol spec": (*_WEB, *_LEARNING, *_TRAINING),
    "protocols": (*_LEARNING, *_TRAINING),
}
"""Layer → libraries that it may not import. Models render chat templates with jinja2."""


def layer(module: str) -> str | None:
    """The layer of `module`; None when no entry of LAYERS covers it."""
    package, *inner = parts = module.split(".")
    for n in range(len(parts), 1, -1):
        if (name := ".".join(parts[:n])) in LAYERS:
            return LAYERS[name]
    if len(inner) == 1 and MODULES[module].name != "__init__.py":
        return LAYERS.get(f"{package}.*")
    return None if inner else LAYERS.get(package)


def violations(found: list[Import]) -> list[str]:
    """Each import that MAY_IMPORT or MAY_NOT_IMPORT excludes."""
    wrong = []
    for one in found:
        importer = layer(one.importer) or ""
        if one.target.split(".")[0] in FIRST_PARTY:
            target = layer(one.target)
            allowed = target == importer or target in MAY_IMPORT[importer]
        else:
            allowed = not any(one.reaches(library) for library in MAY_NOT_IMPORT.get(importer, ()))
        if not allowed:
            wrong.append(str(one))
    return wrong


def test_every_module_belongs_to_a_layer() -> None:
    """A new folder, or a new module at the top of the service, gets an entry in LAYERS and with it a rule."""
    assert [module for module in MODULES if layer(module) is None] == []


def test_every_entry_names_something_that_exists() -> None:
    stale = [name for name in LAYERS if not any(within(module, name.removesuffix(".*")) for module in MODULES)]

    assert stale == []
    assert set(LAYERS.values()) == set(MAY_IMPORT)


def test_imports_follow_the_layers() -> None:
    assert violations(IMPORTS) == []


def test_no_modules_import_each_other_in_a_cycle() -> None:
    assert cycle(IMPORTS, MODULES) == ()


def test_only_settings_reads_the_environment_in_the_service() -> None:
    readers = [
        f"{module}:{line}"
        for module, path in MODULES.items()
        if within(module, "reward_service") and module != "reward_service.settings"
        for line in environment_reads(path)
    ]

    assert readers == []


def test_importing_the_client_loads_no_heavy_library() -> None:
    code = (
        "import sys, reward_client, reward_client.cli.main\n"
        "print([m for m in ('torch', 'numpy', 'pandas', 'fastapi') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


# The reader itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "import package.b",
        "import package.b as other",
        "from package import b",
        "from package.b import name",
        "from . import b",
        "from .b import name",
        "def f():\n    from package.b import name",
        "if TYPE_CHECKING:\n    import package.b",
        "import importlib\nimportlib.import_module('package.b')",
        "from importlib import import_module\nimport_module('.b', __package__)",
        "__import__('package.b')",
    ],
)
def test_every_form_of_import_is_read(statement: str, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    for name, text in {"__init__": "", "a": statement, "b": "name = 1"}.items():
        (package / f"{name}.py").write_text(text)

    found = imports(modules([tmp_path]))

    assert "package.b" in {one.target for one in found if one.importer == "package.a"}


def test_a_cycle_is_found_across_a_package_and_a_function(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from package.a import f")
    (package / "a.py").write_text("from package import b\ndef f(): ...")
    (package / "b.py").write_text("def g():\n    from package import f\n    return f")
    known = modules([tmp_path])

    assert set(cycle(imports(known), known)) == {"package", "package.a", "package.b"}


@pytest.mark.parametrize("text", ["import os\nos.environ", "import os\nos.getenv('X')", "from os import environ"])
def test_every_use_of_the_environment_is_found(text: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)

    assert environment_reads(path) != []


@pytest.mark.parametrize(
    "wrong",
    [
        Import("reward_client.client", "reward_service.errors", 1),
        Import("reward_client.wire", "reward_client.client", 1),
        Import("reward_service.scoring.job", "reward_service.http.auth", 1),
        Import("reward_service.scoring.job", "reward_client.client", 1),
        Import("reward_service.batching.worker", "starlette.requests", 1),
        Import("reward_service.features.text", "torch", 1),
        Import("reward_runs.layout", "reward_evidence.evaluation.store", 1),
        Import("reward_evidence.evaluate", "reward_trainer.config", 1),
        Import("reward_service.errors", "reward_runs.errors", 1),
    ],
    ids=str,
)
def test_a_wrong_import_is_a_violation(wrong: Import) -> None:
    assert violations([wrong]) == [str(wrong)]
