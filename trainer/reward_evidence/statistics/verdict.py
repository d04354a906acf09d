"""Figures → sentences: the verdict of an evaluation. Pure."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from reward_client.wire import QueryType
from reward_evidence.report.formatting import decimals_for, interval, percent, plain, signed
from reward_evidence.statistics.assessment import Assessment, assess, headline, qualify
from reward_evidence.statistics.circumstances import Circumstances
from reward_evidence.statistics.driver_findings import driver_findings
from reward_evidence.statistics.golds import SeveralGolds, gold_findings, primary_sentence
from reward_evidence.statistics.monotonicity import Change, Falls, RankCorrelation, Verdict, is_unchanged
from reward_evidence.statistics.summary import MIN_RANKED, CheckpointFigures, Trend

MIN_PROMPTS = 60
"""With fewer prompts, the change in a short run is more often missed than detected."""


class VerdictText(BaseModel):
    """The verdict in words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Verdict | None
    """Verdict on the primary figure; null if it was not measured."""
    assessment: Assessment | None
    """What all figures together say; null without a gold change. The report's colour."""
    headline: str
    sentence: str
    """The primary figure with its interval, and the kind of evidence that it is."""
    qualifications: list[str]
    """Why a rise of gold is not plainly a sign of better responses, or why its fall says nothing of the claim."""
    findings: list[str]
    """The other figures, one sentence each."""
    caveats: list[str]
    """Limitations of the conclusions."""


def write_verdict(
    checkpoints: Sequence[CheckpointFigures],
    overall: Trend,
    by_type: dict[QueryType, Trend],
    circumstances: Circumstances,
    golds: SeveralGolds | None = None,
) -> VerdictText:
    """Describe the figures of one evaluation."""
    first, last = checkpoints[0], checkpoints[-1]
    change = overall.gold_change
    is_demo = circumstances.gold_is_demo
    qualifications = qualify(
        overall,
        by_type,
        gold_is_demo=is_demo,
        gold_shares_base=circumstances.gold_shares_base,
        gold_is_on_policy=circumstances.gold_is_on_policy,
        gold_is_proxy=circumstances.gold_is_proxy,
    )
    return VerdictText(
        outcome=change.verdict if change else None,
        assessment=assess(overall, qualifications),
        headline="One checkpoint: nothing to compare yet"
        if len(checkpoints) < 2
        else headline(overall, gold_is_demo=is_demo, labels=circumstances.labels),
        qualifications=qualifications,
        sentence=_primary(change, first, last, circumstances) + primary_sentence(golds),
        findings=[*_findings(first, last, overall, by_type, circumstances), *gold_findings(golds)],
        caveats=_caveats(last, overall, by_type, circumstances),
    )


def _primary(
    change: Change | None, first: CheckpointFigures, last: CheckpointFigures, circumstances: Circumstances
) -> str:
    if change is None:
        return _no_primary(first, last, circumstances)
    text = (
        f"On {change.n} {circumstances.prompts}, {_responses_each(circumstances)}, the mean gold reward "
        f"{_changed(change)} from step {first.step} to step {last.step}."
    )
    if change.verdict is Verdict.UNDECIDED:
        text += f" {_undecided(change)}"
    return f"{text} {_kind_of_evidence(circumstances)}"


def _no_primary(first: CheckpointFigures, last: CheckpointFigures, circumstances: Circumstances) -> str:
    if first.step == last.step:
        return (
            f"Only step {first.step} was evaluated, so no change can be measured: evaluate a later checkpoint "
            "of the same run too."
        )
    return (
        "The evaluation had no gold reward model, so it is unknown whether gold follows the proxy. Start the "
        f"service with a gold model and evaluate again. (Recipe {circumstances.recipe}.)"
    )


def _responses_each(circumstances: Circumstances) -> str:
    fewest, most = circumstances.samples
    number = str(most) if fewest == most else f"{fewest} to {most}"
    each = "one response each" if most == 1 else f"{number} responses each"
    return each if circumstances.temperature is None else f"{each} at temperature {circumstances.temperature:g}"


def _changed(change: Change) -> str:
    verb = {Verdict.ROSE: "rose by", Verdict.FELL: "fell by", Verdict.UNDECIDED: "changed by"}[change.verdict]
    decimals = decimals_for(change.low, change.high)
    amount = signed(change.mean, decimals)
    if change.verdict is not Verdict.UNDECIDED:
        amount = plain(abs(change.mean), decimals)
    return f"{verb} {amount} (95 % interval {interval(change.low, change.high, with_sign=True)}, paired by prompt)"


def _undecided(change: Change) -> str:
    if change.low is None or change.high is None:
        return "With a single prompt there is no interval."
    if is_unchanged(change.low, change.high):
        return "The score of every prompt is unchanged."
    half_width = (change.high - change.low) / 2
    return (
        "The interval contains zero: neither a rise nor a fall is shown, and with this number of prompts a change "
        f"smaller than about {plain(half_width, decimals_for(change.low, change.high))} would not be detected."
    )


