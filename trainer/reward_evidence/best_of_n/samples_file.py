"""The samples of a run on disk, prompt by prompt, and the settings that they were drawn with.

    DIR/samples.json     `settings`: source, n, temperature, …; another run with other settings is refused
    DIR/samples.jsonl    one sample a line; `--samples-file`, `glassbox evaluate --responses` and `glassbox score`
                         read it too

A prompt counts only with all of its samples, so a run can be stopped at any point and continued.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from reward_client.wire import QueryType, Reference
from reward_evidence.best_of_n.line_file import LineFile
from reward_evidence.best_of_n.sources import SampleSource
from reward_evidence.report.formatting import duration
from reward_evidence.sampling.recorded import read_responses
from reward_evidence.sampling.samples import Sample
from reward_runs.errors import EvaluationError
from reward_runs.files import replace_text
from reward_runs.prompts import Prompt

SETTINGS_NAME, LINES_NAME = "samples.json", "samples.jsonl"
PromptSamples = dict[str, tuple[Sample, ...]]
"""By prompt id, in the order of the sample numbers."""


class SampleLine(BaseModel):
    """One line. `step` is that of the policy among those of a training run, which is not known here."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    step: int = 0
    prompt_id: str
    sample: int
    query_type: QueryType
    prompt: str
    reference: Reference | None
    response: str
    n_tokens: int | None = None
    truncated: bool | None = None
    seed: int | None = None


def draw_samples(
    folder: Path,
    make_source: Callable[[], SampleSource],
    settings: Mapping[str, Any],
    prompts: Sequence[Prompt],
    log: Callable[[str], None],
) -> PromptSamples:
    """Return the samples of all `prompts`, and draw those that `folder` lacks; `settings["n"]` of each.

    `make_source` is called only if samples are missing. Raises EvaluationError, RewardError or FileError; what was
    drawn before is kept.
    """
    _check_settings(folder / SETTINGS_NAME, settings)
    file = LineFile(folder / LINES_NAME, SampleLine)
    found = _complete(file, prompts, settings["n"])
    missing = {prompt.id for prompt in prompts} - found.keys()
    if found:
        log(f"samples: {len(found)} of {len(prompts)} prompts are on disk")
    if not missing:
        return found
    started_s, n_before = time.monotonic(), len(found)
    for samples in make_source().samples(prompts, missing):
        file.append(map(_line, samples))
        for sample in samples:
            found[sample.prompt.id] = (*found.get(sample.prompt.id, ()), sample)
        log(f"samples: {progress(len(found), len(prompts), n_before, started_s)}")
    return found


def progress(done: int, total: int, before: int, started_s: float) -> str:
    """Return `12 of 72 prompts, 3 min, about 15 min remaining`; `before` were done when this run started."""
    passed_s = time.monotonic() - started_s
    text = f"{done} of {total} prompts, {duration(passed_s)}"
    if done in (total, before):
        return text
    return f"{text}, about {duration(passed_s / (done - before) * (total - done))} remaining"


def read_samples_file(path: Path, n: int | None) -> tuple[list[Prompt], PromptSamples]:
    """Prompts and samples of a file; the first `n` of each prompt, or as many as every prompt has.

    Raises DataError for a wrong line, and EvaluationError when a prompt has too few samples.
    """
    steps = read_responses(path, default_step=0)
    if len(steps) > 1:
        raise EvaluationError(
            f"{path} has responses of the steps {', '.join(str(one.step) for one in steps)}: write those of one "
            "policy into a file"
        )
    grouped: dict[str, list[Sample]] = {}
    for sample in steps[0].samples:
        grouped.setdefault(sample.prompt.id, []).append(sample)
    fewest = min(grouped, key=lambda key: len(grouped[key]))
    size = len(grouped[fewest]) if n is None else n
    if len(grouped[fewest]) < size:
        shown = grouped[fewest][0].prompt.prompt[:80]
        raise EvaluationError(
            f"{path}: the prompt {shown!r} has {len(grouped[fewest])} samples, --n {size} needs {size} of each"
        )
    return [rows[0].prompt for rows in grouped.values()], {
        key: tuple(rows[:size]) for key, rows in grouped.items()
    }


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(settings))
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(name for name in before.keys() | wanted.keys() if before.get(name) != wanted.get(name))
        if changed:
            name = changed[0]
            raise EvaluationError(
                f"{path.parent} has samples of other settings ({name}: {before.get(name)!r}, now "
                f"{wanted.get(name)!r}): choose another --out, or judge those samples with --samples-file "
                f"{path.parent / LINES_NAME}"
            )
        return
    if (path.parent / LINES_NAME).exists():
        raise EvaluationError(f"{path.parent} has {LINES_NAME} without {SETTINGS_NAME}: choose another --out")
    replace_text(path, json.dumps(wanted, indent=2) + "\n")


def _complete(file: LineFile[SampleLine], prompts: Sequence[Prompt], n: int) -> PromptSamples:
    """The samples of those `prompts` that have all `n`; incomplete ones are removed from the file."""
    known = {prompt.id: prompt for prompt in prompts}
    lines = file.read()
    grouped: dict[str, dict[int, SampleLine]] = {}
    for line in lines:
        grouped.setdefault(line.prompt_id, {})[line.sample] = line
    kept = {key: rows for key, rows in grouped.items() if sorted(rows) == list(range(n))}
    if len(kept) < len(grouped):
        written = [line for rows in kept.values() for line in rows.values()]
        replace_text(file.path, "".join(json.dumps(line.model_dump(mode="json")) + "\n" for line in written))
    found = {}
    for key in known.keys() & kept.keys():
        rows = kept[key]
        if any(
            (line.prompt, line.reference) != (known[key].prompt, known[key].reference) for line in rows.values()
        ):
            raise EvaluationError(f"{file.path} has another prompt {key!r}: choose another --out")
        found[key] = tuple(_sample(rows[number], known[key]) for number in range(n))
    return found


def _line(sample: Sample) -> SampleLine:
    prompt = sample.prompt
    return SampleLine(
        prompt_id=prompt.id,
        sample=sample.sample,
        query_type=prompt.query_type,
        prompt=prompt.prompt,
        reference=prompt.reference,
        response=sample.response,
        n_tokens=sample.n_tokens,
        truncated=sample.truncated,
        seed=sample.seed,
    )


def _sample(line: SampleLine, prompt: Prompt) -> Sample:
    return Sample(
        prompt=prompt,
        sample=line.sample,
        response=line.response,
        seed=line.seed,
        n_tokens=line.n_tokens,
        truncated=line.truncated,
    )
