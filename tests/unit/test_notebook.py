"""What a notebook shows of a score and of a batch of scores."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from reward_client import ScoreReply
from reward_client.wire import Attribution, ItemError, ItemResult, ModelNames, QueryType, RecipeName, TimingMs

ATTRIBUTION = Attribution(
    baseline_reward=1.0,
    factors={"relevance": 0.5, "repetition": 0.8, "idle": 1.0},
    baseline={"relevance": 1.0, "repetition": 1.0, "idle": 1.0},
    parts={"relevance": -0.45, "repetition": -0.15, "idle": 0.0},
)
RESULT = ItemResult(
    reward=0.4,
    gold_reward=-1.25,
    query_type=QueryType.OPEN_ENDED,
    features={"relevance": 0.72, "repetition": 0.8, "idle": 1.0, "aside": 3.0},
    flags=["truncated"],
    attribution=ATTRIBUTION,
)
HOSTILE = "<script>alert(1)</script>"


def reply(results: list[ItemResult], **fields: object) -> ScoreReply:
    return ScoreReply(
        rewards=[result.reward for result in results],
        results=results,
        recipe=RecipeName(name="rer", hash="abc"),
        models=ModelNames(relevance="letters", gold=None),
        timing_ms=TimingMs(queue=0, encode=0, gold=None, total=0),
    ).model_copy(update=fields)


class _Reader(HTMLParser):
    """Checks that tags are nested, and collects the text of table rows."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, _: object) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "tr" in self.open:
            self.rows[-1] += f" {data}"


def read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def test_a_score_shows_each_factor_with_its_part_of_the_reward() -> None:
    rows = [re.sub(r"\s+", " ", row).strip() for row in read(RESULT._repr_html_()).rows]

    assert rows == [
        "start: every factor at its baseline 1.000",
        "relevance 0.720 → 0.500 −0.450",
        "repetition 0.800 −0.150",
        "without effect: idle 1.000",
        "reward 0.400",
        "not part of it: aside 3.000",
    ]
    assert "gold −1.250 · truncated" in RESULT._repr_html_()


def test_a_score_without_attribution_shows_the_features_and_how_to_get_the_parts() -> None:
    html = RESULT.model_copy(update={"attribution": None})._repr_html_()

    assert "relevance" in html
    assert "explain=True" in html


def test_a_batch_shows_mean_recipe_notices_and_every_item_with_its_error() -> None:
    wrong = ItemResult(reward=None, id="x7", error=ItemError(field="response", message="is too long"))
    html = reply([RESULT, wrong], notices=["a demo model"])._repr_html_()

    assert "1 reward, mean 0.400" in html
    assert "1 without a reward" in html
    assert "rer (abc)" in html
    assert "a demo model" in html
    assert "1 (x7)" in html
    assert "no reward: <bdi>response: is too long" in html


def test_a_large_batch_shows_the_first_items_and_counts_the_others() -> None:
    html = reply([RESULT] * 10_000)._repr_html_()

    assert html.count("<details") == 30
    assert "and 9970 more" in html
    assert len(html) < 100_000


@pytest.mark.parametrize(
    "result",
    [
        RESULT.model_copy(update={"id": HOSTILE}),
        RESULT.model_copy(update={"flags": [HOSTILE]}),
        RESULT.model_copy(update={"features": {HOSTILE: 1.0}, "attribution": None}),
        RESULT.model_copy(update={"features": {HOSTILE: 1.0}}),
        RESULT.model_copy(update={"attribution": ATTRIBUTION.model_copy(update={"parts": {HOSTILE: 1.0}})}),
        ItemResult(reward=None, error=ItemError(field=HOSTILE, message=HOSTILE)),
    ],
)
def test_every_text_is_escaped(result: ItemResult) -> None:
    batch = reply([result], notices=[HOSTILE], recipe=RecipeName(name=HOSTILE, hash=HOSTILE))

    for html in (result._repr_html_(), batch._repr_html_()):
        assert "script" not in read(html).tags


def test_a_picture_loads_nothing_and_has_no_colours_of_its_own_for_text() -> None:
    html = reply([RESULT])._repr_html_()

    assert not re.search(r"https?:|url\(|@import", html)
    assert "background: #fff" not in html
    assert {
        rule for rule in re.findall(r"^(\.[^{]*){", html, re.MULTILINE) if not rule.startswith(".glassbox")
    } == set()


def test_extreme_numbers_and_long_texts_stay_readable() -> None:
    result = RESULT.model_copy(update={"reward": 1e300, "id": "x" * 10_000, "features": {"f" * 10_000: -1e-300}})
    html = reply([result])._repr_html_()

    assert "1e+300" in html
    assert len(html) < 10_000
