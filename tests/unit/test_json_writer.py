"""Replies are written in steps, however their values are nested, and read as if they were written at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, RootModel

from reward_service.batching import complete
from reward_service.http.json_codec import dump_steps

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=5)
)


class Reply(BaseModel):
    """A reply with fields of any kind."""

    model_config = ConfigDict(extra="allow")

    reward: float


class Bare(RootModel[Any]):
    """A reply that is a bare value."""


def repeated(**fields: Any) -> Reply:
    return Reply.model_validate({"reward": 0.5} | {f"x_{name}": value for name, value in fields.items()})


@settings(deadline=None, max_examples=50)
@given(VALUES, st.integers(1, 3))
def test_steps_write_what_one_call_writes(value: Any, factor: int) -> None:
    reply = repeated(value=value, many=[value] * (200 * factor))

    assert json.loads(complete(dump_steps(reply))) == json.loads(reply.model_dump_json())
    assert complete(dump_steps(Bare(value))) == Bare(value).model_dump_json().encode()


@pytest.mark.parametrize(
    "value",
    [
        [0] * 60_000,
        {"a": {"b": [{"c": [0] * 60_000}]}},
        [[]] * 1_000,
        [{"a": ["x"] * 250}] * 250,
        ["x" * 100_000] * 200,
        {f"{n}": "x" * 100_000 for n in range(120)},
    ],
    ids=["a list", "nested", "lists", "objects", "texts", "texts of an object"],
)
def test_a_large_reply_has_many_steps(value: Any) -> None:
    assert sum(1 for _ in dump_steps(repeated(value=value))) > 100
