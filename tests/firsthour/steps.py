"""The steps of a first hour, as README and docs show them: look around, score, choose a reward, train, compare."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.conftest import ROOT
from tests.firsthour.hour import NO_SERVICE, Step
from tests.firsthour.material import DIRTY_LINES

__all__ = ["AFTER_START", "BEFORE_START"]

TRAIN = (
    "glassbox train --reward-url $GLASSBOX_URL --preset tiny --policy policy --prompts train.jsonl "
    "--heldout heldout.jsonl"
)


def one_line(_: Path, seen: str) -> None:
    """A failure is one line."""
    assert len(seen.strip().splitlines()) == 1, seen


def names_the_dirty_lines(folder: Path, seen: str) -> None:
    lines = {int(number) for number in re.findall(r"^dirty\.jsonl, line (\d+): ", seen, re.MULTILINE)}
    assert lines == set(DIRTY_LINES)
    assert len((folder / "dirty-scored.jsonl").read_text().splitlines()) == 180


def starts_quietly(_: Path, seen: str) -> None:
    """A line for each model, one that it is ready, and no reports of libraries."""
    assert len(re.findall(r" (?:encoder|gold model) \S+ runs on ", seen)) == 2, seen
    assert seen.count(" ready: http://") == 1, seen
    assert len(seen.splitlines()) <= 10, seen
    assert all("logger=reward_service" in line for line in seen.splitlines()), seen


def readme_example() -> str:
    """The README's lines of Python, which a user pastes."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def two_runs_are_listed(folder: Path, _: str) -> None:
    page = (folder / "runs/index.html").read_text(encoding="utf-8")
    for text in ("default/report.html", "length/report.html", "the default reward", "first-hour"):
        assert text in page


def both_recipes_are_compared(folder: Path, _: str) -> None:
    compared = json.loads((folder / "runs/compared/comparison.json").read_text(encoding="utf-8"))
    assert sorted(group["recipe"] for group in compared["groups"]) == ["glassbox", "li"]


LOOK_AROUND = [
    Step(
        "make says how to use the environment",
        "make -s -C $REPOSITORY help",
        ["source .venv/bin/activate", "demo"],
    ),
    Step("the version", "glassbox --version", ["glassbox "]),
    Step("the commands", "glassbox --help", ["start the reward service", "score", "train", "evaluate"]),
    Step("a misspelt command", "glassbox scor", ["did you mean 'score'?"], status=2, check=one_line),
    Step("the help of a command has an example", "glassbox score --help", ["examples:", "--keep-going"]),
    Step("this machine", "glassbox doctor", ["ok", "Python"]),
]

WITHOUT_SERVICE = [
    Step(
        "a service that is not there",
        f"glassbox score responses.jsonl out.jsonl --url {NO_SERVICE}",
        [f"no service answers at {NO_SERVICE}", "glassbox serve", "--wait"],
        status=1,
        within_s=5,
        check=one_line,
        not_written=["out.jsonl"],
    ),
    Step(
        "the trainer without a service",
        f"glassbox train --reward-url {NO_SERVICE} --policy policy --dry-run",
        [f"no service answers at {NO_SERVICE}", "glassbox serve"],
        status=2,
        within_s=5,
        check=one_line,
    ),
    Step(
        "a wrong folder of an encoder",
        "glassbox serve --encoder ./no-encoder",
        ["--encoder ./no-encoder: there is no such folder"],
        status=1,
        within_s=3,
        check=one_line,
    ),
    Step(
        "a wrong folder of a gold model",
        "glassbox serve --gold ./no-gold",
        ["--gold ./no-gold: there is no such folder"],
        status=1,
        within_s=3,
        check=one_line,
    ),
    Step(
        "a wrong folder of a policy",
        f"glassbox train --reward-url {NO_SERVICE} --policy ./no-policy",
        ["'./no-policy' cannot be loaded: there is no such folder"],
        status=1,
        within_s=3,
        check=one_line,
    ),
    Step(
        "a misspelt setting",
        "GLASSBOX_MAX_ITEM=5 glassbox serve",
        ["did you mean GLASSBOX_MAX_ITEMS"],
        status=1,
        check=one_line,
    ),
]

BEFORE_START = [*LOOK_AROUND, *WITHOUT_SERVICE]

