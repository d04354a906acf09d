"""A study file: which runs it gives, and errors that name the field and the nearest name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from reward_evidence.study.errors import StudyError
from reward_evidence.study.planning import plan_runs, train_command
from reward_evidence.study.runner import device_slots
from reward_evidence.study.spec import PRESETS, Study, read_study
from reward_evidence.study.train_options import check_options


def study(tmp_path: Path, text: str) -> Study:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return read_study(str(path))


def test_every_recipe_control_and_policy_is_trained_with_every_seed(tmp_path: Path) -> None:
    runs = plan_runs(
        study(tmp_path, "recipes: [rer, li]\ncontrols: [learning_rate_0, gold]\nseeds: [1, 2]\npolicies: [a, b]\n")
    )

    assert len(runs) == 16
    assert len({run.name for run in runs}) == 16
    assert {run.group for run in runs} == {
        f"{arm}, {policy}" for arm in ("rer", "li", "rer, no learning", "gold") for policy in ("a", "b")
    }


def test_the_first_pass_has_every_group_once(tmp_path: Path) -> None:
    runs = plan_runs(study(tmp_path, "recipes: [rer, li, qr]\nseeds: [7, 8]\n"))

    assert [run.name for run in runs[:3]] == ["rer-seed-7", "li-seed-7", "qr-seed-7"]


def test_the_command_has_the_settings_of_study_and_recipe(tmp_path: Path) -> None:
    text = """
recipes:
  - recipe: rer
    label: long
    recipe_overrides: {max_response_tokens: 256, similarity: cosine}
    settings: {kl-coefficient: 0.05}
