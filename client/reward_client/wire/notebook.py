"""Pictures of scores for notebooks: one item with the part of each factor of its reward, or a batch of items.

Self-contained HTML without scripts; every text is escaped. Colours are those of the text around it, so that it is
readable in light and dark notebooks, whose theme is not that of the reader's system. Values come as `model_dump`
writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

MAX_ITEMS = 30
"""Items that the picture of a batch shows; it counts the others."""
_MAX_ROWS = 60
_MAX_CHARS = 200
_ZERO = 5e-4
"""A part below this is without effect, as in the service's page."""

_Values = Mapping[str, Any]

_STYLE = """<style>
.glassbox { max-width: 46rem; font: 14px/1.45 system-ui, sans-serif; }
.glassbox b { font-size: 1.35em; font-variant-numeric: tabular-nums; }
.glassbox .soft { opacity: .7; font-size: .9em; }
.glassbox .bad { color: #d0453a; }
.glassbox bdi { overflow-wrap: anywhere; }
.glassbox table { border-collapse: collapse; width: 100%; margin: .3rem 0 .8rem; font-size: 1em; }
.glassbox tr { background: none !important; border-top: 1px solid rgba(128, 128, 128, .35); }
.glassbox th, .glassbox td { padding: .15rem .8rem .15rem 0; text-align: left; font-weight: normal; }
.glassbox .number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.glassbox .sum > * { font-weight: 600; }
.glassbox .track { position: relative; display: inline-block; width: 7rem; height: .7em; }
.glassbox .track { background: rgba(128, 128, 128, .2); }
.glassbox .track i { position: absolute; top: 0; bottom: 0; background: #3b8bc4; }
.glassbox .track i.loss { background: #cf6a2c; }
.glassbox summary { cursor: pointer; padding: .15rem 0; }
.glassbox summary b { font-size: 1em; display: inline-block; min-width: 4rem; text-align: right; }
.glassbox summary > bdi { display: inline-block; min-width: 6rem; }
.glassbox details { border-top: 1px solid rgba(128, 128, 128, .35); }
.glassbox details > table { margin-left: 1.1rem; width: calc(100% - 1.1rem); }
</style>"""


def item_html(result: _Values) -> str:
    """The picture of an `ItemResult`."""
    return _picture(["<div>", *_heading(result), "</div>", *_item(result)])


def reply_html(reply: _Values, rewards: Sequence[float | None]) -> str:
    """The picture of a `ScoreReply`, of whose results `reply` may have the first MAX_ITEMS only."""
    return _picture(_reply(reply, rewards))


def _picture(lines: Iterator[str] | list[str]) -> str:
    return "\n".join(['<div class="glassbox">', _STYLE, *lines, "</div>"])


def _reply(reply: _Values, rewards: Sequence[float | None]) -> Iterator[str]:
    known = [reward for reward in rewards if reward is not None]
    mean = f", mean {_number(sum(known) / len(known))}" if known else ""
    yield f"<div><b>{len(known)} reward{'' if len(known) == 1 else 's'}{mean}</b></div>"
    if len(known) < len(rewards):
        yield f'<div class="bad">{len(rewards) - len(known)} without a reward</div>'
    models = [reply["models"][kind] for kind in ("relevance", "gold") if reply["models"][kind]]
    recipe = f"recipe {reply['recipe']['name']} ({reply['recipe']['hash']})"
    for line in [" · ".join([recipe, *models]), *reply["notices"]]:
        yield f'<div class="soft">{_text(line)}</div>'
    scale = max((abs(reward) for reward in known), default=0.0)
    for index, result in enumerate(reply["results"][:MAX_ITEMS]):
        name = str(index) if result["id"] is None else f"{index} ({result['id']})"
        is_open = " open" if len(rewards) == 1 else ""
        bar = "" if result["reward"] is None else _bar(result["reward"], scale)
        yield f"<details{is_open}><summary>{_text(name)} {bar} {' '.join(_heading(result))}</summary>"
        yield from _item(result)
        yield "</details>"
    if len(rewards) > MAX_ITEMS:
        yield f'<div class="soft">and {len(rewards) - MAX_ITEMS} more</div>'


def _heading(result: _Values) -> Iterator[str]:
    if result["error"]:
        yield f'<span class="bad">no reward: {_text("{field}: {message}".format(**result["error"]))}</span>'
        return
    yield f"<b>{_number(result['reward'])}</b>"
    more = [str(result["query_type"] or "")]
    more += [f"gold {_number(result['gold_reward'])}"] if result["gold_reward"] is not None else []
    more += result["flags"]
    yield f'<span class="soft">{_text(" · ".join(filter(None, more)))}</span>'


def _item(result: _Values) -> Iterator[str]:
    if result["error"]:
        return
    attribution = result["attribution"]
    yield "<table>"
    yield from _parts(result, attribution) if attribution else _features(result["features"])
    yield "</table>"
    if not attribution:
        yield '<div class="soft">With explain=True: the part of each feature of the reward.</div>'


def _features(features: _Values) -> Iterator[str]:
    for name, value in list(features.items())[:_MAX_ROWS]:
        yield _row(name, _number(value))


def _parts(result: _Values, attribution: _Values) -> Iterator[str]:
    """The baseline, each factor with a part, the factors without effect, the reward, and the other features."""
    features, factors, parts = result["features"], attribution["factors"], attribution["parts"]

    def value(name: str) -> str:
        before, factor = _number(features.get(name)), _number(factors.get(name))
        return factor if features.get(name) is None or before == factor else f"{before} → {factor}"

    moving = {name: part for name, part in parts.items() if abs(part) >= _ZERO}
    scale = max(map(abs, moving.values()), default=0.0)
    yield _row("start: every factor at its baseline", "", _number(attribution["baseline_reward"]), "")
    for name, part in list(moving.items())[:_MAX_ROWS]:
        yield _row(name, value(name), f"{'+' if part > 0 else ''}{_number(part)}", _bar(part, scale))
    if idle := [f"{name} {value(name)}" for name in parts if name not in moving]:
        yield f'<tr><td colspan="4" class="soft">without effect: {_text(", ".join(idle), 1_000)}</td></tr>'
    yield _row("reward", "", _number(result["reward"]), "", style="sum")
    others = [f"{name} {_number(x)}" for name, x in features.items() if name not in parts and x is not None]
    if others:
        yield f'<tr><td colspan="4" class="soft">not part of it: {_text(", ".join(others), 1_000)}</td></tr>'


def _row(name: str, *cells: str, style: str = "") -> str:
    """A row; `cells` are numbers and HTML."""
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr class="{style}"><th scope="row">{_text(name)}</th>{numbers}</tr>'


def _bar(part: float, scale: float) -> str:
    """A bar from the middle to the right, or, for a loss, to the left; `scale` fills its half."""
    width = min(50.0, 50.0 * abs(part) / scale) if scale else 0.0
    side, style = ("right", "loss") if part < 0 else ("left", "")
    return f'<span class="track"><i class="{style}" style="{side}: 50%; width: {width:.1f}%"></i></span>'


def _text(text: str, max_chars: int = _MAX_CHARS) -> str:
    shown = text if len(text) <= max_chars else f"{text[:max_chars]} …"
    return f"<bdi>{escape(shown)}</bdi>"


def _number(value: float | None) -> str:
    """Three decimals, four significant digits beyond a million; a minus sign, not a hyphen."""
    if value is None:
        return "–"
    text = f"{value:.4g}" if abs(value) >= 1e6 else f"{value:.3f}"
    return text.replace("-", "−")
