"""The command `glassbox`: discovery of subcommands, help, missing packages, completion."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint, packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from reward_client import __version__
from reward_client.cli.command import GROUP, Command, discover
from reward_client.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENTRY_POINTS = [EntryPoint(name, value, GROUP) for name, value in PROJECT["entry-points"][GROUP].items()]

PLUGIN = """
from reward_client.cli.command import Command

def configure(parser):
    parser.add_argument("--times", type=int)

def run(arguments, argv):
    print(arguments.times, argv)
    return 7

def imports(arguments, argv):
    import absent_library.part

ECHO = Command("echo", "print the arguments", configure, run)
LATE = Command("late", "import at run time", configure, imports, extra="service")
ABSENT = (
    Command("absent", "need a package", configure, run, extra="train", needs=("sys", "absent_library")),
)
TWICE = Command("score", "a name that is taken", configure, run)
WRONG = "echo"
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that is not ours; yields the name of its module."""
    (tmp_path / "echo_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "echo_plugin"
    sys.modules.pop("echo_plugin", None)


def point(value: str) -> list[EntryPoint]:
    return [EntryPoint("plugin", value, GROUP)]


def usage(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The help text printed for `argv`."""
    with pytest.raises(SystemExit) as ended:
        main(argv, ENTRY_POINTS)
    assert ended.value.code == 0
    return capsys.readouterr().out


# Discovery ------------------------------------------------------------------------------------------------------


def test_all_commands_of_this_distribution_are_found() -> None:
    commands, problems = discover(ENTRY_POINTS)

    assert list(commands) == [
        "annotate", "best-of-n", "calibrate", "completion", "datasets", "diff", "doctor", "evaluate", "fit-gold",
        "probe", "recipes", "report", "score", "serve", "study", "train",
    ]  # fmt: skip
    assert problems == []


def test_a_command_of_another_package_runs_with_its_arguments(
    plugin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["echo", "--times", "3"], point(f"{plugin}:ECHO")) == 7
    assert capsys.readouterr().out == "3 ['--times', '3']\n"


@pytest.mark.parametrize(
    ("value", "warning"),
    [
        ("no_such_module:ECHO", "cannot be loaded: ModuleNotFoundError"),
        ("echo_plugin:WRONG", "it must refer to a Command or a tuple of Commands"),
        ("echo_plugin:TWICE", "a command 'score' exists already"),
    ],
)
def test_an_unusable_entry_point_is_a_warning_and_leaves_the_other_commands_usable(
    plugin: str, value: str, warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["score", "--help"], point(value))

    printed = capsys.readouterr()
    assert ended.value.code == 0
    assert printed.out.startswith("usage: glassbox score")
    assert warning in printed.err


# Help and errors ------------------------------------------------------------------------------------------------


def test_the_overview_lists_every_command_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    printed = usage(capsys, "--help")

    for name, command in discover(ENTRY_POINTS)[0].items():
        assert any(line.split()[:1] == [name] and command.summary in line for line in printed.splitlines())


@pytest.mark.parametrize("name", list(discover(ENTRY_POINTS)[0]))
def test_the_help_of_every_command_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = usage(capsys, name, "--help")

    assert printed.startswith(f"usage: glassbox {name}")
    assert f"glassbox {name}" in printed.lower().partition("example")[2]


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert usage(capsys, "--version") == f"glassbox {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["scor"], "did you mean 'score'?"),
        (["evalute", "--run-dir", "x"], "did you mean 'evaluate'?"),
        (["xyz"], "the commands are annotate, best-of-n, calibrate, completion, datasets"),
    ],
)
def test_an_unknown_command_is_an_error_that_names_the_nearest(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv, ENTRY_POINTS) == 2
    assert message in capsys.readouterr().err


def test_without_a_command_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([], ENTRY_POINTS)

    assert ended.value.code == 2
    assert "a command is required: annotate, best-of-n, calibrate" in capsys.readouterr().err


def test_abbreviated_options_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["score", "in", "out", "--overw"], [])

    assert ended.value.code == 2
    assert "unrecognized arguments: --overw" in capsys.readouterr().err


