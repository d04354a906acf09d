"""`glassbox report --compare`: seeds pooled, groups compared on the same prompts, other settings an error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from reward_client.cli.main import main as glassbox
from reward_evidence.comparison.comparison import Comparison, compare
from reward_evidence.comparison.runs import NOT_SETTINGS, group_runs, open_runs
from reward_evidence.report.write import main
from reward_evidence.statistics.monotonicity import Verdict
from reward_runs.errors import EvaluationError
from reward_runs.events import RunEvent, add_event
from reward_runs.layout import RunDir
from reward_trainer.config import Config
from tests.unit.compared_runs import GOLD, STEPS, make_evaluated, rising
from tests.unit.evidence_run import unit_noise
from tests.unit.test_report import HOSTILE, Elements

DEMO = "demo model, not a judge of quality"


def compared(folders: Sequence[Path], baseline: str | None = None) -> Comparison:
    return compare(group_runs(open_runs(folders)), baseline)[0]


def two_groups(path: Path, better: float = 0.1, worse: float = 0.0, n_seeds: int = 3) -> list[Path]:
    """`rer` and `li`, with `n_seeds` seeds each, whose gold rises by `better` and `worse` a step."""
    slopes = {"rer": better, "li": worse}
    return [
        make_evaluated(
            path / f"{recipe}-{seed}",
            rising(slope, seed=seed + 100 * (recipe == "li"), seed_effect=0.02 * seed),
            recipe=recipe,
            seed=seed,
        )
        for recipe, slope in slopes.items()
        for seed in range(n_seeds)
    ]


# Groups --------------------------------------------------------------------------------------------------------


def test_runs_that_differ_only_in_their_seed_are_one_group(tmp_path: Path) -> None:
    found = compared(two_groups(tmp_path))

    assert {group.label: group.n_seeds for group in found.groups} == {"rer": 3, "li": 3}
    assert [run.seed for run in found.groups[0].runs] == [0, 1, 2]
    assert [step.step for step in found.groups[0].steps] == list(STEPS)


def test_the_pooled_mean_and_interval_are_over_seeds_and_prompts(tmp_path: Path) -> None:
    runs = [
        make_evaluated(tmp_path / str(seed), rising(0.1, seed_effect=effect, noise=0.0), seed=seed)
        for seed, effect in enumerate([-0.5, 0.0, 0.5])
    ]

    change = compared(runs).groups[0].gold_change

    assert change is not None
    assert change.mean == pytest.approx(0.6)
    assert change.by_seed == pytest.approx([0.1, 0.6, 1.1])
    assert (change.low, change.high) == pytest.approx(
        (0.6 - 4.303 * 0.5 / 3**0.5, 0.6 + 4.303 * 0.5 / 3**0.5), 1e-3
    )


def test_a_setting_that_differs_makes_another_group_and_is_in_its_label(tmp_path: Path) -> None:
    runs = [make_evaluated(tmp_path / f"r{seed}", rising(0.1), seed=seed) for seed in (1, 2)]
    control = make_evaluated(tmp_path / "control", rising(0.0), record={"learning_rate": 0.0})

    assert list(group_runs(open_runs([*runs, control]))) == ["rer", "rer, learning rate 0"]


def test_gold_that_moved_for_no_prompt_is_unchanged(tmp_path: Path) -> None:
    found = compared([make_evaluated(tmp_path / "run", lambda step, prompt: 0.1 * prompt)])

    assert "(one seed): gold unchanged, proxy rose; change from" in found.findings.sentences[-1]


def test_where_and_how_a_run_is_saved_makes_no_other_group(tmp_path: Path) -> None:
    here = make_evaluated(
        tmp_path / "here", rising(0.1), seed=1, record={"reward_url": "http://a", "save_every": 2}
    )
    there = make_evaluated(tmp_path / "there", rising(0.1), seed=2, record={"reward_url": "http://b"})

    assert list(group_runs(open_runs([here, there]))) == ["rer"]


def test_what_describes_or_follows_a_run_makes_no_other_group(tmp_path: Path) -> None:
    described = {"note": "first", "tags": ["a"], "evaluate_device": "cpu", "mlflow_experiment": "e"}
    here = make_evaluated(tmp_path / "here", rising(0.1), seed=1, record={**described, "stop_when": ["kl>30"]})
    there = make_evaluated(tmp_path / "there", rising(0.1), seed=2)

    assert list(group_runs(open_runs([here, there]))) == ["rer"]


def test_every_setting_of_the_trainer_is_known_to_make_a_group_or_not() -> None:
    """A new setting must be added to NOT_SETTINGS, or here."""
    of_training = {
        *("policy", "prompts", "heldout", "n_heldout", "prompt_column", "reference_column", "query_type_column"),
        *("query_type_default", "system_prompt", "recipe", "recipe_overrides", "estimator", "steps"),
        *("prompts_per_step", "samples_per_prompt", "train_batch_size", "micro_batch_size", "epochs_per_batch"),
        *("learning_rate", "asynchronous", "kl_coefficient", "kl_target", "kl_horizon", "advantage_gamma"),
        *("advantage_lambda", "clip", "value_clip", "max_new_tokens", "max_prompt_tokens", "temperature", "top_p"),
        "raw_flags",
    }

    assert Config.model_fields.keys() - NOT_SETTINGS == of_training


def test_evaluations_without_a_record_are_a_group_each(tmp_path: Path) -> None:
    runs = [make_evaluated(tmp_path / name, rising(0.1), seed=None) for name in ("a", "b")]

    found = compared(runs)

    assert [group.label for group in found.groups] == ["a", "b"]
    assert found.groups[0].runs[0].seed is None


def test_equal_folder_names_are_distinguished(tmp_path: Path) -> None:
    runs = [make_evaluated(tmp_path / part / "demo", rising(0.1), seed=None) for part in ("a", "b")]

    assert list(group_runs(open_runs(runs))) == [str(run) for run in runs]


# Differences ---------------------------------------------------------------------------------------------------


def test_a_better_group_is_named_in_the_headline(tmp_path: Path) -> None:
    found = compared(two_groups(tmp_path))

    assert found.findings.headline == "rer ended with more gold than li"
    assert found.differences[0].verdict is Verdict.ROSE
    assert found.differences[0].mean == pytest.approx(0.6, abs=0.05)


def test_equal_groups_are_not_stated_to_differ(tmp_path: Path) -> None:
    found = compared(two_groups(tmp_path, better=0.05, worse=0.05))

    assert found.findings.headline == "No difference in final gold is shown between 2 groups"
    assert found.differences[0].verdict is Verdict.UNDECIDED


def test_a_baseline_limits_the_comparisons(tmp_path: Path) -> None:
    runs = two_groups(tmp_path, n_seeds=1)
    runs.append(make_evaluated(tmp_path / "qr", rising(0.2), recipe="qr"))

    pairs = [(one.group, one.other) for one in compared(runs, "li").differences]

    assert pairs == [("rer", "li"), ("qr", "li")]
    assert len(compared(runs).differences) == 3


def test_one_seed_is_stated_in_headline_verdict_and_limitations(tmp_path: Path) -> None:
    found = compared(two_groups(tmp_path, n_seeds=1))

    limitations = found.findings.limitations
    assert found.findings.headline == (
        "rer ended with more gold than li (one seed each: the variation between seeds is unknown)"
    )
    assert found.differences[0].one_seed == ["rer", "li"]
    assert "): one seed each, another seed may reverse it." in found.findings.sentences[0]
    assert limitations[0].startswith("One seed only: rer; li. The variation between seeds is unknown there")


def test_a_group_with_one_seed_beside_one_with_several_is_named(tmp_path: Path) -> None:
    runs = two_groups(tmp_path)[:4]  # three seeds of rer, one of li

    found = compared(runs)

    assert found.findings.headline.endswith("(1 of 2 groups has one seed: the variation between seeds is unknown)")
    assert found.differences[0].one_seed == ["li"]
    assert "one seed of li, another seed may reverse it." in found.findings.sentences[0]


def test_one_seed_is_stated_for_runs_of_which_only_the_last_step_was_evaluated(tmp_path: Path) -> None:
    runs = [
        make_evaluated(tmp_path / recipe, rising(slope), recipe=recipe, steps=(6,))
        for recipe, slope in (("rer", 0.2), ("li", 0.0))
    ]

    assert "one seed each" in compared(runs).findings.headline


def test_the_change_of_a_single_run_says_that_seeds_are_unknown(tmp_path: Path) -> None:
    found = compared([make_evaluated(tmp_path / "a", rising(-0.1))])

    assert found.findings.headline == (
        "rer: gold fell while the proxy rose (one seed: the variation between seeds is unknown)"
    )


def test_gold_that_falls_while_the_proxy_rises_is_stated(tmp_path: Path) -> None:
    runs = [make_evaluated(tmp_path / str(seed), rising(-0.1, seed=seed), seed=seed) for seed in (1, 2, 3)]

    assert compared(runs).findings.headline == "rer: gold fell while the proxy rose"


def test_the_demo_gold_model_is_named_as_such(tmp_path: Path) -> None:
    runs = [
        make_evaluated(tmp_path / name, rising(slope, seed=i), recipe=name, notices=[DEMO])
        for i, (name, slope) in enumerate([("rer", 0.2), ("li", 0.0)])
    ]

    found = compared(runs).findings

    assert found.headline.startswith("rer ended with more demo gold than li (")
    assert any("The gold model is a demo model" in line for line in found.limitations)


def test_the_parts_of_the_factors_sum_to_the_proxy_change(tmp_path: Path) -> None:
    group = compared(two_groups(tmp_path, n_seeds=2)).groups[0]

    assert group.proxy_change is not None
    assert sum(factor.part.mean for factor in group.factors) == pytest.approx(group.proxy_change.mean, abs=1e-9)
    assert group.factors[0].name == "length_incentive"
    assert group.factors[0].share == pytest.approx(1.0, abs=0.01)


def test_without_gold_no_difference_is_invented(tmp_path: Path) -> None:
    runs = [make_evaluated(tmp_path / recipe, None, recipe=recipe) for recipe in ("rer", "li")]

    found = compared(runs)

    assert found.differences == []
    assert found.findings.headline == "Gold was not measured, so the groups cannot be ranked"


def test_runs_that_end_early_are_compared_at_their_last_common_step(tmp_path: Path) -> None:
    whole = make_evaluated(tmp_path / "whole", rising(0.1), seed=1)
    part = make_evaluated(tmp_path / "part", rising(0.1), seed=2, steps=STEPS[:3], record={"steps": STEPS[-1]})

    found = compared([whole, part])

    assert [step.step for step in found.groups[0].steps] == list(STEPS[:3])
    assert found.notices == ["The runs of rer end at different steps (whole 6, part 4): step 4 is used."]


def test_a_run_that_a_stop_rule_ended_is_compared_and_named(tmp_path: Path) -> None:
    whole = make_evaluated(tmp_path / "whole", rising(0.1), seed=1)
    part = make_evaluated(tmp_path / "part", rising(0.1), seed=2, steps=STEPS[:3], record={"steps": STEPS[-1]})
    add_event(RunDir(part), RunEvent(kind="stop", step=4, rule="kl>1", message="kl>1: kl is 2"))

    notices = compared([whole, part]).notices

    assert notices[1].startswith(
        "Ended by a stop rule: part: kl>1: kl is 2. The last step of such a run depends on"
    )


def test_runs_with_the_same_seed_do_not_show_the_variation_between_seeds(tmp_path: Path) -> None:
    runs = [make_evaluated(tmp_path / name, rising(0.1), seed=1) for name in ("a", "b")]

    assert "Some runs of rer have the same seed" in compared(runs).notices[0]


# Differences at equal length -----------------------------------------------------------------------------------


def words_of(recipe: str, prompt: int, step: int) -> int:
    """`rer` ends with more words than `li`, by another number for every prompt, and with as many for some."""
    return 20 + (round(step * 2 * (prompt % 8)) if recipe == "rer" else 0)


def of_known_cause(path: Path, *, per_word: float, quality: float = 0.0, n_seeds: int = 3) -> list[Path]:
    """Two groups; gold is `per_word` for each word, and `quality` more at the end of `rer`."""

    def run(recipe: str, seed: int) -> Path:
        def gold(step: int, prompt: int) -> float:
            of_quality = quality * step / STEPS[-1] if recipe == "rer" else 0.0
            of_length = per_word * words_of(recipe, prompt, step)
            return (
                of_length + of_quality + 0.3 * unit_noise(prompt) + 0.05 * unit_noise(recipe, seed, prompt, step)
            )

        return make_evaluated(
            path / f"{recipe}-{seed}",
            gold,
            recipe=recipe,
            seed=seed,
            response=lambda step, prompt: " ".join(["word"] * words_of(recipe, prompt, step)),
        )

    return [run(recipe, seed) for recipe in ("rer", "li") for seed in range(n_seeds)]


def test_a_difference_that_is_all_length_is_named_and_not_green(tmp_path: Path) -> None:
    folders = of_known_cause(tmp_path, per_word=0.02)

    assert main(["--compare", *map(str, folders), "--out", str(tmp_path / "out")]) == 0

    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    found = Comparison.model_validate_json((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    (difference,) = found.differences
    assert difference.verdict is Verdict.ROSE
    assert difference.at_equal_length is not None
    assert difference.at_equal_length.mean == pytest.approx(0.0, abs=0.05)
    assert (difference.at_equal_length.n, difference.at_equal_length.n_equal) == (24, 3)
    assert found.findings.headline == "rer ended with more gold than li, but not at equal length"
    assert "more final gold than li, but not at equal length (95 %" in found.findings.sentences[0]
    assert any("at equal length or truncation is a diagnostic" in line for line in found.findings.limitations)
    assert '<td class="">more<span class="bounds">not at equal length</span>' in page
    assert '<td class="rose">more' not in page


def test_a_difference_at_equal_length_stays_green(tmp_path: Path) -> None:
    folders = of_known_cause(tmp_path, per_word=0.01, quality=0.5)

    assert main(["--compare", *map(str, folders), "--out", str(tmp_path / "out")]) == 0

    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    found = Comparison.model_validate_json((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    (difference,) = found.differences
    assert difference.at_equal_length is not None
    assert difference.at_equal_length.mean == pytest.approx(0.5, abs=0.05)
    assert difference.at_equal_length.slope == pytest.approx(0.01, abs=0.002)
    assert found.findings.headline == "rer ended with more gold than li"
    assert '<td class="rose">more' in page


def test_length_is_named_where_the_better_group_is_the_baseline(tmp_path: Path) -> None:
    found = compared(of_known_cause(tmp_path, per_word=0.02), baseline="rer")

    assert found.differences[0].verdict is Verdict.FELL
    assert found.findings.headline == "rer ended with more gold than li, but not at equal length"


def test_the_groups_that_are_worse_by_length_only_are_named(tmp_path: Path) -> None:
    folders = of_known_cause(tmp_path, per_word=0.02)
    folders += [
        make_evaluated(
            tmp_path / f"qr-{seed}",
            lambda step, prompt: 0.3 * unit_noise(prompt) - 2.0 * step / STEPS[-1],
            recipe="qr",
            seed=seed,
            response=lambda step, prompt: " ".join(["word"] * words_of("rer", prompt, step)),
        )
        for seed in range(3)
    ]

    found = compared(folders)

    assert (
        found.findings.headline
        == "rer ended with more gold than every other group, but not than li at equal length"
    )


def test_a_difference_that_is_all_truncation_is_named(tmp_path: Path) -> None:
    def is_cut(recipe: str, step: int, prompt: int) -> bool:
        return recipe == "li" and step == STEPS[-1] and prompt % 3 > 0

    runs = [
        make_evaluated(
            tmp_path / f"{recipe}-{seed}",
            lambda step, prompt, recipe=recipe, seed=seed: (  # type: ignore[misc]
                0.05 * unit_noise(recipe, seed, prompt, step) - is_cut(recipe, step, prompt)
            ),
            recipe=recipe,
            seed=seed,
            truncated=lambda step, prompt, recipe=recipe: is_cut(recipe, step, prompt),  # type: ignore[misc]
        )
        for recipe in ("rer", "li")
        for seed in range(3)
    ]

    found = compared(runs)

    assert found.differences[0].lost_at_equal == ["truncation"]
    assert found.findings.headline == "rer ended with more gold than li, but not at equal truncation"


@pytest.mark.parametrize("words", [(200, 100), (100, 100)], ids=["longer and cut", "cut"])
def test_a_difference_of_groups_that_never_agree_in_length_or_truncation_is_not_green(
    words: tuple[int, int], tmp_path: Path
) -> None:
    """Every response of one group is cut, none of the other: what the difference is of cannot be told."""
    runs = [
        make_evaluated(
            tmp_path / f"{recipe}-{seed}",
            lambda _, prompt, recipe=recipe, seed=seed: (  # type: ignore[misc]
                (recipe == "rer") + 0.05 * unit_noise(recipe, seed, prompt)
            ),
            recipe=recipe,
            seed=seed,
            response=" ".join(["word"] * n_words),
            truncated=lambda _, __, recipe=recipe: recipe == "rer",  # type: ignore[misc]
        )
        for recipe, n_words in zip(("rer", "li"), words, strict=True)
        for seed in range(3)
    ]

    assert main(["--compare", *map(str, runs), "--out", str(tmp_path / "out")]) == 0

    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    found = Comparison.model_validate_json((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    named = "length or truncation" if words == (200, 100) else "truncation"
    assert found.differences[0].verdict is Verdict.ROSE
    assert found.findings.headline == f"rer ended with more gold than li, but it cannot be told at equal {named}"
    assert f'<td class="">more<span class="bounds">it cannot be told at equal {named}</span>' in page


# What cannot be compared ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 1.0}, "the temperature is 0.7 in a and 1.0 in b"),
        ({"max_new_tokens": 64}, "the token limit is 128 in a and 64 in b"),
        ({"samples": 4, "system_prompt": "Be brief."}, "the number of responses to a prompt is 1 in a and 4 in b"),
        (
            {"gold": {"id": "other", "revision": "c"}},
            r"the gold model is demo-gold \(bbbb\) in a and other \(c\) in b",
        ),
    ],
)
def test_other_sampling_or_another_gold_model_is_an_error_that_names_it(
    settings: Mapping[str, object], message: str, tmp_path: Path
) -> None:
    runs = [
        make_evaluated(tmp_path / "a", rising(0.1)),
        make_evaluated(tmp_path / "b", rising(0.1), recipe="li", settings=settings),
    ]

    with pytest.raises(EvaluationError, match=f"these runs cannot be compared: .*{message}"):
        compared(runs)


def test_gold_in_one_run_only_is_an_error(tmp_path: Path) -> None:
    runs = [make_evaluated(tmp_path / "a", rising(0.1)), make_evaluated(tmp_path / "b", None, recipe="li")]

    with pytest.raises(EvaluationError, match=r"the gold model is demo-gold \(bbbb\) in a and not set in b"):
        compared(runs)


def test_other_prompts_are_an_error(tmp_path: Path) -> None:
    runs = [
        make_evaluated(tmp_path / "a", rising(0.1)),
        make_evaluated(tmp_path / "b", rising(0.1), prompts=range(100, 110)),
    ]

    with pytest.raises(EvaluationError, match=r"have no prompts in common \(prompts: a 24, b 10\)"):
        compared(runs)


def test_equal_ids_with_other_texts_are_other_prompts(tmp_path: Path) -> None:
    runs = [
        make_evaluated(tmp_path / "a", rising(0.1)),
        make_evaluated(tmp_path / "b", rising(0.1), text="How do birds sing, {}?".format),
    ]

    with pytest.raises(EvaluationError, match="under the same id, 'p000' for example, they have other prompts"):
        compared(runs)


def test_runs_with_some_common_prompts_are_compared_on_those_and_say_so(tmp_path: Path) -> None:
    runs = [
        make_evaluated(tmp_path / "a", rising(0.1), prompts=range(20)),
        make_evaluated(tmp_path / "b", rising(0.1), recipe="li", prompts=range(8, 30)),
    ]

    found = compared(runs)

    assert found.n_prompts == 12
    assert found.notices == ["Compared on the 12 prompts that all runs share. Prompts evaluated: a 20, b 22."]


def test_a_run_that_is_given_twice_is_an_error(tmp_path: Path) -> None:
    run = make_evaluated(tmp_path / "a", rising(0.1))

    with pytest.raises(EvaluationError, match="is given twice"):
        compared([run, tmp_path / "." / "a"])


def test_changed_responses_are_an_error(tmp_path: Path) -> None:
    runs = two_groups(tmp_path, n_seeds=1)
    with (runs[1] / "evaluation" / "000006.jsonl").open("a") as file:
        file.write("{}\n")

    with pytest.raises(EvaluationError, match=r"the responses of step 6 in .* are missing or were changed"):
        compared(runs)


# Page and command ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of three groups, one with hostile texts."""
    path = tmp_path_factory.mktemp("compared")
    runs = two_groups(path, n_seeds=2)
    runs.append(
        make_evaluated(path / "odd", rising(0.02), recipe="<b>odd</b>", response=HOSTILE, notices=[HOSTILE])
    )
    assert main(["--compare", *map(str, runs), "--out", str(path / "out")]) == 0
    return path / "out"


