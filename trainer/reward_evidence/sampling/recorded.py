"""Responses recorded in a JSON Lines file, instead of sampled from a checkpoint.

    {"step": 10, "prompt": "…", "response": "…"}        required fields; every step needs the same prompts
    "reference", "query_type"                           as in a prompts file
    "prompt_id"                                         default: prompts with equal texts are the same prompt
    "sample"                                            orders several responses to a prompt; default: file order

Other fields are ignored, unless their name resembles one of these. An error names line and field.
"""

import difflib
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reward_client.rows import FileError, checked_rows, numbered_rows, row_unit
from reward_client.wire import AnyQueryType, QueryType, Reference, ScalarText, usable_references
from reward_evidence.sampling.samples import Progress, Sample
from reward_runs.errors import DataError
from reward_runs.prompts import Prompt, first_error

_Index = Annotated[int, Field(ge=0, strict=True)]
"""Strict: `true` and `"7"` are not integers."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    step: _Index
    prompt: str
    response: str
    reference: Reference | None = None
    query_type: AnyQueryType | None = None
    prompt_id: ScalarText | None = None
    sample: _Index | None = None


@dataclass(frozen=True)
class RecordedResponses:
    """The responses of one step."""

    step: int
    samples: tuple[Sample, ...]
    """Ordered by prompt and sample."""

    @property
    def sha256(self) -> str:
        """Hash of prompts and responses."""
        rows = [[s.prompt.model_dump(mode="json"), s.sample, s.response] for s in self.samples]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


@dataclass(frozen=True)
class RecordedSampler:
    """Returns recorded responses; loads no policy."""

    steps: Sequence[RecordedResponses]

    def respond(self, step: int, prompts: Sequence[Prompt], progress: Progress) -> list[Sample]:
        """Return the responses of `step` to `prompts`."""
        wanted = {prompt.id for prompt in prompts}
        samples = [s for one in self.steps if one.step == step for s in one.samples if s.prompt.id in wanted]
        progress(len(samples), len(samples))
        return samples


def read_responses(path: Path, *, default_step: int | None = None) -> list[RecordedResponses]:
    """Read the file; return the responses of each step, by step; `default_step` is that of rows without one.

    Raises DataError naming line and field; several invalid lines are reported together.
    """
    source = str(path)
    rows: dict[int, _Row] = {}
    prompts: dict[str, tuple[int, Prompt]] = {}

    def add(content: dict[str, Any], number: int) -> None:
        row = _row(content if default_step is None else {"step": default_step, **content})
        _add_prompt(prompts, row, number)
        rows[number] = row

    try:
        checked_rows(source, numbered_rows(path), add, unit=row_unit(path))
    except FileError as exc:
        raise DataError(str(exc)) from exc
    if not rows:
        raise DataError(f"{source} contains no responses")
    steps = _by_step(source, rows, {key: prompt for key, (_, prompt) in prompts.items()})
    _check_same_prompts(source, steps)
    return steps


def _row(content: dict[str, Any]) -> _Row:
    for name in content.keys() - _Row.model_fields.keys():
        if similar := difflib.get_close_matches(name, _Row.model_fields, n=1, cutoff=0.8):
            raise ValueError(f"{name}: unknown field; did you mean {similar[0]}?")
    try:
        return _Row.model_validate(content)
    except ValidationError as exc:
        raise ValueError(first_error(exc)) from exc


def _prompt_key(row: _Row) -> str:
    return row.prompt_id or f"prompt-{hashlib.sha256(row.prompt.encode()).hexdigest()[:12]}"


def _add_prompt(prompts: dict[str, tuple[int, Prompt]], row: _Row, number: int) -> None:
    """Add the row's prompt; raise ValueError when it is invalid or differs from an earlier row's."""
    if row.query_type is None and usable_references(row.reference):
        raise ValueError("query_type is missing but reference is given: write open_ended or closed_ended")
    key = _prompt_key(row)
    try:
        prompt = Prompt(
            id=key,
            prompt=row.prompt,
            query_type=row.query_type or QueryType.OPEN_ENDED,
            reference=row.reference,
        )
    except ValidationError as exc:
        raise ValueError(first_error(exc)) from exc
    first_line, known = prompts.setdefault(key, (number, prompt))
    for field in ("prompt", "reference", "query_type"):
        if getattr(known, field) != getattr(prompt, field):
            raise ValueError(f"{field}: differs from line {first_line}, which has the same prompt")


def _by_step(source: str, rows: Mapping[int, _Row], prompts: Mapping[str, Prompt]) -> list[RecordedResponses]:
    """Group the rows by step and prompt, and number the responses to each prompt from 0."""
    grouped: dict[int, dict[str, dict[int, tuple[int, str]]]] = defaultdict(lambda: defaultdict(dict))
    for number, row in rows.items():
        responses = grouped[row.step][_prompt_key(row)]
        first_line = next((line for line, _ in responses.values()), number)
        if (row.sample is None) != (rows[first_line].sample is None):
            raise DataError(
                f"{source}, line {number}: sample: only one of this line and line {first_line} has it, and both "
                "have the same step and prompt: add it to all of these lines, or remove it"
            )
        sample = len(responses) if row.sample is None else row.sample
        if sample in responses:
            raise DataError(
                f"{source}, line {number}: sample: same step, prompt and sample as line {responses[sample][0]}"
            )
        responses[sample] = (number, row.response)
    return [
        RecordedResponses(
            step,
            tuple(
                Sample(prompt=prompts[key], sample=index, response=responses[sample][1])
                for key in prompts
                if (responses := grouped[step].get(key, {}))
                for index, sample in enumerate(sorted(responses))
            ),
        )
        for step in sorted(grouped)
    ]


def _check_same_prompts(source: str, steps: Sequence[RecordedResponses]) -> None:
    """Changes are paired by prompt, so each step needs a response to every prompt."""
    texts = {s.prompt.id: s.prompt.prompt for one in steps for s in one.samples}
    for one in steps:
        missing = [key for key in texts if key not in {s.prompt.id for s in one.samples}]
        if missing:
            raise DataError(
                f"{source}: step {one.step} has no response to {len(missing)} of {len(texts)} prompts, such as "
                f"{texts[missing[0]][:80]!r}: every step needs the same prompts"
            )