# Packages that are not installed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "extra"),
    [("absent", "echo_plugin:ABSENT", "train"), ("late", "echo_plugin:LATE", "service")],
)
def test_a_command_whose_packages_are_missing_names_the_extra_in_one_sentence(
    plugin: str, name: str, value: str, extra: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name], point(value)) == 2
    expected = f"glassbox {name} needs absent_library, which is not installed: install glassbox-reward[{extra}]\n"
    assert capsys.readouterr().err == expected


def test_the_overview_names_the_extra_of_a_command_that_is_not_available(
    plugin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"], point(f"{plugin}:ABSENT"))

    assert "need a package (not available: install glassbox-reward[train])" in capsys.readouterr().out


CALL_MAIN = f"""
import sys
from importlib.metadata import EntryPoint
from reward_client.cli.main import main

points = {[(entry.name, entry.value) for entry in ENTRY_POINTS]!r}
sys.exit(main({{argv!r}}, [EntryPoint(name, value, {GROUP!r}) for name, value in points]))
"""

BASE_INSTALL = (
    "httpx", "httpcore", "h11", "anyio", "idna", "certifi", "sniffio",
    "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection",
)  # fmt: skip
"""Modules of the base install: httpx, pydantic and what they need."""


def base_install(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run `glassbox` in an interpreter that finds our packages and the base install, and nothing else."""
    for name in BASE_INSTALL:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue  # not needed with these versions
        origin = Path(spec.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        (folder / source.name).symlink_to(source)
    paths = [str(folder), *(str(ROOT / part) for part in ("client", "services", "trainer"))]
    code = f"import sys; sys.path += {paths!r}\n{CALL_MAIN.format(argv=list(argv))}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("argv", "status", "out", "err"),
    [
        (["--help"], 0, "start the reward service (not available: install glassbox-reward[service])", ""),
        (["score", "--help"], 0, "usage: glassbox score", ""),
        (
            ["serve"],
            2,
            "",
            "glassbox serve needs fastapi, which is not installed: install glassbox-reward[service]",
        ),
        (["train"], 2, "", "glassbox train needs torch, which is not installed: install glassbox-reward[train]"),
    ],
)
def test_with_the_base_install_the_client_works_and_other_commands_name_their_extra(
    argv: list[str], status: int, out: str, err: str, tmp_path: Path
) -> None:
    done = base_install(tmp_path, *argv)

    assert (done.returncode, done.stderr.strip()) == (status, err)
    assert out in done.stdout


def test_every_module_that_a_command_needs_is_of_a_package_that_is_installed_by_constraints() -> None:
    distributions = packages_distributions()
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().splitlines()
    pinned = {line.partition("==")[0].replace("_", "-") for line in lines}
    for name, command in discover(ENTRY_POINTS)[0].items():
        for module in command.needs:
            found = {distribution.lower().replace("_", "-") for distribution in distributions.get(module, ())}
            assert found & pinned, f"{name} needs {module}"


def test_the_overview_imports_no_heavy_library() -> None:
    heavy = ("torch", "numpy", "pandas", "fastapi", "pydantic_settings", "matplotlib", "ray")
    report = f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    code = f"import atexit, sys\natexit.register(lambda: {report})\n{CALL_MAIN.format(argv=['--help'])}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"


# completion -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_bash_script_completes_commands_and_options() -> None:
    script = subprocess.run(
        [sys.executable, "-m", "reward_client.cli", "completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    complete = (
        f"{script}\nCOMP_WORDS=(glassbox sco); COMP_CWORD=1; _shtab_glassbox glassbox sco glassbox\n"
        'echo "${COMPREPLY[@]}"\n'
        "COMP_WORDS=(glassbox score --over); COMP_CWORD=2; _shtab_glassbox glassbox --over score\n"
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["/bin/bash", "-c", complete], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["score", "--overwrite"]


def test_a_command_is_listed_as_missing_only_for_modules_that_do_not_exist() -> None:
    def run(_: argparse.Namespace, __: object) -> int:
        return 0

    command = Command("x", "y", lambda parser: None, run, needs=("json", "absent_library"))

    assert command.missing() == ["absent_library"]
