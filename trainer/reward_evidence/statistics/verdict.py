"""From figures to sentences that a careful statistician would sign. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from reward_client.wire import QueryType
from reward_evidence.report.formatting import decimals_for, interval, percent, plain, signed
from reward_evidence.statistics.monotonicity import Change, Falls, RankCorrelation, Verdict
from reward_evidence.statistics.summary import CheckpointFigures, Trend

__all__ = ["MIN_PROMPTS", "Circumstances", "VerdictText", "write_verdict"]

MIN_PROMPTS = 60
"""With fewer, a change of the size that a short run brings is missed more often than seen."""


class VerdictText(BaseModel):
    """The verdict in words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Verdict | None
    """Of the primary figure; null when it could not be measured."""
    headline: str
    sentence: str
    """The primary figure, with its interval, and what kind of evidence it is."""
    findings: list[str]
    """The other figures, a sentence each."""
    caveats: list[str]
    """What must be known before anything is concluded."""


@dataclass(frozen=True)
class Circumstances:
    """What the figures do not say themselves."""

    recipe: str
    samples: int
    temperature: float
    max_new_tokens: int
    notices: Sequence[str]

    @property
    def gold_is_demo(self) -> bool:
        """Whether the service calls its gold model a demo."""
        return any("demo model" in notice.lower() for notice in self.notices)

    @property
    def gold_shares_base(self) -> bool:
        """Whether the service says that gold and relevance encoder share their weights."""
        return any("independent evidence" in notice.lower() for notice in self.notices)


_DIRECTION = {Verdict.ROSE: "rose", Verdict.FELL: "fell"}


def write_verdict(
    checkpoints: Sequence[CheckpointFigures],
    overall: Trend,
    by_type: dict[QueryType, Trend],
    circumstances: Circumstances,
) -> VerdictText:
    """Put the figures of one run into words."""
    first, last = checkpoints[0], checkpoints[-1]
    change = overall.gold_change
    return VerdictText(
        outcome=change.verdict if change else None,
        headline=_headline(change, overall.proxy_change, circumstances, len(checkpoints)),
        sentence=_primary(change, first, last, circumstances),
        findings=_findings(first, last, overall, by_type, circumstances),
        caveats=_caveats(last, overall, by_type, circumstances),
    )


def _headline(
    change: Change | None, proxy: Change | None, circumstances: Circumstances, n_checkpoints: int
) -> str:
    if n_checkpoints < 2:
        return "One checkpoint: nothing to compare yet"
    if change is None:
        return "Gold was not measured"
    gold = "The demo gold reward" if circumstances.gold_is_demo else "The gold reward"
    if change.verdict is Verdict.UNDECIDED:
        return f"{gold}: undecided"
    headline = f"{gold} {_DIRECTION[change.verdict]}"
    if proxy is not None and {proxy.verdict, change.verdict} == {Verdict.ROSE, Verdict.FELL}:
        return f"{headline} while the reward that was trained on {_DIRECTION[proxy.verdict]}"
    return headline


def _primary(
    change: Change | None, first: CheckpointFigures, last: CheckpointFigures, circumstances: Circumstances
) -> str:
    if change is None:
        return _no_primary(first, last, circumstances)
    text = (
        f"On {change.n} held-out prompts, {_responses_each(circumstances)} at temperature "
        f"{circumstances.temperature:g}, the mean gold reward {_moved(change)} from step {first.step} "
        f"to step {last.step}."
    )
    if change.verdict is Verdict.UNDECIDED:
        text += f" {_undecided(change)}"
    return f"{text} {_kind_of_evidence(circumstances)}"


def _no_primary(first: CheckpointFigures, last: CheckpointFigures, circumstances: Circumstances) -> str:
    if first.step == last.step:
        return (
            f"Only step {first.step} was evaluated, so no change can be measured: evaluate a later checkpoint "
            "of the same run as well."
        )
    return (
        "No gold reward model took part, so whether gold follows the proxy is unknown. Start the service with "
        f"a gold model and evaluate again. (Recipe {circumstances.recipe}.)"
    )


def _responses_each(circumstances: Circumstances) -> str:
    return "one response each" if circumstances.samples == 1 else f"{circumstances.samples} responses each"


def _moved(change: Change) -> str:
    verb = {Verdict.ROSE: "rose by", Verdict.FELL: "fell by", Verdict.UNDECIDED: "changed by"}[change.verdict]
    decimals = decimals_for(change.low, change.high)
    amount = signed(change.mean, decimals)
    if change.verdict is not Verdict.UNDECIDED:
        amount = plain(abs(change.mean), decimals)
    return f"{verb} {amount} (95 % interval {interval(change.low, change.high, with_sign=True)}, paired by prompt)"


def _undecided(change: Change) -> str:
    if change.low is None or change.high is None:
        return "A single prompt has no interval."
    if change.low == change.high == 0:
        return "Not one prompt's score changed."
    half_width = (change.high - change.low) / 2
    return (
        "The interval holds zero: neither a rise nor a fall is shown, and with this many prompts a change "
        f"smaller than about {plain(half_width, decimals_for(change.low, change.high))} would go unnoticed."
    )


