"""Rows of an uploaded data set: JSON lines are parsed, checked like the items of a request, and written, in steps.

piece of the body ─▶ lines ─▶ object ─▶ DatasetRow ─▶ limits, user text, reference ─▶ DatasetWriter
                                    └─ wrong: an error with its line and column; reading stops at a hundred
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from reward_client.wire import (
    DatasetRow,
    Duplicates,
    FieldError,
    Item,
    QueryType,
    error_message,
    error_path,
)
from reward_service.batching import Steps
from reward_service.datasets.table import StoredRow
from reward_service.datasets.writer import ConflictError, DatasetWriter
from reward_service.errors import MAX_ERRORS, InvalidRequestError, RequestError, TooLargeError
from reward_service.http.json_codec import parse_steps
from reward_service.scoring.job import (
    InvalidItem,
    ItemLimits,
    prompt_texts,
    reference_texts,
    scorable_item,
    with_needed_reference,
)
from reward_service.settings import Settings

_BLANK_LINES = 256
"""Blank lines that are skipped in one step."""
_NAME_CHARS, _FIELD_CHARS, _MESSAGE_CHARS = 40, 300, 500
"""Of an error, which may name fields of the row: it is kept until a hundred are found."""
_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class UploadOptions(BaseModel):
    """The parameters in the URL of an upload."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    prompt_column: _Name = "prompt"
    """Field of a row with the prompt: text, or a list of messages."""
    reference_column: _Name = "reference"
    """Field with the reference, or a list of references; null and blank ones are none."""
    query_type_column: _Name = "query_type"
    """Field with `open_ended` or `closed_ended`; may be missing."""
    query_type_default: QueryType = QueryType.CLOSED_ENDED
    """Query type of rows that have a reference and no query type."""
    duplicates: Duplicates = "fail"
    """Rows with the same prompt and other references: an error, or several references of one prompt."""

    @property
    def columns(self) -> dict[str, str]:
        """Column by the field of a `DatasetRow`."""
        return {
            "prompt": self.prompt_column,
            "reference": self.reference_column,
            "query_type": self.query_type_column,
        }


class _AnyObject(BaseModel):
    model_config = ConfigDict(extra="allow")


class RowReader:
    """Reads the lines of one upload into `writer`, and collects what is wrong with them."""

    def __init__(self, options: UploadOptions, writer: DatasetWriter, settings: Settings) -> None:
        self._options = options
        self._columns = options.columns
        self._writer = writer
        self._settings = settings
        self._line = 0
        self._errors: list[FieldError] = []

    def read(self, piece: bytes) -> Steps[None]:
        """Read complete lines. Raises InvalidRequestError, TooLargeError or StorageError."""
        if not self._line:
            piece = piece.removeprefix(b"\xef\xbb\xbf")
        for line in piece.removesuffix(b"\n").split(b"\n"):
            self._line += 1
            if line and not line.isspace():
                if self._writer.n_rows >= self._settings.max_dataset_rows:
                    raise TooLargeError(f"the data set has more than {self._settings.max_dataset_rows} rows")
                yield from self._read_line(line)
                yield
            elif self._line % _BLANK_LINES == 0:
                yield

    def check(self) -> None:
        """Raise InvalidRequestError if a line was wrong, or if there was none."""
        if self._errors:
            found = f"at least {MAX_ERRORS}" if len(self._errors) >= MAX_ERRORS else len(self._errors)
            raise InvalidRequestError(f"{found} error(s) in the lines of the data set", self._errors)
        if not self._writer.n_rows:
            message = "has no row"
            raise InvalidRequestError(f"the data set {message}", [FieldError(field="body", message=message)])

    def _read_line(self, line: bytes) -> Steps[None]:
        try:
            found = yield from parse_steps(_AnyObject, line, self._settings)
            row = self._row(found.model_extra or {})
            self._add(row)
        except ValidationError as exc:
            for error in exc.errors(include_url=False, include_context=False, include_input=False):
                field, *inner = error_path(error)
                self._report([self._columns[str(field)], *inner], error_message(error))
        except RequestError as exc:
            for one in exc.errors:
                self._report([] if one.field == "body" else [one.field], one.message)
        except ConflictError as exc:
            self._report([self._columns["prompt"]], str(exc))

    def _row(self, fields: dict[str, Any]) -> DatasetRow:
        prompt = self._columns["prompt"]
        if prompt not in fields:
            names = ", ".join(name[:_NAME_CHARS] for name in sorted(fields)[:10]) or "none"
            raise InvalidRequestError.in_field(prompt, f"is missing; the fields of the row are {names}")
        given = {field: fields[name] for field, name in self._columns.items() if name in fields}
        return DatasetRow.model_validate(given)

    def _add(self, row: DatasetRow) -> None:
        self._check_limits(row)
        item = Item.model_construct(response="", **dict(row))
        entry = with_needed_reference(scorable_item(item, self._options.query_type_default))
        if isinstance(entry, InvalidItem):
            raise InvalidRequestError.in_field(self._columns.get(entry.field, entry.field), entry.message)
        answers = tuple(dict.fromkeys(text for _, text in entry.alternatives)) or (entry.reference or "",)
        stored = StoredRow(answers if entry.reference else (), entry.query_type, entry.query_type_source)
        self._writer.add(entry.messages, stored, self._line)

    def _check_limits(self, row: DatasetRow) -> None:
        """Raise TooLargeError, as for an item of a request."""
        limits, columns = ItemLimits(self._settings), self._columns
        n_messages = len(row.prompt) if isinstance(row.prompt, list) else 1
        if limits.fits(None, columns["prompt"], n_messages, self._settings.max_messages, "messages"):
            texts = [
                *prompt_texts(columns["prompt"], row.prompt),
                *reference_texts(columns["reference"], row.reference),
            ]
            limits.references_fit(0, columns["reference"], row.reference)
            limits.texts_fit(0, texts)
        limits.check()

    def _report(self, path: list[int | str], message: str) -> None:
        field = ".".join(map(str, [f"line {self._line}", *path]))[:_FIELD_CHARS]
        self._errors.append(FieldError(item=self._line - 1, field=field, message=message[:_MESSAGE_CHARS]))
        if len(self._errors) >= MAX_ERRORS:
            self.check()
