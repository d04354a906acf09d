"""Settings of a run, validated when they are created, and the presets that they start from.

Conflicting settings are rejected here, before anything is loaded. That includes batch sizes that OpenRLHF accepts
although it then trains on a part of the rollouts only.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from reward_client.errors import validation_errors
from reward_client.urls import API_KEY_VARIABLE, split_urls
from reward_evidence.sampling.policy_folder import EMBEDDED_POLICY
from reward_runs.errors import ConfigError
from reward_trainer.stop_rules import StopRule

Estimator = Literal["group_norm", "reinforce_baseline", "reinforce", "rloo", "gae", "dr_grpo"]
ESTIMATORS: tuple[Estimator, ...] = ("group_norm", "reinforce_baseline", "reinforce", "rloo", "gae", "dr_grpo")
GROUP_ESTIMATORS = frozenset({"group_norm", "reinforce_baseline", "rloo", "dr_grpo"})
"""Estimators that use the other samples of the same prompt as baseline."""

OWNED_FLAGS = frozenset(
    {
        "--reward.remote_url",
        "--train.agent_func_path",
        "--data.prompt_dataset",
        "--data.input_key",
        "--data.label_key",
        "--ckpt.path",
        "--ckpt.output_dir",
        "--ckpt.load_enable",
    }
)
"""OpenRLHF flags that the launcher sets, because the run directory depends on them; not accepted as raw flags."""

DEFAULT_RECIPE = "glassbox"
NO_RULES = "none"

PRESETS: dict[str, dict[str, Any]] = {
    "demo": {
        "steps": 12,
        "save_every": 2,
        "prompts_per_step": 8,
        "samples_per_prompt": 4,
        "micro_batch_size": 4,
        "max_new_tokens": 128,
        "temperature": 0.7,
        "learning_rate": 2e-5,
        "estimator": "group_norm",
        "kl_coefficient": 0.0,
    },
    "paper": {
        "recipe": "rer-reference",
        "steps": 10_000,
        "save_every": 500,
        "prompts_per_step": 16,
        "samples_per_prompt": 1,
        "train_batch_size": 8,
        "micro_batch_size": 2,
        "epochs_per_batch": 4,
        "max_new_tokens": 512,
        "max_prompt_tokens": 512,
        "learning_rate": 1e-5,
        "estimator": "gae",
        "advantage_lambda": 0.95,
        "value_clip": 0.2,
        "kl_coefficient": 0.2,
        "kl_target": 6.0,
    },
    "tiny": {
        "steps": 2,
        "save_every": 1,
        "prompts_per_step": 2,
        "samples_per_prompt": 2,
        "micro_batch_size": 2,
        "max_new_tokens": 16,
        "learning_rate": 1e-3,
        "estimator": "group_norm",
        "kl_coefficient": 0.01,
    },
}
"""`demo` learns in a quarter of an hour on two cores, at the temperature of the evaluation: at 1 its small policy
writes nonsense. `paper` is the published setting, so its recipe has the paper's arithmetic, calibrated for
facebook/contriever: with a service of another encoder the run is refused before it starts, and `--recipe rer` is
the paper's reward on any encoder. `tiny` is a smoke test: its two steps teach nothing."""


def _check_raw_flags(flags: tuple[str, ...]) -> tuple[str, ...]:
    for name in (flag.split("=")[0] for flag in flags):
        if name in OWNED_FLAGS:
            raise ValueError(f"{name} is set by the launcher and cannot be given as a raw OpenRLHF flag")
        if name.startswith("--ds.lora."):
            raise ValueError(
                f"{name}: OpenRLHF 0.11 cannot load LoRA weights into its rollout engine (its issue 1349)"
            )
    return flags


def _check_no_key(url: str) -> str:
    """Settings are written to files and logs, so they must not contain a key."""
    if "@" in url:
        raise ValueError(f"contains a user or a key; set the key in the environment variable {API_KEY_VARIABLE}")
    return url


def _evaluate_of_0_2(value: object) -> object:
    """Read the record of a run of release 0.2, in which this was a bool."""
    return {True: "after", False: "never"}.get(value, value) if isinstance(value, bool) else value


def _check_stop_rules(rules: tuple[str, ...]) -> tuple[str, ...]:
    if rules == (NO_RULES,):
        return ()
    for rule in rules:
        StopRule.parse(rule)
    return rules


