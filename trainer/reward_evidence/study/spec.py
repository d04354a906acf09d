"""A study file: which recipes, seeds, policies and controls to train, with which settings and service.

    STUDY.yaml or the name of a preset ──▶ `extends` merged ──▶ Study ──▶ `planning`

    name: my-study
    recipes: [rer, li, {recipe: glassbox, label: glassbox-60, recipe_overrides: {max_words: 60}}]
    controls: [learning_rate_0, gold]
    seeds: [1, 2, 3]
    settings: {preset: demo, steps: 24}           # options of `glassbox train`
    service: {options: [--gold, demo-gold]}       # started for the study; or {url: http://HOST:8000}

An unknown field is an error that names the nearest known one.
"""

import difflib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from reward_client.errors import validation_errors
from reward_client.urls import API_KEY_VARIABLE
from reward_evidence.study.errors import StudyError

Setting = str | int | float | bool | list[str | int | float]
Control = Literal["learning_rate_0", "gold"]
"""`learning_rate_0`: the first recipe without learning; `gold`: training on the gold reward model itself."""

PRESETS = ("demo", "paper")
_OWNED = {
    "policy": "policies",
    "recipe": "recipes",
    "recipe_override": "recipe_overrides of a recipe",
    "seed": "seeds",
    "reward_url": "service.url",
    "run_dir": "--out",
    "resume": "the same command again",
    "dry_run": "--dry-run of the study",
    "no_evaluate": "nothing: a study needs the evaluation",
}
"""Options of `glassbox train` that a study sets; what to use instead."""


_SHARED = ("max_new_tokens", "heldout", "preset")
"""Options that the evaluation depends on, so runs in which they differ cannot be compared."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for name in values:
                if name not in cls.model_fields:
                    raise ValueError(f"{name}: unknown field; {nearest(str(name), cls.model_fields)}")
        return values


def nearest(name: str, known: Mapping[str, Any] | set[str]) -> str:
    """`did you mean …?`, or the known names."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"the known ones are {', '.join(sorted(known))}"


def _not_owned(settings: dict[str, Setting]) -> dict[str, Setting]:
    for name, value in settings.items():
        if name == "evaluate" and value not in ("during", "after"):
            raise ValueError("evaluate: during or after is required, because a study compares evaluations")
        if (instead := _OWNED.get(name.replace("-", "_"))) is not None:
            raise ValueError(f"{name} is set by the study; use {instead}")
    return {name.replace("-", "_"): value for name, value in settings.items()}


def _has_values(settings: Any) -> Any:
    for name, value in settings.items() if isinstance(settings, dict) else ():
        if not isinstance(value, str | int | float | list):
            raise ValueError(f"{name}: a number, a text, true, false or a list is required")  # noqa: TRY004
    return settings


Settings = Annotated[dict[str, Setting], BeforeValidator(_has_values), AfterValidator(_not_owned)]
"""Options of `glassbox train`, without the leading hyphens: learning_rate, steps, …"""


class Arm(_Part):
    """One reward of the study: a recipe, and what differs for it."""

    recipe: str = Field(min_length=1)
    label: str = ""
    """Name in the report; by default the recipe."""
    recipe_overrides: dict[str, Any] = {}
    settings: Settings = {}

    @property
    def name(self) -> str:
        """The label, or the recipe."""
        return self.label or self.recipe


class Service(_Part):
    """The reward service: one that runs already, or options to start one for the study."""

    url: str | None = Field(default=None, pattern=r"^https?://[^,\s]+(,https?://[^,\s]+)*$")
    options: list[str] = []
    """Options of `glassbox serve`."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.url is not None and self.options:
            raise ValueError("set url, or options for a service that the study starts, not both")
        if "@" in (self.url or ""):
            raise ValueError(f"url contains a user or a key; set the key in {API_KEY_VARIABLE}")
        for name in ("--port", "--host"):
            if any(option.split("=")[0] == name for option in self.options):
                raise ValueError(f"options: {name} is set by the study")
        return self


class RayCluster(_Part):
    """A Ray cluster whose machines train the runs, and what each run needs of one."""

    address: str = Field(default="auto", pattern=r"^(auto|[^\s:/]+:\d+)$")
    """Of the cluster's head, `HOST:6379`; `auto`: the cluster that this machine belongs to."""
    cpus: float = Field(default=1, ge=0)
    gpus: float = Field(default=0, ge=0)
    resources: dict[str, float] = {}
    """Other resources, as the machines were started with."""


