"""The report of a comparison of two recipes. Its JSON form has a schema version.

groups of judged rows ──▶ build() ──▶ Report ──▶ table.py (terminal), `model_dump_json` (JSON), page.py (HTML)
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from reward_client.intervals import Estimate

SCHEMA_VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Subject(_Model):
    """One of the two recipes."""

    given: str
    """As on the command line."""
    name: str
    hash: str
    """Of the recipe with its overrides."""
    relevance: str | None
    """The encoder, if the recipe needs one."""


class Agreement(_Model):
    """Agreement of the two orders. Each prompt has the same weight."""

    query_type: str | None
    """None: all query types."""
    n_prompts: int
    n_responses: int
    tau_b: Estimate
    """Mean of Kendall's τ-b within prompts, over the prompts for which both recipes have an order."""
    n_without_order: int
    """Prompts for which A or B gives all responses the same reward."""
    ordered_differently: Estimate
    """Mean share of a prompt's pairs of responses that are in one order under A and in the opposite under B."""
    tied_by_one: Estimate
    """Mean share of the pairs that one of them ties and the other does not."""
    best_changes: Estimate
    """Share of prompts for which no response is best under both; Wilson's interval."""


class GoldAgreement(_Model):
    """Agreement with a gold model, over the same prompts for both recipes."""

    model: str
    """Its id."""

    tau_a: Estimate
    """Mean of Kendall's τ-b of A and gold within prompts."""
    tau_b: Estimate
    tau_difference: Estimate
    """B minus A, paired by prompt."""
    best_a: Estimate
    """Mean gold reward of the best response by A; the mean of those that are tied."""
    best_b: Estimate
    best_difference: Estimate
    """B minus A, paired by prompt."""


class FeatureShare(_Model):
    """The share of a feature in the movements of all responses; the shares sum to 1."""

    name: str
    share: Estimate


class Mover(_Model):
    """A response whose rank changes."""

    number: int
    """Line, or row, of the input."""
    query_type: str
    prompt: str
    """Its beginning."""
    prompt_characters: int
    response: str
    response_characters: int
    n_responses: int
    """To the same prompt."""
    rank_a: float
    """1 is the best; tied responses share the mean of their ranks."""
    rank_b: float
    reward_a: float
    reward_b: float
    gold: float | None
    movement: float
    """In standard deviations of the rewards within prompts; positive: B prefers it more than A."""
    contributions: dict[str, float]
    """By feature; they sum to the movement."""

    @property
    def feature(self) -> str | None:
        """The feature that contributes most in the direction of the movement."""
        sign = 1 if self.movement > 0 else -1
        name = max(self.contributions, key=lambda name: sign * self.contributions[name], default=None)
        return name if name is not None and sign * self.contributions[name] > 0 else None


class Cell(_Model):
    """Responses with about the same place under A and under B: 0 is the best response to a prompt, 1 the worst."""

    a: float
    b: float
    n: int


class Requirement(_Model):
    """The agreement that `--require-agreement` sets."""

    agreement: float
    found: float | None
    """Mean τ-b within prompts; null if no prompt has an order under both."""
    met: bool


class Report(_Model):
    """A comparison of two recipes."""

    schema_version: int = SCHEMA_VERSION
    source: str
    url: str
    a: Subject
    b: Subject
    compared: Literal["within_prompts", "across_prompts"]
    """`across_prompts` if every prompt has one response: then responses to different prompts are compared by query
    type, without intervals."""
    n_rows: int
    n_prompts: int
    n_single: int
    """Prompts with one response, which has no rank."""
    n_errors: int
    errors: list[str]
    """The first rows without a reward."""
    seed: int
    notices: list[str]
    agreement: list[Agreement]
    """Of all query types, then of each."""
    golds: list[GoldAgreement]
    """With each gold model of the service, the primary one first; empty without gold scores."""
    features: list[FeatureShare]
    movers: list[Mover]
    places: list[Cell]
    requirement: Requirement | None