class Config(BaseModel):
    """Every setting of a run; part of its `RunRecord`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    reward_url: Annotated[str, AfterValidator(_check_no_key)] = Field(
        pattern=r"^https?://[^,\s]+(,https?://[^,\s]+)*$"
    )
    """Address of the reward service, without path and key; several replicas are separated by commas."""
    run_dir: str = Field(min_length=1)
    policy: str = EMBEDDED_POLICY
    """`smollm2-135m-instruct`, a folder, or a Hugging Face id."""

    prompts: str = "embedded"
    """`embedded`, a .jsonl, .json, .csv or .parquet file, or a Hugging Face dataset."""
    heldout: str | None = None
    """Held-out prompts, in the same forms; None: the embedded ones, or a part of `prompts`."""
    n_heldout: int = Field(default=64, ge=1)
    """Number of `prompts` to hold out if `heldout` is not set."""
    prompt_column: str = "prompt"
    reference_column: str = "reference"
    query_type_column: str = "query_type"
    query_type_default: Literal["open_ended", "closed_ended"] | None = None
    """Query type of prompts that have a reference and no query type; None: such a prompt is an error."""
    system_prompt: str | None = None
    """System message before each prompt; None: the default of the policy's chat template."""

    recipe: str = DEFAULT_RECIPE
    recipe_overrides: dict[str, Any] = {}
    gold: bool = False
    """Also log the gold reward at each step, at the cost of one gold forward pass per rollout."""

    estimator: Estimator = "group_norm"
    steps: int = Field(ge=1)
    """Number of rollout batches, each followed by training on it."""
    save_every: int = Field(ge=1)
    prompts_per_step: int = Field(ge=1)
    samples_per_prompt: int = Field(ge=1)
    train_batch_size: int | None = Field(default=None, ge=1)
    """Rollouts per optimizer step; None: all rollouts of the step."""
    micro_batch_size: int = Field(default=4, ge=1)
    """Rollouts per forward pass."""
    epochs_per_batch: int = Field(default=1, ge=1)
    learning_rate: float = Field(ge=0)
    asynchronous: bool = False
    """Sample the next rollouts while training on the last ones, on devices of their own."""
    nodes: int = Field(default=1, ge=1)
    """Nodes of the Ray cluster, each with as many GPUs as this machine."""
    kl_coefficient: float = Field(default=0.01, ge=0)
    """Weight of the KL penalty; 0 runs without a reference policy and without KL in the metrics."""
    kl_target: float | None = Field(default=None, gt=0)
    """Nats; adapts the coefficient when set."""
    kl_horizon: int = Field(default=10_000, ge=1)
    """Rollouts over which the coefficient adapts to `kl_target`."""
    advantage_gamma: float = Field(default=1.0, gt=0, le=1)
    advantage_lambda: float = Field(default=1.0, ge=0, le=1)
    clip: float = Field(default=0.2, gt=0)
    value_clip: float = Field(default=0.5, gt=0)

    max_new_tokens: int = Field(ge=1)
    max_prompt_tokens: int = Field(default=1024, ge=1)
    """A longer prompt is an error: OpenRLHF would truncate its beginning."""
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=42, ge=0, lt=2**32)

    evaluate: Annotated[Literal["during", "after", "never"], BeforeValidator(_evaluate_of_0_2)] = "after"
    """When the checkpoints are evaluated: each as it is saved, all after the last step, or not at all."""
    evaluate_device: str | None = None
    """Torch device of the evaluations; None: the default of `glassbox evaluate`, but cpu beside a training."""
    stop_when: Annotated[tuple[str, ...], AfterValidator(_check_stop_rules)] = ()
    """Rules that end the run; see `stop_rules`. `none` alone: those of a run that is resumed are removed."""
    note: str | None = Field(default=None, max_length=2_000)
    tags: tuple[str, ...] = ()
    tensorboard_dir: str | None = None
    """None: `tensorboard` in the run directory."""
    wandb_project: str | None = None
    mlflow_experiment: str | None = None
    raw_flags: Annotated[tuple[str, ...], AfterValidator(_check_raw_flags)] = ()
    """Passed to OpenRLHF unchanged, after ours, so they take precedence."""

    @property
    def reward_urls(self) -> list[str]:
        """Addresses of the replicas of the reward service."""
        return [url.rstrip("/") for url in split_urls(self.reward_url)]

    @property
    def evaluation_device(self) -> str | None:
        """Torch device of all evaluations of the run; beside a training that uses the GPUs, the CPU."""
        return self.evaluate_device or ("cpu" if self.evaluate == "during" else None)

    @property
    def rollouts_per_step(self) -> int:
        """Responses sampled and scored in one step."""
        return self.prompts_per_step * self.samples_per_prompt

    @property
    def effective_train_batch_size(self) -> int:
        """Rollouts per optimizer step."""
        return self.train_batch_size or self.rollouts_per_step

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.estimator in GROUP_ESTIMATORS and self.samples_per_prompt == 1:
            raise ValueError(
                f"{self.estimator} compares several samples of a prompt: set --samples-per-prompt above 1, "
                "or use --estimator reinforce or gae"
            )
        for rule in map(StopRule.parse, self.stop_when):
            if rule.needs_evaluation and self.evaluate != "during":
                raise ValueError(f"stop rule {rule.text!r} needs evaluated checkpoints: add --evaluate during")
            if rule.figure == "rollout_kl" and self.kl_coefficient == 0:
                raise ValueError(f"stop rule {rule.text!r}: with a KL coefficient of 0 it is not measured")
        batch = self.effective_train_batch_size
        if self.rollouts_per_step % batch:
            raise ValueError(
                f"train_batch_size {batch} does not divide the {self.rollouts_per_step} rollouts of a step "
                "(prompts_per_step x samples_per_prompt), so some would not be trained on"
            )
        if batch % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide the train batch of {batch}"
            )
        if self.save_every > self.steps:
            raise ValueError(
                f"save_every {self.save_every} is more than the {self.steps} steps: nothing would be saved"
            )
        return self


def make_config(preset: str, given: dict[str, Any]) -> Config:
    """Return the preset's settings, overridden by `given`; raise ConfigError naming each invalid setting."""
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    settings = {**PRESETS[preset], **given}
    if "save_every" not in given:  # the preset's, but at least one checkpoint
        settings["save_every"] = min(settings["save_every"], max(settings["steps"], 1))
    return validated(settings)


def validated(settings: Mapping[str, Any]) -> Config:
    """Return the settings; raise ConfigError naming each invalid one."""
    try:
        return Config.model_validate(settings)
    except ValidationError as exc:
        raise ConfigError("; ".join(validation_errors(exc))) from exc