def test_the_page_is_one_file_without_scripts_and_escapes_every_text(out: Path) -> None:
    page = (out / "comparison.html").read_text(encoding="utf-8")
    elements = Elements(page)

    assert not elements.all("script")
    assert not elements.all("link")
    assert all((image["src"] or "").startswith("data:image/svg+xml;base64,") for image in elements.all("img"))
    assert "<b>odd</b>" not in page
    assert "onerror=alert(2)>" not in page


def test_the_page_has_every_group_difference_and_run(out: Path) -> None:
    page = (out / "comparison.html").read_text(encoding="utf-8")
    figures = Comparison.model_validate_json((out / "comparison.json").read_text(encoding="utf-8"))

    assert len(figures.differences) == 3
    for name in ("rer-0", "rer-1", "li-0", "li-1", "odd"):
        assert f"<td>{name}</td>" in page
    assert (out / "comparison_plots" / "gold_by_step.png").stat().st_size > 5000


def test_a_long_prompt_or_response_is_cut_on_the_page(tmp_path: Path) -> None:
    long = "x" * 100_000
    runs = [
        make_evaluated(
            tmp_path / name, rising(0.1), recipe=name, prompts=range(3), text=f"{{}}{long}".format, response=long
        )
        for name in ("rer", "li")
    ]
    assert main(["--compare", *map(str, runs), "--out", str(tmp_path / "out")]) == 0

    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "x" * 4_001 not in page
    assert "… (96,000 more characters)" in page


