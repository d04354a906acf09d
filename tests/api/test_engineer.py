"""`glassbox engineer` through a real service with test models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from reward_client import RewardClient
from reward_client.cli.main import main
from reward_client.wire import Info, Item
from reward_service.features.recipe_registry import read_recipe
from reward_service.features.registry import FeatureRegistry
from reward_service.settings import Settings
from tests.live import serving
from tests.plugins import install_plugin

pytestmark = pytest.mark.slow

GOLD = {
    "open_ended": [
        {"feature": "length_incentive", "saturate": 0.4},
        {"feature": "repetition_penalty", "power": 3},
        {"feature": "query_relevance", "power": 2},
    ]
}
_WORDS = [
    "amber",
    "bridge",
    "candle",
    "dragon",
    "ember",
    "forest",
    "garden",
    "harbour",
    "island",
    "jungle",
    "kettle",
]


def responses(n_prompts: int, per_prompt: int, seed: int = 0) -> list[dict[str, Any]]:
    """Texts of random words with different lengths, repetition and similarity to their prompts."""
    rng = Random(seed)
    rows = []
    for _ in range(n_prompts):
        prompt = " ".join(rng.sample(_WORDS, 4))
        for _ in range(per_prompt):
            words = rng.choices(
                prompt.split() if rng.random() < 0.4 else _WORDS[: rng.randint(2, 11)], k=rng.randint(3, 70)
            )
            rows.append(
                {"prompt": f"Write about {prompt}.", "response": " ".join(words) + rng.choice([".", "", " and"])}
            )
    return rows


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with serving(Settings()) as url:
        yield url


@pytest.fixture(scope="module")
def scored(service: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with the rewards of a known recipe as gold."""
    rows = responses(200, 8)
    with RewardClient(service) as client:
        rewards = client.score([Item(**row) for row in rows], recipe="rer", recipe_overrides=GOLD).rewards
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(r | {"gold": g}) + "\n" for r, g in zip(rows, rewards, strict=True)))
    return path


def run(*arguments: str | Path) -> None:
    assert main(["engineer", *map(str, arguments)]) == 0


