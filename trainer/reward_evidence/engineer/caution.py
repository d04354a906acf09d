"""What a reader has to know before a policy is trained on the recipe. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reward_client.wire import QueryType
from reward_evidence.engineer.findings import ENGINEERED
from reward_evidence.engineer.result import Comparison, ProbeResult, ServiceCheck, TypeResult
from reward_evidence.engineer.service_check import TOLERANCE
from reward_evidence.report.formatting import percent
from reward_evidence.statistics.monotonicity import Estimate

_SHOWN = 5


def warnings(
    types: Mapping[QueryType, TypeResult],
    overall: Comparison,
    service: ServiceCheck,
    probe: ProbeResult | None,
    labels: Mapping[str, str],
) -> list[str]:
    """Sentences, the gravest first."""
    return [
        *_of_service(service),
        *_of_figures(overall),
        *(text for kind, found in types.items() for text in _of_features(kind, found, labels)),
        *_of_probe(probe),
    ]


def _of_service(service: ServiceCheck) -> Iterator[str]:
    if service.largest_difference > TOLERANCE:
        yield (
            f"The service computes other rewards than the fit, by up to {service.largest_difference:.2g}: the "
            "figures are those of the fit."
        )


def _of_figures(overall: Comparison) -> Iterator[str]:
    found = overall.accuracy[ENGINEERED]
    if found.low is None or found.low <= 0.5:
        yield (
            f"The recipe ranks {percent(found.mean)} of held-out pairs as gold does, and the interval includes "
            "50 %: no factor was shown to help."
        )
    for name, gain in overall.accuracy_gain.items():
        if gain.high is not None and gain.high < 0:
            yield f"{name} ranks held-out responses better than the recipe."


def _of_features(kind: QueryType, found: TypeResult, labels: Mapping[str, str]) -> Iterator[str]:
    """Gold that a policy can exploit along a feature, and gold that no recipe can follow."""
    where = kind.value.replace("_", "-")
    endless = [
        f"{labels.get(one.name, one.name)} ({_share(one.prefers_more_of_much)})"
        for one in found.features
        if one.is_amount and _low(one.prefers_more_of_much) > 0.5
    ]
    if endless:
        yield (
            f"Gold rises without an end with {', '.join(endless)} ({where}): of two responses above the upper "
            "quartile, it prefers the one with more in that share of pairs. A policy can exploit that."
        )
    falling = [
        f"{labels.get(one.name, one.name)} ({_share(one.prefers)})"
        for one in found.features
        if one.prefers is not None and one.prefers.high is not None and one.prefers.high < 0.5
    ]
    if falling:
        yield (
            f"Gold prefers less of {', '.join(falling)} ({where}; share of pairs in which it prefers more). The "
            "factors of a recipe ascend, so that none can follow this."
        )


def _low(found: Estimate | None) -> float:
    return 0.0 if found is None or found.low is None else found.low


def _share(found: Estimate | None) -> str:
    return "" if found is None else f"{percent(found.mean)}, {found.n} prompts"


def _of_probe(probe: ProbeResult | None) -> Iterator[str]:
    if probe is None:
        return
    if probe.failing:
        names = ", ".join(kind.name for kind in probe.failing[:_SHOWN])
        yield (
            f"The recipe pays for gamed or wrong responses of {len(probe.failing)} of {probe.n_kinds} kinds: "
            f"{names}."
        )
    if probe.gold_failing:
        names = ", ".join(kind.name for kind in probe.gold_failing[:_SHOWN])
        yield (
            f"Gold itself prefers gamed or wrong responses of {len(probe.gold_failing)} of {probe.n_kinds} kinds: "
            f"{names}. A recipe that follows this gold may follow it there too."
        )