def _kind_of_evidence(circumstances: Circumstances) -> str:
    text = (
        "This is one run with one seed: the interval covers the choice of prompts, not the variation between runs."
    )
    sharing = {"relevance encoder": circumstances.gold_shares_base, "policy": circumstances.gold_is_on_policy}
    shared = " and the ".join(name for name, is_shared in sharing.items() if is_shared)
    if circumstances.gold_is_demo and shared:
        return (
            f"{text} The gold model is a demo model that shares its base with the {shared}: this is "
            "not independent evidence that the responses got better or worse."
        )
    if circumstances.gold_is_demo:
        return (
            f"{text} The gold model is a demo model, so this does not show that the responses got better or worse."
        )
    if shared:
        return f"{text} The gold model shares its base with the {shared}: this is not independent evidence."
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
        findings.append(f"The proxy reward (recipe {circumstances.recipe}) {_changed(overall.proxy_change)}.")
    if overall.drivers:
        findings += driver_findings(overall.drivers)
    if overall.rank_correlation:
        findings.append(_correlation(overall.rank_correlation))
    elif overall.gold_since_first:
        n = len(overall.gold_since_first) + 1
        findings.append(f"No rank correlation of proxy and gold: {n} checkpoints, {MIN_RANKED} are needed.")
    if overall.gold_falls:
        findings.append(_falls(overall.gold_falls))
    findings += [_of_type(query_type, trend) for query_type, trend in by_type.items() if trend.proxy_change]
    if first.step != last.step:
        findings.append(_length(first, last, circumstances))
        if kl := last.kl:
            amount = f"{plain(kl.mean, decimals_for(kl.low, kl.high))} nats per response"
            bounds = f" (95 % interval {interval(kl.low, kl.high)})" if kl.low is not None else ""
            findings.append(f"At step {last.step} the KL divergence from the initial policy is {amount}{bounds}.")
    return findings


def _correlation(result: RankCorrelation) -> str:
    if result.rho is None or result.p_value is None:
        return "Spearman's ρ is undefined: one of the two rewards is the same at every checkpoint."
    p_value = "< 0.0001" if result.p_value < 0.0001 else f"{result.p_value:.2g}"
    n_orders = f"{result.n_permutations:,}"
    orders = f"over all {n_orders} orders" if result.exact else f"over {n_orders} random orders"
    bounds = (
        f"95 % bootstrap interval over prompts {interval(result.low, result.high)}, "
        if result.low is not None
        else ""
    )
    return (
        f"Over {result.n_checkpoints} checkpoints the mean proxy and mean gold reward have Spearman's "
        f"ρ = {plain(result.rho)} ({bounds}permutation p = {p_value} {orders})."
    )


def _falls(falls: Falls) -> str:
    steps = "1 step" if falls.n_steps == 1 else f"{falls.n_steps} steps"
    text = f"From one checkpoint to the next, mean gold fell at {falls.falls} of {steps}"
    if falls.falls == 0:
        return f"{text}."
    return f"{text}, and at {falls.clear_falls} of these by more than the 95 % interval of the step."


def _of_type(query_type: QueryType, trend: Trend) -> str:
    changes = {"proxy": trend.proxy_change, "gold": trend.gold_change}
    parts = [f"{reward} {_changed(change)}" for reward, change in changes.items() if change]
    return f"{query_type.value.replace('_', '-').capitalize()} prompts ({trend.n_prompts}): {', '.join(parts)}."


def _length(first: CheckpointFigures, last: CheckpointFigures, circumstances: Circumstances) -> str:
    words = (
        f"Mean response length changed from {plain(first.n_words.mean, 1)} to {plain(last.n_words.mean, 1)} words"
    )
    if first.truncated is None or last.truncated is None:
        return f"{words}."
    return (
        f"{words}; the share truncated at {circumstances.max_new_tokens} tokens from {percent(first.truncated)} "
        f"to {percent(last.truncated)}."
    )


def _caveats(
    last: CheckpointFigures, overall: Trend, by_type: dict[QueryType, Trend], circumstances: Circumstances
) -> list[str]:
    caveats = []
    if overall.rank_correlation:
        caveats.append(
            "Neighbouring checkpoints of a run are similar, so any two trends correlate: ρ and its p-value "
            "describe this run and do not show a cause. Therefore the paired change is the primary figure."
        )
    if circumstances.gold_is_proxy:
        caveats.append("This recipe's proxy is the gold reward itself, so the two agree by construction.")
    if _types_disagree(by_type):
        caveats.append(
            "The two query types changed in opposite directions, which the mean over both hides: read them "
            "separately."
        )
    if overall.n_prompts < MIN_PROMPTS:
        caveats.append(
            f"Only {overall.n_prompts} {circumstances.prompts}: at least {MIN_PROMPTS} are recommended."
        )
    if last.truncated is not None and last.truncated > 0.5:
        caveats.append(
            f"{percent(last.truncated)} of the last checkpoint's responses were truncated at the token limit, so "
            "their length has little meaning and their ends were not scored."
        )
    caveats.append(
        "The held-out prompts are similar to the training prompts: the result does not extend to other prompts."
        if circumstances.heldout
        else "It is not recorded whether the policy was trained on these prompts: if it was, the result does not "
        "extend to new prompts."
    )
    caveats.append(
        "One run shows what happened, not why: conclusions about a reward need several seeds and ablations."
    )
    return caveats


def _types_disagree(by_type: dict[QueryType, Trend]) -> bool:
    """Whether one type rose and another fell, in gold or in proxy."""
    both = {Verdict.ROSE, Verdict.FELL}
    gold = {trend.gold_change.verdict for trend in by_type.values() if trend.gold_change}
    proxy = {trend.proxy_change.verdict for trend in by_type.values() if trend.proxy_change}
    return both <= gold or both <= proxy
