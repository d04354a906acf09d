"""`events.jsonl` of a run: what was noticed while it trained, one line an event.

evaluated   a checkpoint was evaluated
warning     a sign that the run goes wrong, with the rule that found it
stop        a stop rule ended the run
resumed     the run was continued after that
"""

import json
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from reward_client.writing import writing
from reward_runs.layout import RunDir
from reward_runs.record import is_finished


class RunEvent(BaseModel):
    """One event."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: Literal["evaluated", "warning", "stop", "resumed"]
    step: int
    rule: str | None = None
    """Of a warning or a stop."""
    message: str
    time: str = ""
    """ISO 8601, UTC."""


def add_event(run: RunDir, event: RunEvent) -> None:
    """Append `event` with the time of now. Raises OutputError."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps(event.model_copy(update={"time": now}).model_dump(exclude_none=True), ensure_ascii=False)
    with writing(run.events), run.events.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def stopped_by_rule(run: RunDir) -> RunEvent | None:
    """Return the stop that ended the run's latest attempt.

    None when no rule did, the run was resumed since, or its last step is done.
    """
    if is_finished(run):
        return None
    ends = [event for event in read_events(run) if event.kind in ("stop", "resumed")]
    return ends[-1] if ends and ends[-1].kind == "stop" else None


def read_events(run: RunDir) -> list[RunEvent]:
    """Return the events in order. A line that a killed process did not finish is left out."""
    try:
        lines = run.events.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(RunEvent.model_validate_json(line))
        except ValidationError:
            continue
    return found
