"""The installed OpenRLHF against the release that the trainer is written for: its version, and its parser's flags.

OpenRLHF's parser accepts abbreviations, so a flag that a release has renamed may set another option. The parser
exists only inside a script, whose source is read here.
"""

import ast
import importlib.metadata
import importlib.util
import re
from collections.abc import Sequence

from reward_trainer.openrlhf.flag_check import script
from reward_trainer.preflight import OPENRLHF


def notes(command: Sequence[str]) -> list[str]:
    """Warnings about the installed release and the flags of `command`; none if OpenRLHF is not installed."""
    if importlib.util.find_spec("openrlhf") is None:
        return []
    path = script()
    source = "" if path is None else path.read_text(encoding="utf-8")
    return [*version_notes(_version()), *flag_notes(command, source)]


def _version() -> str | None:
    """None for a source checkout on the path, which has no metadata."""
    try:
        return importlib.metadata.version("openrlhf")
    except importlib.metadata.PackageNotFoundError:
        return None


def version_notes(version: str | None) -> list[str]:
    """A warning when the release is another one, or unknown (None)."""
    if version == OPENRLHF:
        return []
    if version is None:
        return [
            f"OpenRLHF is not an installed package, and its version is unknown; this trainer is written for "
            f"{OPENRLHF} and was run with no other"
        ]
    return [f"OpenRLHF {version} is installed; this trainer is written for {OPENRLHF} and was run with no other"]


def flag_notes(command: Sequence[str], source: str) -> list[str]:
    """A warning when the parser in `source` does not define flags of `command`."""
    known = re.compile("|".join(_patterns(source)) or r"(?!)")
    flags = dict.fromkeys(part.partition("=")[0] for part in command if part.startswith("--"))
    if unknown := [flag for flag in flags if not known.fullmatch(flag)]:
        return [
            f"the installed OpenRLHF does not define {', '.join(unknown)}: it refuses such a flag, or takes it "
            "for the beginning of another one"
        ]
    return []


def _patterns(source: str) -> list[str]:
    """A regular expression for each flag of the parser; some are formatted, as `--{model}.adam.lr`."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [call for call in calls if getattr(call.func, "attr", None) == "add_argument"]
    return [_pattern(name) for call in named for name in call.args]


def _pattern(name: ast.expr) -> str:
    parts = name.values if isinstance(name, ast.JoinedStr) else [name]
    return "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"[\w-]+" for part in parts)
