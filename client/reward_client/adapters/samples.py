"""Samples: prompts, responses and references in the forms in which frameworks hold them, as items of the service.

    prompt      text, or messages: mappings or objects with `role` and `content`
    response    text, or messages, of which the assistant's text counts
    reference   text, a number, a list of them; null, NaN or "" for none; where a framework has one column for
                both, an object (or its JSON) with `reference` and `query_type`

`Sample.item` makes the item, or says which field is wrong. `samples` makes those of a batch with its columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from reward_client.adapters.settings import AdapterSettings
from reward_client.errors import RewardError, validation_errors
from reward_client.rows import none_for_nan
from reward_client.wire import Item

_LABEL_FIELDS = {"reference", "query_type", "id"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One response to score, as the framework holds it."""

    prompt: Any
    response: Any
    reference: Any = None
    query_type: Any = None

    def item(self, *, labels: bool = True) -> Item:
        """The item to send. Raises ValueError that names the field.

        `labels`: whether a reference may be an object, or its JSON, with reference and query type.
        """
        label = _label(self.reference) if labels else _reference(plain(self.reference))
        query_type = plain(self.query_type)
        if query_type not in (None, ""):
            label["query_type"] = query_type
        try:
            return Item(prompt=prompt_of(self.prompt), response=response_of(self.response), **label)
        except ValidationError as exc:
            raise ValueError("; ".join(validation_errors(exc))) from None


def samples(
    settings: AdapterSettings, prompts: Sequence[Any], responses: Sequence[Any], columns: Mapping[str, Any]
) -> list[Sample]:
    """The samples of a batch. `columns` are the other columns of the data set, as `column` reads them.

    Raises RewardError when a column that a setting names is absent: without references, every prompt would be
    scored as an open-ended one. ValueError when a column has another length than the batch.
    """
    names = [_checked(settings, setting, columns) for setting in ("reference_column", "query_type_column")]
    references, query_types = (column(columns.get(name), len(prompts), name) for name in names)
    rows = zip(prompts, responses, references, query_types, strict=True)
    return [Sample(*row) for row in rows]


def label_of(settings: AdapterSettings, row: Mapping[str, Any], otherwise: Any = None) -> tuple[Any, Any]:
    """Reference and query type of a row; `otherwise` where the reference is absent, null, NaN or "".

    Raises RewardError when a setting names a column that the row does not have.
    """
    names = [_checked(settings, setting, row) for setting in ("reference_column", "query_type_column")]
    reference, query_type = (row.get(name) for name in names)
    return otherwise if plain(reference) in (None, "") else reference, query_type


def prompts_of(settings: AdapterSettings, prompts: Sequence[Any], columns: Mapping[str, Any]) -> Sequence[Any]:
    """The prompt column of the data set; without one `prompts`, to which a framework may have applied a template.

    Raises RewardError when the setting names a column that is absent.
    """
    found: Sequence[Any] = columns.get(_checked(settings, "prompt_column", columns), prompts)
    return found


def _checked(settings: AdapterSettings, setting: str, columns: Mapping[str, Any]) -> str:
    name: str = getattr(settings, setting)
    if setting in settings.model_fields_set and name not in columns:
        raise RewardError(f"{setting} is {name!r}, and the batch has no such column; it has {sorted(columns)}")
    return name


def prompt_of(prompt: Any) -> Any:
    """`prompt` as the service accepts it: text, or messages with role and content only. Raises ValueError."""
    prompt = plain(prompt)
    if isinstance(prompt, (list, tuple)):
        return [_message(number, message) for number, message in enumerate(prompt)]
    return prompt


def response_of(response: Any) -> Any:
    """The text of a response; of messages the text of the assistant's turns. Raises ValueError without any."""
    response = plain(response)
    if isinstance(response, Mapping):
        response = [response]
    if not isinstance(response, (list, tuple)):
        return response
    turns = [_message(number, message) for number, message in enumerate(response)]
    texts = [_text(turn["content"]) for turn in turns if turn["role"] == "assistant"]
    if not texts:
        roles = ", ".join(str(turn["role"]) for turn in turns) or "none"
        raise ValueError(f"response: the messages have no turn of the assistant; their roles: {roles}")
    return "\n".join(texts)


_MARK = (
    r"(?:<\|[^|<>\s]{1,40}\|?>|<[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|</?s>|\[PAD\]"
    r"|<(?:bos|eos|pad|unk|end_of_turn|EOS_TOKEN|PAD)>)"
)
_MARKS_AT_END = re.compile(rf"(?:{_MARK}\s*)+\Z")
_ANY_MARK = re.compile(_MARK)


def without_end_tokens(text: str) -> str:
    """A decoded response without the special tokens at its end.

    `<|im_end|>`, `<turn|>`, `<｜end▁of▁sentence｜>`, `</s>`, … of any known model; never a tag of XML or HTML.
    """
    return _MARKS_AT_END.sub("", text)


def has_special_tokens(prompt: str) -> bool:
    """Whether a chat template was applied to `prompt`, or a tokenizer decoded it with special tokens."""
    return _ANY_MARK.search(prompt) is not None


def plain(value: Any) -> Any:
    """A NumPy array or scalar, or a pandas missing value, as the Python value that it stands for."""
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        value = value.tolist()
    return none_for_nan(value)


def column(values: Iterable[Any] | Any | None, n_rows: int, name: str) -> list[Any]:
    """A column as a list of `n_rows` values: one value stands for all rows, None for a column that is absent.

    Raises ValueError when it has another length.
    """
    values = plain(values)
    if not isinstance(values, (list, tuple)):
        return [values] * n_rows
    if len(values) != n_rows:
        raise ValueError(f"the column {name!r} has {len(values)} values, the batch has {n_rows} rows")
    return list(values)


def _label(value: Any) -> dict[str, Any]:
    """Reference, query type and id of a label."""
    value = plain(value)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _object(value)
    if isinstance(value, Mapping) and value and set(value) <= _LABEL_FIELDS:
        return {name: plain(field) for name, field in value.items() if plain(field) not in (None, "")}
    return _reference(value)


def _reference(value: Any) -> dict[str, Any]:
    """The field `reference` of an item; none for null and ""."""
    if value is None or value == "":
        return {}
    return {"reference": list(value) if isinstance(value, tuple) else value}


def _object(text: str) -> Any:
    """The object that `text` is the JSON of, if it is a label; else the text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) and value and set(value) <= _LABEL_FIELDS else text


def _message(number: int, message: Any) -> dict[str, Any]:
    """Role and content of a message; one without content, because it only calls tools, has the content ""."""
    fields = message if isinstance(message, Mapping) else getattr(message, "__dict__", {})
    if "role" not in fields:
        raise ValueError(f"message {number} has no role; messages are objects with role and content")
    role, content = fields["role"], plain(fields.get("content"))
    return {"role": getattr(role, "value", role), "content": "" if content is None else content}


def _text(content: Any) -> str:
    """The text of a message's content, which may be a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        kind = type(content).__name__
        raise ValueError(f"response: a message's content must be text or a list of parts, not {kind}")  # noqa: TRY004
    parts = [part for part in content if isinstance(part, Mapping)]
    return "\n".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))
