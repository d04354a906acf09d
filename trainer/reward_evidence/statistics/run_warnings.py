"""Signs in an evaluation that a run goes wrong, while it may still be stopped. Pure.

Each compares the last evaluated checkpoint with the first one, on the same prompts:

    truncated         more than half of the responses end at the token limit
    gold-fell         the proxy rose and gold fell, both by more than their 95 % intervals
    relevance-fell    a relevance fell by more than its interval and a tenth of its first mean
    repetition        the repetition penalty fell likewise: the responses repeat themselves more
    kl                the policy is far from the initial one

The intervals are those of one comparison. A rule that is checked at many checkpoints has as many chances of a
false alarm, about one in forty each.
"""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from reward_evidence.report.formatting import decimals_for, interval, percent, plain
from reward_evidence.statistics.by_prompt import Responses, values_by_prompt
from reward_evidence.statistics.monotonicity import Change, Verdict, paired_change
from reward_evidence.statistics.summary import CheckpointFigures, Trend

MAX_TRUNCATED = 0.5
"""Share of responses."""
MAX_KL = 25.0
"""Nats per response. The paper's runs aim at 6; at 25, a response of 128 tokens is 0.2 nats a token away."""
MIN_FALL = 0.1
"""Share of the first mean by which a feature must have fallen."""
_REPETITION = "repetition_penalty"


class RunWarning(BaseModel):
    """One sign, with the figures that it consists of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str
    step: int
    """The checkpoint that shows it."""
    message: str


RULES = ("truncated", "gold-fell", "relevance-fell", "repetition", "kl")
"""Names of all rules."""


def find_warnings(
    checkpoints: Sequence[CheckpointFigures], trend: Trend, first: Responses, last: Responses, limit: int | None
) -> list[RunWarning]:
    """Return what the last of `checkpoints` shows; nothing for a single one.

    Args:
        checkpoints: figures by step.
        trend: from the first to the last of them.
        first: responses of the first checkpoint.
        last: responses of the last checkpoint.
        limit: maximum tokens of a response, if known.
    """
    if len(checkpoints) < 2:
        return []
    found = (_truncated(checkpoints, limit), _gold_fell(trend), *_features(first, last), _kl(checkpoints[-1]))
    step = checkpoints[-1].step
    return [RunWarning(rule=rule, step=step, message=text) for rule, text in filter(None, found)]


def _truncated(checkpoints: Sequence[CheckpointFigures], limit: int | None) -> tuple[str, str] | None:
    before, now = checkpoints[0].truncated, checkpoints[-1].truncated
    if now is None or now <= MAX_TRUNCATED:
        return None
    was = "" if before is None else f", {percent(before)} at step {checkpoints[0].step}"
    return "truncated", (
        f"{percent(now)} of the responses end at the limit of {limit} tokens{was}: their ends are not scored, and "
        "length has no further meaning"
    )


def _gold_fell(trend: Trend) -> tuple[str, str] | None:
    proxy, gold = trend.proxy_change, trend.gold_change
    if proxy is None or gold is None or (proxy.verdict, gold.verdict) != (Verdict.ROSE, Verdict.FELL):
        return None
    return "gold-fell", f"the proxy rose by {_amount(proxy)}, and gold fell by {_amount(gold)}"


def _features(first: Responses, last: Responses) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys(name for response in first for name in response.features):
        rule = "repetition" if name == _REPETITION else "relevance-fell" if "relevance" in name else None
        change = _change(first, last, name) if rule else None
        if rule and change and change.verdict is Verdict.FELL and -change.mean > MIN_FALL * abs(change.first):
            yield (
                rule,
                (
                    f"{name.replace('_', ' ')} fell by {_amount(change)}, from {plain(change.first, 3)} to "
                    f"{plain(change.last, 3)}"
                ),
            )


def _change(first: Responses, last: Responses, name: str) -> Change | None:
    """The change of a feature over the prompts whose responses have it at both checkpoints."""
    both = set.intersection(
        *({r.prompt_id for r in responses if r.features.get(name) is not None} for responses in (first, last))
    )
    if not both:
        return None
    before, after = (
        values_by_prompt([r for r in responses if r.prompt_id in both], lambda r: r.features.get(name))
        for responses in (first, last)
    )
    return paired_change(before, after)


def _kl(checkpoint: CheckpointFigures) -> tuple[str, str] | None:
    kl = checkpoint.kl
    if kl is None or kl.mean <= MAX_KL:
        return None
    return "kl", f"the policy is {plain(kl.mean, 1)} nats per response from the initial one, above {MAX_KL:g}"


def _amount(change: Change) -> str:
    bounds = interval(change.low, change.high, with_sign=True)
    return f"{plain(abs(change.mean), decimals_for(change.low, change.high))} (95 % interval {bounds})"
