"""AReaL: `reward_fn="reward_client.adapters.areal.glassbox"` of a `RLVRWorkflow`.

AReaL calls the function for one sample, in a process pool, and tries four times. If the last try takes 15 s, it
trains on the reward 0; if the last try raises, so does AReaL. So a call has a deadline of 8 s, and one that is not
shorter than AReaL's is an error. The 15 s include the wait for a free process of the pool.

AReaL decodes both texts with special tokens. The prompt comes from the column `messages`, which AReaL renders it
from; special tokens are removed from the end of the response.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from reward_client.adapters.samples import has_special_tokens, samples, without_end_tokens
from reward_client.adapters.scorer import rewards, scorer_of
from reward_client.adapters.settings import AdapterSettings, variable
from reward_client.errors import RewardError

TIMEOUT_S = 15
"""Seconds after which AReaL gives up a call; `RLVRWorkflow` does not let them be set."""


class ArealSettings(AdapterSettings):
    """Settings with the defaults that AReaL needs."""

    deadline_s: Annotated[float, Field(gt=0, lt=TIMEOUT_S)] = 8.0
    prompt_column: str = "messages"


def glassbox(prompt: str, completions: str, *_: Any, **row: Any) -> float:
    """The reward of one sample. Raises RewardError when it has none.

    AReaL also passes the tokens of both texts, and the columns of the row by name.
    """
    settings = ArealSettings.load()
    name = settings.prompt_column
    asked = row[name] if name in row else _plain(prompt, name)
    columns = {name: [value] for name, value in row.items()}
    batch = samples(settings, [asked], [without_end_tokens(completions)], columns)
    return rewards(scorer_of(settings).score(batch))[0]


def _plain(prompt: str, column: str) -> str:
    """`prompt`, if no chat template was applied to it. Raises RewardError."""
    if has_special_tokens(prompt):
        raise RewardError(
            f"the prompt has markers of a chat template and the data has no column {column!r}: "
            f"set {variable('prompt_column')} to the column with the prompt or the messages"
        )
    return prompt