seeds: [3]
settings: {preset: demo, steps: 4, learning_rate: 1e-5, gold: true}
openrlhf_options: [--actor.entropy_coef, "0.001"]
"""
    (run,) = plan_runs(study(tmp_path, text))

    command = train_command(run, Path("out/runs/long-seed-3"), "http://h:1", resume=False, train=["train"])

    assert " ".join(command) == (
        "train --recipe rer --seed 3 --recipe-override max_response_tokens=256 similarity=cosine --gold "
        "--kl-coefficient 0.05 --learning-rate 1e-5 --preset demo --steps 4 "
        "--run-dir out/runs/long-seed-3 --reward-url http://h:1 -- --actor.entropy_coef 0.001"
    )


def test_a_run_is_resumed_with_its_own_settings(tmp_path: Path) -> None:
    (run,) = plan_runs(study(tmp_path, "recipes: [rer]\nseeds: [3]\n"))

    command = train_command(run, Path("d"), "http://h:1", resume=True, train=["train"])

    assert command == ["train", "--resume", "--run-dir", "d", "--reward-url", "http://h:1"]


def test_the_control_without_learning_is_the_first_recipe_at_learning_rate_0(tmp_path: Path) -> None:
    runs = plan_runs(study(tmp_path, "recipes: [rer, li]\ncontrols: [learning_rate_0]\nseeds: [1]\n"))

    assert runs[-1].group == "rer, no learning"
    assert runs[-1].options == ("--recipe", "rer", "--seed", "1", "--learning-rate", "0")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_are_studies_that_glassbox_train_accepts(preset: str) -> None:
    found = read_study(preset)
    runs = plan_runs(found)

    check_options(found, runs)
    assert len(runs) == len(found.seeds) * (len(found.recipes) + len(found.controls))


def test_a_file_extends_a_preset(tmp_path: Path) -> None:
    found = study(tmp_path, "extends: demo\nseeds: [5]\nsettings: {steps: 4}\n")

    assert found.seeds == [5]
    assert found.settings == {"preset": "demo", "steps": 4}
    assert [arm.name for arm in found.recipes] == ["rer", "glassbox"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: [rer]\nseeds: [1]", "recipe: unknown field; did you mean recipes?"),
        (
            "recipes: [{recipe: rer, seting: {}}]\nseeds: [1]",
            "recipes.0: seting: unknown field; did you mean settings",
        ),
        ("recipes: [rer]", "seeds: "),
        ("recipes: [rer]\nseeds: []", "seeds: "),
        ("recipes: [rer]\nseeds: [1, 1]", "seeds: a value is repeated"),
        ("recipes: [rer]\nseeds: [-1]", "seeds.0: "),
        ("recipes: [rer]\nseeds: [1]\ncontrols: [none]", "controls.0: "),
        ("recipes: [rer]\nseeds: [1]\nsettings: {seed: 3}", "settings: seed is set by the study; use seeds"),
        (
            "recipes: [rer]\nseeds: [1]\nsettings: {steps: }",
            "settings: steps: a number, a text, true, false or a list",
        ),
        ("recipes: [rer]\nseeds: [1]\nsettings: {run-dir: x}", "settings: run-dir is set by the study; use --out"),
        ("recipes: [rer]\nseeds: [1]\nsettings: {evaluate: never}", "evaluate: during or after is required"),
        ("recipes: [rer]\nseeds: [1]\nsettings: {evaluate: false}", "evaluate: during or after is required"),
        (
            "recipes: [{recipe: rer, settings: {evaluate: true}}]\nseeds: [1]",
            "evaluate: during or after is required",
        ),
        ("recipes: [rer]\nseeds: [1]\nsettings: {prompts: a.jsonl}", "settings.heldout is missing"),
        (
            "recipes: [{recipe: a, settings: {max_new_tokens: 9}}]\nseeds: [1]",
            "a: settings.max_new_tokens must be the",
        ),
        ("recipes: [rer]\nseeds: [1]\nservice: {url: 'http://k:s@h'}", "service: url contains a user or a key"),
        (
            "recipes: [rer]\nseeds: [1]\nservice: {url: 'http://h', options: [--gold]}",
            "service: set url, or options",
        ),
        ("recipes: [rer]\nseeds: [1]\nservice: {options: ['--port=1']}", "service: options: --port is set by"),
        ("recipes: [rer]\nseeds: [1]\nray: {gpus: 1}", "service.url is missing: with ray"),
        (
            "recipes: [rer]\nseeds: [1]\nservice: {url: 'http://h'}\nlauncher: [nice]\nray: {}",
            "launcher and ray both start the runs",
        ),
        (
            "recipes: [rer]\nseeds: [1]\nservice: {url: 'http://h'}\nray: {address: 'ray://head:10001'}",
            "ray.address: String should match",
        ),
        ("recipes: [rer]\nseeds: [1]\nname: a b", "name: "),
        ("extends: dem\nseeds: [1]", "extends: there is no preset 'dem'; did you mean demo?"),
        ("[1, 2]", "a mapping with the fields name, recipes"),
        ("recipes: [", "is not valid YAML: "),
    ],
)
def test_an_invalid_file_is_an_error_that_names_the_field(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as raised:
        study(tmp_path, text)

    assert message in str(raised.value)
    assert "study.yaml" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipes: [rer, rer]\nseeds: [1]", "two groups are called 'rer'"),
        ("recipes: [{recipe: a, label: x y}, {recipe: b, label: x-y}]\nseeds: [1]", "give the same folder"),
        (
            "recipes: [rer, li]\nseeds: [1]\nbaseline: rre",
            "baseline: the study has no group 'rre'; did you mean rer?",
        ),
    ],
)
def test_groups_that_cannot_be_distinguished_are_an_error(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as raised:
        plan_runs(study(tmp_path, text))

    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "{lerning_rate: 0}",
            "settings.lerning_rate: `glassbox train` has no such option; did you mean learning_rate?",
        ),
        ("{steps: many}", "the options of rer-seed-1 are invalid: argument --steps: invalid int value: 'many'"),
        ("{preset: dmeo}", "the options of rer-seed-1 are invalid: argument --preset: invalid choice"),
    ],
)
def test_settings_are_checked_before_the_first_run(settings: str, message: str, tmp_path: Path) -> None:
    found = study(tmp_path, f"recipes: [rer]\nseeds: [1]\nsettings: {settings}\n")

    with pytest.raises(StudyError) as raised:
        check_options(found, plan_runs(found))

    assert message in str(raised.value)


def test_an_option_is_repeated_for_each_value_of_a_list(tmp_path: Path) -> None:
    text = "recipes: [rer]\nseeds: [1]\nsettings: {evaluate: during, stop_when: [kl>30, truncated], tag: [a, b]}"
    found = study(tmp_path, text)
    (run,) = plan_runs(found)

    check_options(found, [run])
    assert " ".join(run.options).endswith("--stop-when kl>30 --stop-when truncated --tag a --tag b")


def test_a_value_without_an_option_is_an_error(tmp_path: Path) -> None:
    found = study(tmp_path, "recipes: [rer]\nseeds: [1]\n")
    run = replace(plan_runs(found)[0], options=("--recipe", "rer", "4"))

    with pytest.raises(StudyError, match="'4' belongs to no option; set openrlhf_options"):
        check_options(found, [run])


def test_a_file_that_does_not_exist_is_an_error_that_names_the_presets(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="does not exist; the presets are demo and paper"):
        read_study(str(tmp_path / "no.yaml"))


def test_devices_are_divided_among_runs_at_the_same_time() -> None:
    assert device_slots("0,1,2,3", 2) == ["0,1", "2,3"]
    assert device_slots("0,1,2", 2) == ["0", "1"]
    assert device_slots(None, 3) == [None, None, None]
    assert device_slots("0,1", 1) == [None]
    with pytest.raises(StudyError, match="needs 2 devices at least"):
        device_slots("0", 2)


def test_the_studies_of_the_page_are_valid(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/how-to/run-a-study.md").read_text(encoding="utf-8")
    mine, of_paper = re.findall(r"```yaml[^\n]*\n(.*?)```", page, re.DOTALL)

    for text in (mine, of_paper):
        check_options(study(tmp_path, text), plan_runs(study(tmp_path, text)))
    assert f"These are {len(plan_runs(study(tmp_path, mine)))} runs." in page
    for name in [*Study.model_fields, "extends"]:
        assert f"| `{name}` |" in page