def _kind_of_evidence(circumstances: Circumstances) -> str:
    text = (
        "This is one run with one seed: the interval covers the choice of prompts, not the variation between runs."
    )
    if circumstances.gold_is_demo and circumstances.gold_shares_base:
        return (
            f"{text} The gold model is a demo model that shares its base with the relevance encoder: this is "
            "not independent evidence that the responses got better or worse."
        )
    if circumstances.gold_is_demo:
        return (
            f"{text} The gold model is a demo model, so this does not show that the responses got better or worse."
        )
    if circumstances.gold_shares_base:
        return (
            f"{text} The gold model shares its base with the relevance encoder: this is not independent evidence."
        )
    return text


def _findings(
    first: CheckpointFigures,
    last: CheckpointFigures,
    overall: Trend,
    by_type: dict[QueryType, Trend],
    circumstances: Circumstances,
) -> list[str]:
    findings = []
    if overall.proxy_change:
        findings.append(f"The proxy reward (recipe {circumstances.recipe}) {_moved(overall.proxy_change)}.")
    if overall.rank_correlation:
        findings.append(_correlation(overall.rank_correlation))
    if overall.gold_falls:
        findings.append(_falls(overall.gold_falls))
    findings += [_of_type(query_type, trend) for query_type, trend in by_type.items() if trend.proxy_change]
    if first.step != last.step:
        findings.append(_length(first, last, circumstances))
    if last.kl and first.step != last.step:
        findings.append(_divergence(last))
    return findings


def _correlation(result: RankCorrelation) -> str:
    if result.rho is None or result.p_value is None:
        return "Spearman's ρ is undefined: one of the two rewards is the same at every checkpoint."
    n_orders = f"{result.n_permutations:,}"
    orders = f"over all {n_orders} orders" if result.exact else f"over {n_orders} random orders"
    bounds = (
        f"95 % bootstrap interval over prompts {interval(result.low, result.high)}, "
        if result.low is not None
        else ""
    )
    return (
        f"Over {result.n_checkpoints} checkpoints the mean proxy and mean gold reward have Spearman's "
        f"ρ = {plain(result.rho)} ({bounds}permutation p = {_p_value(result.p_value)} {orders})."
    )


def _p_value(p_value: float) -> str:
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.2g}"


def _falls(falls: Falls) -> str:
    steps = "1 step" if falls.n_steps == 1 else f"{falls.n_steps} steps"
    text = f"From one checkpoint to the next, mean gold fell on {falls.falls} of {steps}"
    if falls.falls == 0:
        return f"{text}."
    clear = "none of them" if falls.clear_falls == 0 else str(falls.clear_falls)
    return f"{text}; on {clear} by more than its own 95 % interval."


def _of_type(query_type: QueryType, trend: Trend) -> str:
    parts = [f"proxy {_moved(trend.proxy_change)}" if trend.proxy_change else ""]
    if trend.gold_change:
        parts.append(f"gold {_moved(trend.gold_change)}")
    name = query_type.value.replace("_", "-").capitalize()
    return f"{name} prompts ({trend.n_prompts}): {', '.join(part for part in parts if part)}."


def _length(first: CheckpointFigures, last: CheckpointFigures, circumstances: Circumstances) -> str:
    return (
        f"Mean response length went from {plain(first.n_words.mean, 1)} to {plain(last.n_words.mean, 1)} words; "
        f"the share cut at {circumstances.max_new_tokens} tokens from {percent(first.truncated)} "
        f"to {percent(last.truncated)}."
    )


def _divergence(last: CheckpointFigures) -> str:
    kl = last.kl
    if kl is None:
        return ""
    decimals = decimals_for(kl.low, kl.high)
    bounds = f" (95 % interval {interval(kl.low, kl.high)})" if kl.low is not None else ""
    nats = plain(kl.mean, decimals)
    return f"At step {last.step} the policy is {nats} nats a response away from its start{bounds}."


def _caveats(
    last: CheckpointFigures, overall: Trend, by_type: dict[QueryType, Trend], circumstances: Circumstances
) -> list[str]:
    caveats = []
    if overall.rank_correlation:
        caveats.append(
            "Checkpoints of one run resemble their neighbours, so any two trends correlate: ρ and its p-value "
            "write_verdict this run and prove no cause. That is why the paired change is the primary figure."
        )
    if circumstances.recipe == "gold":
        caveats.append("This recipe's proxy is the gold reward itself, so the two agree by construction.")
    if _types_disagree(by_type):
        caveats.append(
            "The two query types moved in opposite directions: the mean over both hides that; read them apart."
        )
    if overall.n_prompts < MIN_PROMPTS:
        caveats.append(f"Only {overall.n_prompts} held-out prompts: at least {MIN_PROMPTS} are advised.")
    if last.truncated > 0.5:
        caveats.append(
            f"{percent(last.truncated)} of the last checkpoint's responses were cut at the token limit, so their "
            "length says little and their ends were never judged."
        )
    caveats.append(
        "The held-out prompts are of the same kind as the training prompts: nothing is shown for other kinds."
    )
    caveats.append(
        "One run shows what happened, not why: a claim about a reward needs several seeds and ablations."
    )
    return caveats


def _types_disagree(by_type: dict[QueryType, Trend]) -> bool:
    """Whether one type rose and another fell, in gold or in proxy."""
    both = {Verdict.ROSE, Verdict.FELL}
    gold = {trend.gold_change.verdict for trend in by_type.values() if trend.gold_change}
    proxy = {trend.proxy_change.verdict for trend in by_type.values() if trend.proxy_change}
    return both <= gold or both <= proxy
