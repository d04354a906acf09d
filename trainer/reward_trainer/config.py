"""The settings of a run, checked when they are made, and the presets they start from.

Settings that do not fit together are refused here, before anything is loaded; in particular relations between
batch sizes that OpenRLHF accepts and then trains on nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from reward_client.urls import API_KEY_VARIABLE
from reward_runs.errors import ConfigError
from reward_trainer.policy import EMBEDDED_POLICY

__all__ = ["ESTIMATORS", "GROUP_ESTIMATORS", "PRESETS", "Config", "make_config"]

Estimator = Literal["group_norm", "reinforce_baseline", "reinforce", "rloo", "gae", "dr_grpo"]
ESTIMATORS: tuple[Estimator, ...] = ("group_norm", "reinforce_baseline", "reinforce", "rloo", "gae", "dr_grpo")
GROUP_ESTIMATORS = frozenset({"group_norm", "reinforce_baseline", "rloo", "dr_grpo"})
"""Estimators whose baseline is the other samples of the same prompt."""

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
"""OpenRLHF flags that the run directory depends on, so they cannot be given as raw flags."""

PRESETS: dict[str, dict[str, Any]] = {
    "demo": {
        "steps": 12,
        "save_every": 2,
        "prompts_per_step": 4,
        "samples_per_prompt": 4,
        "micro_batch_size": 4,
        "max_new_tokens": 128,
        "learning_rate": 2e-5,
        "estimator": "group_norm",
        "kl_coefficient": 0.0,
    },
    "paper": {
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
"""`demo` learns in minutes on two cores; `paper` is the published setting; `tiny` only passes through."""


def _allowed(flags: tuple[str, ...]) -> tuple[str, ...]:
    for name in (flag.split("=")[0] for flag in flags):
        if name in OWNED_FLAGS:
            raise ValueError(f"{name} is set by the launcher and cannot be a raw OpenRLHF flag")
        if name.startswith("--ds.lora."):
            raise ValueError(
                f"{name}: OpenRLHF 0.11 cannot give LoRA weights to its rollout engine (its issue 1349)"
            )
    return flags


def _keyless(url: str) -> str:
    """Settings are written down and shown, so no key may be among them."""
    if "@" in url:
        raise ValueError(f"holds a user or a key; the key's place is {API_KEY_VARIABLE} in the environment")
    return url


class Config(BaseModel):
    """Every setting of a run; `config.json` in the run directory holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    reward_url: Annotated[str, AfterValidator(_keyless)] = Field(pattern=r"^https?://[^,\s]+$")
    """Where the reward service listens, without path and key. OpenRLHF splits URLs at commas, so it has none."""
    run_dir: str
    policy: str = EMBEDDED_POLICY
    """`smollm2-135m-instruct`, a folder, or a Hugging Face id."""

    prompts: str = "embedded"
    """`embedded`, a .jsonl or .json file, or a Hugging Face dataset."""
    heldout: str | None = None
    """Held-out prompts, same forms; absent: the embedded ones, or a share of `prompts`."""
    n_heldout: int = Field(default=64, ge=1)
    """How many of `prompts` are held out when `heldout` is absent."""
    prompt_column: str = "prompt"
    reference_column: str = "reference"
    query_type_column: str = "query_type"
    system_prompt: str | None = None
    """Put before each prompt; absent: what the policy's chat template does by itself."""

    recipe: str = "rer"
    recipe_overrides: dict[str, Any] = {}
    gold: bool = False
    """Also log the gold reward at each step; it costs a gold forward pass a rollout."""

    estimator: Estimator = "group_norm"
    steps: int = Field(ge=1)
    """Batches of rollouts, each followed by training on it."""
    save_every: int = Field(ge=1)
    prompts_per_step: int = Field(ge=1)
    samples_per_prompt: int = Field(ge=1)
    train_batch_size: int | None = Field(default=None, ge=1)
    """Rollouts an optimizer step; absent: all rollouts of the step."""
    micro_batch_size: int = Field(default=4, ge=1)
    """Rollouts a forward pass."""
    epochs_per_batch: int = Field(default=1, ge=1)
    learning_rate: float = Field(ge=0)
    kl_coefficient: float = Field(default=0.01, ge=0)
    """Weight of the KL penalty; 0 leaves the reference policy, and the KL in the metrics, out."""
    kl_target: float | None = Field(default=None, gt=0)
    """Nats; adapts the coefficient when given."""
    kl_horizon: int = Field(default=10_000, ge=1)
    """Rollouts over which the coefficient adapts to `kl_target`."""
    advantage_gamma: float = Field(default=1.0, gt=0, le=1)
    advantage_lambda: float = Field(default=1.0, ge=0, le=1)
    clip: float = Field(default=0.2, gt=0)
    value_clip: float = Field(default=0.5, gt=0)

    max_new_tokens: int = Field(ge=1)
    max_prompt_tokens: int = Field(default=1024, ge=1)
    """A longer prompt is an error: OpenRLHF would cut its beginning."""
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=42, ge=0)

    evaluate: bool = True
    tensorboard_dir: str | None = None
    """Absent: `tensorboard` in the run directory."""
    wandb_project: str | None = None
    raw_flags: Annotated[tuple[str, ...], AfterValidator(_allowed)] = ()
    """Passed to OpenRLHF as they are, after ours, so they win."""

    @property
    def rollouts_per_step(self) -> int:
        """Responses sampled, and scored, in one step."""
        return self.prompts_per_step * self.samples_per_prompt

    @property
    def effective_train_batch_size(self) -> int:
        """Rollouts an optimizer step."""
        return self.train_batch_size or self.rollouts_per_step

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.estimator in GROUP_ESTIMATORS and self.samples_per_prompt == 1:
            raise ValueError(
                f"{self.estimator} compares samples of one prompt: set --samples-per-prompt above 1, "
                "or use --estimator reinforce or gae"
            )
        batch = self.effective_train_batch_size
        if self.rollouts_per_step % batch:
            raise ValueError(
                f"train_batch_size {batch} does not divide the {self.rollouts_per_step} rollouts of a step "
                "(prompts_per_step x samples_per_prompt), so some would never be trained on"
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
    """Return the preset's settings with `given` over them; raise ConfigError naming each wrong setting."""
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    try:
        return Config.model_validate({**_fitted(PRESETS[preset], given), **given})
    except ValidationError as exc:
        raise ConfigError("; ".join(_sentence(error) for error in exc.errors())) from exc


def _fitted(preset: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Follow the user where a preset's own figure would stand in the way: fewer steps than a save interval."""
    steps = given.get("steps", preset["steps"])
    return {**preset, "save_every": min(preset["save_every"], max(steps, 1))}


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
