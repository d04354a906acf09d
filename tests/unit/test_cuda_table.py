"""The table that a batch becomes before it is copied to a GPU; the tests need no GPU."""

from __future__ import annotations

import numpy as np
import pytest

from reward_service.models.cuda import pack, shape_of, unpack
from reward_service.models.encoder import CHUNK_CHARS, CHUNK_TEXTS, SERIAL_TEXTS, load_encoder, text_chunks
from reward_service.models.graphs import smallest_shape
from reward_service.models.padding import pad_right
from reward_service.models.protocols import Tokens
from reward_service.settings import EMBEDDED_ENCODER

SHORT, LONG = Tokens([5, 6, 7]), Tokens(range(10, 27))
PAIR = Tokens([1, 2, 3, 4], [0, 0, 1, 1])


@pytest.mark.parametrize("batch", [[SHORT], [SHORT, LONG], [PAIR, SHORT]], ids=["one", "two", "pair"])
def test_a_table_equals_padded_rows_with_a_width_that_is_a_multiple_of_16(batch: list[Tokens]) -> None:
    expected = pad_right(batch, 9)
    found = unpack(pack(batch, 9))

    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        width = rows.shape[1]
        np.testing.assert_array_equal(found[name][:, :width].numpy(), rows)
        assert found[name].shape[1] % 16 == 0 or len(batch) == 1
        beyond = found[name][:, width:]
        assert (beyond == (9 if name == "input_ids" else 0)).all()


def test_rows_of_equal_length_are_not_padded() -> None:
    inputs = unpack(pack([SHORT, SHORT], 0))

    assert inputs["input_ids"].shape == (2, 3)
    assert inputs["attention_mask"].all()


@pytest.mark.parametrize(("limit", "width"), [(None, 32), (32, 32), (20, 20), (12, 17)])
def test_padding_keeps_to_the_positions_that_a_model_has(limit: int | None, width: int) -> None:
    assert shape_of([SHORT, LONG], limit) == (2, width)


def test_a_table_of_a_larger_shape_has_rows_of_one_padding_token() -> None:
    inputs = unpack(pack([SHORT, LONG], 9, shape=(4, 32)))

    assert inputs["input_ids"].shape == (4, 32)
    assert inputs["attention_mask"].sum(1).tolist() == [3, 17, 1, 1]
    assert (inputs["input_ids"][2:] == 9).all()


@pytest.mark.parametrize(
    ("rows", "longest", "shape"),
    [(1, 1, (1, 16)), (3, 33, (4, 64)), (64, 64, (64, 64)), (64, 65, None), (65, 8, None), (1, 513, None)],
)
def test_a_batch_goes_into_the_smallest_recorded_shape_that_holds_it(
    rows: int, longest: int, shape: tuple[int, int] | None
) -> None:
    assert smallest_shape(rows, longest) == shape


def test_texts_are_tokenized_in_chunks_of_bounded_size_and_in_order() -> None:
    texts = ["a" * (CHUNK_CHARS + 1), *[f"text {n}" for n in range(CHUNK_TEXTS + 3)]]
    parts = list(text_chunks(texts))

    assert [text for part in parts for text in part] == texts
    assert list(map(len, parts)) == [1, CHUNK_TEXTS, 3]
    assert list(text_chunks([])) == []


def test_tokens_are_the_same_one_by_one_and_in_chunks() -> None:
    encoder = load_encoder(EMBEDDED_ENCODER, "cpu", backend="torch")
    texts = ["", "Why is the sky blue?", "start " * 600 + "end", *[f"word {n}" for n in range(SERIAL_TEXTS)]]
    one_by_one = [encoder.tokenize([text])[0] for text in texts]

    assert encoder.tokenize(texts, all_cores=True) == one_by_one
    assert encoder.tokenize(texts[:4], all_cores=True) == one_by_one[:4]
