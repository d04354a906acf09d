"""The result as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reward_client.wire import QueryType
from reward_evidence.engineer.findings import ENGINEERED
from reward_evidence.engineer.result import Comparison, Engineered, TypeResult
from reward_evidence.statistics.monotonicity import Estimate


def render(result: Engineered) -> str:
    """The formula, held-out figures, what each feature adds, warnings."""
    return "\n".join(_lines(result))


def _lines(result: Engineered) -> Iterator[str]:
    yield f"{result.name}: {result.n_rows} responses, gold: {result.gold}"
    for kind, found in result.types.items():
        yield from _type(kind, found)
    yield ""
    yield from _figures(result.overall)
    check = result.service
    yield ""
    yield (
        f"{check.n} rows scored by the service with the recipe ({check.recipe_hash}): rewards differ from the "
        f"fit's by {check.largest_difference:.1e} at most"
    )
    if result.probe is not None and result.probe.accuracy is not None:
        yield (
            f"Probe: the good answer wins {100 * result.probe.accuracy:.0f} % of pairs, mean over "
            f"{result.probe.n_kinds} kinds; {len(result.probe.failing)} kinds fail"
        )
    yield from (f"warning: {text}" for text in result.warnings)
    yield from (f"note: {text}" for text in result.notices)


def _type(kind: QueryType, found: TypeResult) -> Iterator[str]:
    yield ""
    yield f"{kind.value}: {found.n_rows} responses, {found.n_prompts} prompts with an order"
    yield f"  {found.formula}"
    if found.not_fitted is not None:
        yield f"  not fitted, the factors are those of the base recipe ({found.not_fitted})"
        return
    n = len(found.fold_formulas)
    for feature in found.features:
        if feature.adds is not None:
            yield f"  {feature.name:<24} in {feature.in_folds} of {n} folds, adds {_shown(feature.adds, '+.3f')}"


def _figures(overall: Comparison) -> Iterator[str]:
    n = overall.accuracy[ENGINEERED].n
    yield f"held out, mean over {n} prompts [95 % interval]"
    yield f"{'':12}  {'pairs ranked as gold':<26}{'rank correlation':<26}gain of the recipe, pairs"
    for name in overall.accuracy:
        gain = overall.accuracy_gain.get(name)
        cells = (_shown(overall.accuracy[name]), _shown(overall.correlation[name]))
        yield f"{name:<12}  {cells[0]:<26}{cells[1]:<26}{_shown(gain, '+.3f') if gain else ''}".rstrip()


def _shown(found: Estimate, form: str = ".3f") -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:{form}}"
    return f"{found.mean:{form}} [{found.low:{form}}, {found.high:{form}}]"


def order(types: Mapping[QueryType, TypeResult]) -> list[QueryType]:
    """Fitted query types first."""
    return sorted(types, key=lambda kind: types[kind].not_fitted is not None)