def failure(*arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as error:
        main(["engineer", *map(str, arguments)])
    return str(error.value.code)


@pytest.fixture(scope="module")
def out(service: str, scored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    run(
        scored,
        "--out",
        folder,
        "--url",
        service,
        "--folds",
        "3",
        "--max-factors",
        "3",
        "--name",
        "found",
        "--exclude",
        "content_words",
    )
    return folder


def test_a_known_recipe_is_recovered_through_the_service(out: Path) -> None:
    result = json.loads((out / "engineer.json").read_text())

    assert result["overall"]["correlation"]["engineered"]["mean"] >= 0.99
    assert {"rer", "glassbox", "longest"} == set(result["overall"]["accuracy_gain"])


def test_the_recipe_file_gives_the_rewards_of_the_fit(out: Path, scored: Path) -> None:
    """`glassbox recipes check` and a service read it; its hash is that of the rewards that were compared."""
    check = json.loads((out / "engineer.json").read_text())["service"]
    recipe = read_recipe(out / "found.yaml", FeatureRegistry(), Settings())

    assert main(["recipes", "check", str(out / "found.yaml")]) == 0
    assert recipe.hash == check["recipe_hash"]
    assert check["n"] > 100
    assert check["largest_difference"] <= 1e-6
    items = [
        Item(**{k: v for k, v in json.loads(line).items() if k != "gold"})
        for line in scored.read_text().splitlines()
    ]
    with serving(Settings(recipes_dir=out)) as url, RewardClient(url) as client:
        assert client.score(items[:8], recipe="found").recipe.hash == recipe.hash


def test_the_page_shows_figures_factors_and_the_probe_without_external_resources(out: Path) -> None:
    page = (out / "engineer.html").read_text()

    for text in ("Held-out figures", "How stable is the selection?", "Where recipe and gold disagree", "Probe:"):
        assert text in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (out / "probe.html").exists()


def test_a_stopped_command_continues_with_what_was_measured(
    service: str, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = ["--url", service, "--limit", "240", "--folds", "2", "--max-factors", "2", "--no-probe"]
    run(scored, "--out", whole, *options)
    stopped.mkdir()
    lines = (whole / "features-1.jsonl").read_text().splitlines(keepends=True)
    (stopped / "features-1.jsonl").write_text("".join(lines[:200]))
    capsys.readouterr()
    run(scored, "--out", stopped, *options)

    assert "features-1: 200/240" in capsys.readouterr().err
    before, after = (json.loads((one / "engineer.json").read_text()) for one in (whole, stopped))
    assert after["types"] == before["types"]


def test_gold_of_the_service_is_probed_beside_the_recipe(service: str, tmp_path: Path) -> None:
    """The gold of the tests counts characters: it is hackable, and a warning names that."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in responses(30, 4, seed=1)))
    run(
        rows,
        "--out",
        tmp_path / "out",
        "--url",
        service,
        "--gold-from-service",
        "--folds",
        "2",
        "--max-factors",
        "2",
    )
    result = json.loads((tmp_path / "out" / "engineer.json").read_text())

    assert result["gold"] == "length-gold (the service's)"
    assert {"padded", "looped"} <= {kind["name"] for kind in result["probe"]["gold_failing"]}
    assert any("without an end" in text for text in result["warnings"])
    assert any(text.startswith("Gold itself prefers") for text in result["warnings"])


def test_features_of_plugins_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is negative, and does not apply to some rows."""
    code = """
def compute(inputs):
    return None if "garden" in inputs.prompt else inputs.response.count("e") / 20 - 1

FEATURE = feature("letter_e", ResponseText, compute, range=(-1.0, 3.0))
"""
    install_plugin(tmp_path, monkeypatch, "letters_plugin", code)
    rows = responses(40, 4, seed=2)
    for row in rows:
        row["gold"] = 1 if "garden" in row["prompt"] else row["response"].count("e")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving(Settings()) as url:
        run(path, "--out", tmp_path / "out", "--url", url, "--folds", "2", "--max-factors", "2", "--no-probe")
    result = json.loads((tmp_path / "out" / "engineer.json").read_text())

    assert "letter_e" in result["types"]["open_ended"]["formula"]
    assert result["overall"]["correlation"]["engineered"]["mean"] > 0.9
    assert result["service"]["largest_difference"] <= 1e-6


def test_closed_ended_rows_get_factors_of_their_own(service: str, tmp_path: Path) -> None:
    rows = []
    for n in range(30):
        for k in range(4):
            response = f"The answer is {n + k}." if k else f"{n}"
            rows.append({"prompt": f"What is {n} plus 0?", "response": response, "reference": str(n),
                         "query_type": "closed_ended", "gold": float(k == 0)})  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(path, "--out", tmp_path / "out", "--url", service, "--folds", "2", "--max-factors", "2", "--no-probe")
    types = json.loads((tmp_path / "out" / "engineer.json").read_text())["types"]

    assert types["closed_ended"]["comparison"]["accuracy"]["engineered"]["mean"] > 0.9
    assert types["open_ended"]["not_fitted"] == "open-ended: the input has no such rows"


def test_info_lists_what_features_need(service: str) -> None:
    with RewardClient(service) as client:
        info: Info = client.info()
    needs = {feature.name: feature.needs for feature in info.features}

    assert {needs[name] for name in ("query_relevance", "reference_relevance", "semantic_novelty")} == {"encoder"}
    assert (needs["gold"], needs["max_length_incentive"], needs["finished"]) == ("gold", "nothing", "text")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features", "lenght_incentive"], "the service has no feature 'lenght_incentive'; it has"),
        (["--base-recipe", "rer-reference"], "recipe rer-reference cannot be the base: its similarity is dot"),
        (["--base-recipe", "nothing"], "the service has no recipe 'nothing'; it has"),
        (["--features", "finished", "--exclude", "finished"], "no feature is left to choose from"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    options: list[str], message: str, service: str, scored: Path, tmp_path: Path
) -> None:
    assert message in failure(scored, "--out", tmp_path / "out", "--url", service, *options)


def test_gold_of_a_service_that_has_none_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p", "response": "a"}\n')
    with serving(Settings(gold="none")) as url:
        message = failure(path, "--out", tmp_path / "out", "--url", url, "--gold-from-service")

    assert "this service has no gold model" in message
