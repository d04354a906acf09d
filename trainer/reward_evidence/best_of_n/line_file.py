"""Files of JSON lines that grow by whole records and survive a stop at any point."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from reward_client.errors import validation_errors
from reward_client.score_output import append, encoded, opened
from reward_client.writing import writing
from reward_runs.errors import EvaluationError

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class LineFile(Generic[ModelT]):
    """One file, a `model` a line."""

    path: Path
    model: type[ModelT]

    def read(self) -> list[ModelT]:
        """The lines; an incomplete last line, of a run that was stopped while writing it, is removed.

        Raises EvaluationError naming a line that is wrong.
        """
        if not self.path.is_file():
            return []
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        found = []
        for number, line in enumerate(content[:whole].split(b"\n")[:-1], 1):
            try:
                found.append(self.model.model_validate_json(line))
            except ValidationError as exc:
                raise EvaluationError(
                    f"{self.path}, line {number}: {validation_errors(exc)[0]}: restore the file, or choose "
                    "another --out"
                ) from exc
        if whole < len(content):
            with writing(self.path), self.path.open("r+b") as file:
                file.truncate(whole)
        return found

    def append(self, lines: Iterable[ModelT]) -> None:
        """Write `lines` at the end, all or none. Raises OutputError."""
        with writing(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with opened(self.path, "ab") as out:
            append(out, encoded([line.model_dump(mode="json") for line in lines]), self.path)