def test_the_json_has_only_finite_numbers(out: Path) -> None:
    def reject(name: str) -> None:
        raise AssertionError(name)

    assert json.loads((out / "comparison.json").read_text(encoding="utf-8"), parse_constant=reject)["groups"]


def test_the_command_prints_the_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = two_groups(tmp_path)

    assert glassbox(["report", "--compare", *map(str, runs), "--out", str(tmp_path / "out")]) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("rer ended with more gold than li.\n- rer has 0.59 more final gold than li (95 %")
    assert f"report: {tmp_path / 'out' / 'comparison.html'}" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--compare", "{a}"], "--compare needs two runs or more"),
        (
            ["--compare", "{a}", "{b}", "--baseline", "qr"],
            "there is no group 'qr' to compare with; the groups are",
        ),
        (["--compare", "{a}", "{b}/config.json"], "config.json is not a folder"),
        (["--compare", "{a}", "."], "evaluation.json is missing: run `glassbox evaluate"),
        (["--baseline", "rer"], "--baseline needs --compare"),
    ],
)
def test_a_comparison_that_is_impossible_writes_nothing(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = two_groups(tmp_path, n_seeds=1)
    given = [option.format(a=a, b=b) for option in options]

    assert main([*given, "--out", str(tmp_path / "out")]) == 1

    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Several gold models -------------------------------------------------------------------------------------------


def two_golds(path: Path, *, several: bool = True, revision: str = "cccc") -> list[Path]:
    """Two groups: `rer` is better by the primary gold model, `li` by another one, if there are `several`."""
    return [
        make_evaluated(
            path / f"{recipe}-{seed}",
            rising(slope, seed=seed),
            recipe=recipe,
            seed=seed,
            others={"other": rising(-slope, seed=seed)} if several else None,
            settings={"golds": [GOLD, {"id": "other", "revision": used}]} if several else None,
        )
        for recipe, slope, used in (("rer", 0.1, "cccc"), ("li", 0.0, revision))
        for seed in range(3)
    ]


def test_other_gold_models_are_listed_and_decide_nothing(tmp_path: Path) -> None:
    found = compared(two_golds(tmp_path / "several"))
    alone = compared(two_golds(tmp_path / "alone", several=False))

    assert found.findings.headline == alone.findings.headline
    assert found.differences == alone.differences
    (difference,) = found.other_gold_differences["other"]
    assert (difference.group, difference.verdict) == ("li", Verdict.ROSE)
    change = found.groups[0].other_gold_changes["other"]
    assert change.mean == pytest.approx(-0.6, abs=0.1)
    expected = "rest on the primary gold model alone, demo-gold; listed beside it: other"
    assert any(expected in notice for notice in found.notices)
    assert alone.notices == []


def test_a_gold_model_whose_weights_differ_between_runs_is_not_compared(tmp_path: Path) -> None:
    found = compared(two_golds(tmp_path, revision="dddd"))

    assert found.other_gold_differences == {}
    assert len(found.differences) == 1


def test_a_run_without_the_other_gold_model_leaves_it_out(tmp_path: Path) -> None:
    found = compared(
        [*two_golds(tmp_path), make_evaluated(tmp_path / "li-9", rising(0.0, seed=9), recipe="li", seed=9)]
    )

    assert found.other_gold_differences == {}
    assert found.groups[0].other_gold_changes == {}


def test_the_page_lists_other_gold_models(tmp_path: Path) -> None:
    folders = two_golds(tmp_path)

    assert main(["--compare", *map(str, folders), "--out", str(tmp_path / "out")]) == 0

    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "Beside the primary gold model: other" in page
    assert "rest on the primary gold model alone, demo-gold" in page