class Study(_Part):
    """Everything that a study depends on."""

    name: str = Field(default="study", pattern=r"^[A-Za-z0-9._-]+$")
    recipes: list[Arm] = Field(min_length=1)
    controls: list[Control] = []
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    policies: list[str] = []
    """Models to train; none: the default of `glassbox train`."""
    settings: Settings = {}
    """For every run."""
    openrlhf_options: list[str] = []
    """Passed to OpenRLHF unchanged."""
    baseline: str | None = None
    """The group that the others are compared with; none: every pair is compared."""
    service: Service = Service()
    launcher: list[str] = []
    """Put before the command of each run: `[nice, -n, "19"]`, `[srun, --gpus=1]`."""
    ray: RayCluster | None = None
    """Runs the command of each run on a machine of that cluster."""

    @field_validator("recipes", mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if not isinstance(values, list):
            return values
        return [{"recipe": value} if isinstance(value, str) else value for value in values]

    @field_validator("controls", "seeds", "policies")
    @classmethod
    def _once(cls, values: list[Any]) -> list[Any]:
        if len(set(values)) < len(values):
            raise ValueError("a value is repeated")
        return values

    @model_validator(mode="after")
    def _reachable_from_the_cluster(self) -> Self:
        if self.ray is not None and self.launcher:
            raise ValueError("launcher and ray both start the runs; set one of them")
        if self.ray is not None and self.service.url is None:
            raise ValueError(
                "service.url is missing: with ray, the runs are on other machines, which cannot reach a service "
                "that the study starts on this one"
            )
        return self

    @model_validator(mode="after")
    def _same_evaluation(self) -> Self:
        for arm in self.recipes:
            for name in _SHARED:
                if name in arm.settings:
                    raise ValueError(
                        f"recipes: {arm.name}: settings.{name} must be the same for every run, or they could not "
                        "be compared: put it into the settings of the study"
                    )
        prompts = [
            settings.get("prompts", "embedded")
            for settings in (self.settings, *(a.settings for a in self.recipes))
        ]
        if set(prompts) != {"embedded"} and "heldout" not in self.settings:
            raise ValueError(
                "settings.heldout is missing: without it each seed holds out other prompts, and the runs could "
                "not be compared"
            )
        return self


def read_study(source: str) -> Study:
    """Read a file, or the preset of that name; raise StudyError naming file and field."""
    if source in PRESETS and not Path(source).exists():
        return _validated(_preset(source), f"preset {source}")
    content = _mapping(_text(Path(source)), source)
    if (base := content.pop("extends", None)) is not None:
        if base not in PRESETS:
            raise StudyError(f"{source}: extends: there is no preset {base!r}; {nearest(str(base), set(PRESETS))}")
        content = _merged(_preset(base), content)
    return _validated(content, source)


def _validated(content: dict[str, Any], source: str) -> Study:
    try:
        return Study.model_validate(content)
    except ValidationError as exc:
        raise StudyError(f"{source}: {'; '.join(validation_errors(exc))}") from exc


def _preset(name: str) -> dict[str, Any]:
    text = (files("reward_evidence") / "study" / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return _mapping(text, name)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The preset with the file's fields; settings are merged, everything else is replaced."""
    merged = {**base, **changes}
    if isinstance(changes.get("settings"), dict):
        merged["settings"] = {**base.get("settings", {}), **changes["settings"]}
    return merged


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise StudyError(f"{path} is not UTF-8 text") from exc
    except FileNotFoundError as exc:
        raise StudyError(f"{path} does not exist; the presets are {' and '.join(PRESETS)}") from exc
    except OSError as exc:
        raise StudyError(f"{path} cannot be read: {exc.strerror}") from exc


def _mapping(text: str, source: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise StudyError(f"{source} is not valid YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(content, dict):
        raise StudyError(f"{source}: a mapping with the fields {', '.join(Study.model_fields)} is required")
    return content