SCORE = [
    Step("the terminal of the service", "cat service.log", ["ready: http://"], check=starts_quietly),
    Step(
        "the page",
        "python -c 'import httpx, os; print(httpx.get(os.environ[\"GLASSBOX_URL\"]).text)'",
        ["Glassbox"],
    ),
    Step("the README's lines of Python", "python readme.py", ["[0.0"]),
    Step("the service is checked", "glassbox doctor --url $GLASSBOX_URL", ["trial rewards", "ok       readiness"]),
    Step(
        "a file of responses",
        "glassbox score responses.jsonl scored.jsonl --gold",
        [
            "53 rows scored, 0 rows without a reward",
            "open_ended: mean reward",
            "demo model, not a judge of quality",
        ],
        writes=["scored.jsonl"],
    ),
    Step(
        "the same again", "glassbox score responses.jsonl scored.jsonl --gold", ["53/53 items", "53 rows scored"]
    ),
    Step(
        "another recipe into the same file",
        "glassbox score responses.jsonl scored.jsonl --recipe li",
        ["scored.jsonl has rewards of recipe glassbox", "--overwrite"],
        status=1,
    ),
    Step(
        "200 rows, 20 of them wrong",
        "glassbox score dirty.jsonl dirty-scored.jsonl",
        ["dirty.jsonl, line 7: not valid JSON", "dirty.jsonl, line 17: response: Field required"],
        status=1,
        not_written=["dirty-scored.jsonl"],
    ),
    Step(
        "the other 180",
        "glassbox score dirty.jsonl dirty-scored.jsonl --keep-going",
        ["180 rows scored, 20 rows without a reward"],
        status=1,
        check=names_the_dirty_lines,
    ),
    Step(
        "a table",
        "glassbox score responses.csv scored.csv && head -n 1 scored.csv",
        ["8 rows scored", "prompt,response,reward,gold_reward,query_type,flags,feature."],
        writes=["scored.csv"],
    ),
    Step("a pipe", "head -n 2 responses.jsonl | glassbox score - - --recipe li", ['"scored_by"', "2 rows scored"]),
    Step(
        "a misspelt recipe",
        "glassbox score responses.jsonl x.jsonl --recipe glasbox",
        ["\nglassbox score: 422", "unknown recipe 'glasbox'; did you mean 'glassbox'?"],
        status=1,
    ),
]

REWARD = [
    Step("the recipes", "glassbox recipes", ["glassbox  [0, 1]", "open_ended", "repetition_penalty"]),
    Step("one recipe", "glassbox recipes show rer > recipes/mine.yaml", writes=["recipes/mine.yaml"]),
    Step("a recipe of one's own", "glassbox recipes check recipes/mine.yaml", ["mine  [0, 5.12]"]),
    Step(
        "a misspelt factor",
        "glassbox recipes check typo.yaml",
        ["unknown feature 'query_relevence'; did you mean 'query_relevance'?"],
        status=1,
        check=one_line,
    ),
    Step(
        "too few pairs for a calibration",
        "glassbox calibrate few-pairs.jsonl recipes/few.yaml",
        ["few-pairs.jsonl has 5 pairs, 20 are needed"],
        status=1,
        not_written=["recipes/few.yaml"],
        check=one_line,
    ),
    Step(
        "a calibration",
        "glassbox calibrate pairs.jsonl recipes/fitted.yaml && glassbox recipes check recipes/fitted.yaml",
        ["0 references, 20 needed", "maps to [0, 1]", "fitted  [0,"],
        writes=["recipes/fitted.yaml"],
    ),
    Step(
        "a recipe is not overwritten",
        "glassbox calibrate pairs.jsonl recipes/fitted.yaml",
        ["recipes/fitted.yaml exists; choose another file, or --overwrite"],
        status=1,
        check=one_line,
    ),
    Step(
        "what a reward pays for",
        "glassbox probe --recipe li --prompts prompts.jsonl --html probe.html",
        ["worse wins", "length_incentive", "wrote probe.html"],
        writes=["probe.html"],
    ),
    Step(
        "two recipes compared",
        "glassbox diff --recipe rer --recipe glassbox samples.jsonl --html diff.html",
        ["share of the movements", "wrote diff.html"],
        writes=["diff.html"],
    ),
    Step(
        "query types",
        "glassbox annotate prompts.jsonl annotated.jsonl",
        ["6 rows have a query type"],
        writes=["annotated.jsonl"],
    ),
    Step("references on the service", "glassbox datasets put sums rows.jsonl", ["sums: 5 rows, 5 prompts"]),
]

TRAINING = [
    Step(
        "a dry run",
        f"{TRAIN} --run-dir runs/default --dry-run",
        [
            "a smoke test, which teaches nothing",
            "8 (4 closed_ended, 4 open_ended) held out",
            "nothing was started",
        ],
        not_written=["runs/default/config.json"],
    ),
    Step(
        "a dry run with a misspelt recipe",
        f"{TRAIN} --recipe lii --dry-run",
        ["lii"],
        status=2,
        check=one_line,
    ),
    Step(
        "a training with the default reward",
        f"{TRAIN} --run-dir runs/default --note 'the default reward' --tag first-hour",
        ["training finished", "report"],
        trains=True,
        writes=["runs/default/report.html", "runs/default/evaluation.json", "runs/index.html"],
    ),
    Step(
        "a second one with length alone",
        f"{TRAIN} --run-dir runs/length --recipe li --seed 7",
        ["training finished"],
        trains=True,
        writes=["runs/length/report.html"],
    ),
    Step("both are listed", "glassbox report --index runs", writes=["runs/index.html"], check=two_runs_are_listed),
    Step(
        "a folder that is taken",
        f"{TRAIN} --run-dir runs/length --recipe li",
        ["runs/length already contains a run", "--resume"],
        status=1,
    ),
    Step(
        "an evaluation again finds everything evaluated",
        "rm runs/default/report.html && glassbox evaluate --run-dir runs/default",
        ["checkpoints are evaluated already"],
        writes=["runs/default/report.html"],
    ),
    Step(
        "the report again",
        "rm runs/default/report.html && glassbox report --run-dir runs/default",
        writes=["runs/default/report.html"],
    ),
    Step(
        "both are compared",
        "glassbox report --compare runs/default runs/length --out runs/compared",
        writes=["runs/compared/comparison.html"],
        check=both_recipes_are_compared,
    ),
]

AFTER_START = [*SCORE, *REWARD, *TRAINING]
