"""Settings of an adapter: keyword arguments, or environment variables of the same names with the prefix GLASSBOX_.

    GLASSBOX_URL=http://a:8000,http://b:8000  GLASSBOX_API_KEY=…  GLASSBOX_RECIPE=rer  GLASSBOX_DEADLINE_S=60

Several URLs are replicas of one service, in order of preference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from reward_client.errors import RewardError, validation_errors
from reward_client.retry import RetryPolicy
from reward_client.urls import DEFAULT_URL, addresses, key_from_environment, split_urls
from reward_client.wire import DatasetMiss, QueryType

PREFIX = "GLASSBOX_"
_KEY = "api_key"


def _urls(value: object) -> object:
    return split_urls(value) if isinstance(value, str) else value


class AdapterSettings(BaseModel):
    """What an adapter asks the service for, and where it finds the reference of a row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[tuple[str, ...], BeforeValidator(_urls), Field(repr=False)] = (DEFAULT_URL,)
    """URLs of the service; in the environment separated by commas. Hidden by `repr`, as they may contain a key."""
    api_key: Annotated[str | None, Field(repr=False)] = None
    recipe: str | None = None
    """Name of the recipe; None: the service's default recipe."""
    gold: bool = False
    """Also score with the gold reward model, for the logs; the reward stays that of the recipe."""
    query_type_default: QueryType | Literal["error"] = QueryType.CLOSED_ENDED
    """Query type of a row that has a reference and no query type. `error`: such a row cannot be scored."""
    dataset: str | None = None
    """Data set of the service in which rows without a reference find theirs, by their prompt."""
    dataset_miss: DatasetMiss | None = None
    """What becomes of such a row whose prompt is not in `dataset`; None: `fail`, it cannot be scored."""
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 300.0
    """Seconds for one call of the adapter, with all retries; then it raises RewardUnavailableError."""
    run: str | None = None
    """Name of the training run, for the service's logs."""
    prompt_column: str = "prompt"
    """Column with the prompt, in frameworks that pass a row instead of a prompt."""
    reference_column: str = "reference"
    """Column with the reference answer."""
    query_type_column: str = "query_type"
    """Column with `open_ended` or `closed_ended`."""

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ, **given: Any) -> Self:
        """The settings in `given`, then those in the environment, then the defaults.

        A value of None in `given` counts as absent. Raises RewardError that names the wrong setting.
        """
        found = {name: environ[variable(name)] for name in cls.model_fields if environ.get(variable(name))}
        if (key := key_from_environment(environ)) is not None:
            found[_KEY] = key
        named = {name: value for name, value in given.items() if value is not None}
        try:
            settings = cls.model_validate(found | named)
        except ValidationError as exc:
            raise RewardError(f"adapter settings: {'; '.join(_messages(exc, named))}") from None
        addresses(settings.url, settings.api_key)
        return settings

    @field_validator("dataset_miss")
    @classmethod
    def _needs_dataset(cls, value: DatasetMiss | None, info: ValidationInfo) -> DatasetMiss | None:
        if value is not None and info.data.get("dataset") is None:
            raise ValueError(f"needs {variable('dataset')}, the name of the data set")
        return value

    @property
    def options(self) -> dict[str, Any]:
        """The options of `RewardClient.score`."""
        default = None if self.query_type_default == "error" else self.query_type_default
        return {
            "recipe": self.recipe,
            "gold": self.gold,
            "query_type_default": default,
            "dataset": self.dataset,
            "dataset_miss": self.dataset_miss,
            "run": self.run,
        }

    @property
    def client_options(self) -> dict[str, Any]:
        """The arguments of a client besides the URLs: it may retry until the deadline."""
        retry = RetryPolicy(budget_s=self.deadline_s, max_retry_after_s=self.deadline_s)
        return {"api_key": self.api_key, "deadline_s": self.deadline_s, "retry": retry}


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def framework_variable(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """A variable that a framework sets for its processes. Raises RewardError when it is absent."""
    if name not in environ:
        raise RewardError(f"{name} is not set: the framework sets it for the processes that it starts")
    return environ[name]


def _messages(exc: ValidationError, named: Mapping[str, Any]) -> list[str]:
    messages = []
    for message in validation_errors(exc):
        name, _, rest = message.partition(":")
        setting = name.partition(".")[0]
        known = setting in named or setting not in AdapterSettings.model_fields
        messages.append(f"{setting if known else variable(setting)}:{rest}")
    return messages
