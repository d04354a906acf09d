"""Sentences about what drove the reward. Pure."""

from reward_evidence.report.formatting import decimals_for, interval, percent, signed
from reward_evidence.statistics.drivers import Brevity, Drivers
from reward_evidence.statistics.equal_change import EqualChange
from reward_evidence.statistics.monotonicity import Win

_MEDIATOR = (
    "length is a mediator: if longer answers are better answers, this figure leaves out a gain that is real"
)


def driver_findings(drivers: Drivers) -> list[str]:
    """The diagnostics, one sentence each; the split by factor is a table and a chart."""
    found = []
    if drivers.gold_wins:
        found.append(_wins(drivers.gold_wins))
    if drivers.gold_at_equal_length:
        found.append(_at_equal("length", "word", "within a tenth", drivers.gold_at_equal_length, _MEDIATOR))
    if drivers.gold_at_equal_truncation:
        found.append(_at_equal("truncation", "truncated response", "exactly", drivers.gold_at_equal_truncation))
    if drivers.brevity:
        found.append(_brevity(drivers.brevity))
    return found


def _wins(wins: Win) -> str:
    return (
        f"The last checkpoint's response has the higher gold reward for {percent(wins.rate)} of prompts "
        f"(95 % interval {percent(wins.low)} to {percent(wins.high)}; ties count half)."
    )


def _at_equal(what: str, unit: str, nearly: str, change: EqualChange, remark: str = "") -> str:
    if change.mean is None:
        return (
            f"Diagnostic: gold cannot be told at equal {what}: it changed by the same amount for every prompt, so "
            "its effect and that of everything else cannot be separated."
        )
    decimals = decimals_for(change.low, change.high)
    bounds = f"95 % interval {interval(change.low, change.high, with_sign=True)}"
    text = f"Diagnostic: at equal {what} gold changed by {signed(change.mean, decimals)} ({bounds})"
    if change.slope is None:
        return f"{text}: {what} did not change for any prompt."
    slope = f"{signed(change.slope, 4)} gold for each {unit}"
    assumption = (
        f"This assumes the same slope for every prompt ({slope}), and that nothing else changed with {what}"
    )
    support = f"{change.n_equal} of {change.n} prompts kept their {what} {nearly}"
    support += "" if change.can_be_told else ", so this is an extrapolation"
    return f"{text}, by least squares over prompts. {assumption}; {support}{f'; {remark}' if remark else ''}."


def _brevity(brevity: Brevity) -> str:
    change = brevity.proxy_change
    amount = signed(change.mean, decimals_for(change.low, change.high))
    text = f"The {brevity.n_prompts} prompts that ask for a brief answer changed the proxy by {amount} each"
    if gold := brevity.gold_change:
        text += f" and gold by {signed(gold.mean, decimals_for(gold.low, gold.high))}"
    if brevity.share is None:
        return f"{text}."
    return f"{text}; they make up {percent(brevity.share)} of the proxy's change."
