"""The gold model: a served score is plain Transformers' score, alone and in a batch."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from reward_client.wire import ChatMessage
from reward_client.wire.shared_base import shared_base_notice
from reward_service.models.gold import (
    has_causal_attention,
)
from reward_service.models.gold_text import ChatText, PairLengths, PairText, pair_prompt
from reward_service.models.load_gold import GoldLoadError, load_gold
from reward_service.models.protocols import Exchange, RawText, UnreadablePromptError
from tests.gold_models import PAIR_LENGTHS, save_bert, save_chat_model
from tests.gold_scores import scores

WORDS = "why is the sky blue because of air it scatters light more than red"


def exchange(prompt: str, response: str) -> Exchange:
    return Exchange((ChatMessage(role="user", content=prompt),), response)


def turns(*pairs: tuple[str, str]) -> tuple[ChatMessage, ...]:
    return tuple(ChatMessage.model_validate({"role": role, "content": content}) for role, content in pairs)


EXCHANGES = [
    exchange("why is the sky blue", "because of air"),
    exchange("why", "it scatters blue light more than red light because air scatters blue light"),
    exchange("is the sky red", ""),
    exchange("is light blue", "the sky is"),
]


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("pair"), head=True, words=WORDS, text_pair=True)


def plain_chat_score(folder: Path, asked: Exchange, max_tokens: int = 256) -> float:
    """What a reader of the model's card would compute, one conversation at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder, truncation_side="left")
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    messages = [message.model_dump() for message in asked.messages]
    text = tokenizer.apply_chat_template(
        [*messages, {"role": "assistant", "content": asked.response}], tokenize=False
    )
    inputs = tokenizer(text, add_special_tokens=False, truncation=True, max_length=max_tokens, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        return float(model(**inputs).logits[0, 0])


@pytest.mark.parametrize("pad", [True, False], ids=["pad token", "no pad token"])
def test_a_chat_models_score_is_plain_transformers_alone_and_batched(tmp_path: Path, pad: bool) -> None:
    folder = save_chat_model(tmp_path, pad=pad)
    gold = load_gold(str(folder), "cpu")

    expected = [plain_chat_score(folder, e) for e in EXCHANGES]
    assert len({round(score, 3) for score in expected}) == len(expected)
    assert scores(gold, EXCHANGES) == pytest.approx(expected, abs=1e-5)
    assert [scores(gold, [e])[0] for e in EXCHANGES] == pytest.approx(expected, abs=1e-5)


RENDERED = "<|im_start|>user\nWhy?<|im_end|><|im_start|>assistant\nbecause of air<|im_end|>"


def plain_score(folder: Path, ids: list[int]) -> float:
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return float(model(torch.tensor([ids])).logits[0, 0])


@pytest.mark.parametrize("adds", [True, False])
def test_a_rendered_text_is_scored_as_plain_transformers_reads_it(chat_folder: Path, adds: bool) -> None:
    gold, tokenizer = load_gold(str(chat_folder), "cpu"), AutoTokenizer.from_pretrained(chat_folder)
    ids = tokenizer(RENDERED, add_special_tokens=adds)["input_ids"]

    tokens = gold.tokenize_text(RawText(RENDERED, add_special_tokens=adds))

    assert gold.score([tokens]) == pytest.approx([plain_score(chat_folder, ids)], abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_truncated_text_keeps_the_tokens_that_transformers_keeps(chat_folder: Path, side: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_folder, truncation_side=side)
    expected = tokenizer(RENDERED, truncation=True, max_length=12)["input_ids"]

    tokens = load_gold(str(chat_folder), "cpu").tokenize_text(
        RawText(RENDERED, max_tokens=12, keeps_end=side == "left")
    )

    assert list(tokens.input_ids) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (RawText("long " * 100), "501 tokens, and the model reads at most 256"),
        (RawText("short", max_tokens=1), "no room"),
        (RawText("", add_special_tokens=False), "no tokens"),
    ],
)
def test_a_text_that_does_not_fit_the_model_is_an_error(chat_folder: Path, text: RawText, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load_gold(str(chat_folder), "cpu").tokenize_text(text)


def test_a_pair_model_reads_a_single_text_as_transformers_does_and_flags_it(pair_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pair_folder)

    tokens = load_gold(str(pair_folder), "cpu").tokenize_text(RawText("why red air"))

    assert list(tokens.input_ids) == tokenizer("why red air")["input_ids"]
    assert tokens.flags == ("gold_text_undivided",)


def test_a_pair_models_score_is_plain_transformers_when_nothing_is_cut(pair_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pair_folder)
    model = AutoModelForSequenceClassification.from_pretrained(pair_folder, dtype=torch.float32).eval()
    short = [EXCHANGES[0], EXCHANGES[3], exchange("why red", "air scatters it more")]
    with torch.no_grad():
        expected = [
            float(model(**tokenizer(e.messages[0].content, e.response, return_tensors="pt")).logits[0, 0])
            for e in short
        ]

    assert scores(load_gold(str(pair_folder), "cpu"), short) == pytest.approx(expected, abs=1e-5)


def test_a_long_conversation_loses_its_start_and_keeps_the_responses_end(chat_folder: Path) -> None:
    long = exchange("why " * 50, "because of air")

    score = scores(load_gold(str(chat_folder), "cpu", max_tokens=40), [long])

    assert score == pytest.approx([plain_chat_score(chat_folder, long, max_tokens=40)], abs=1e-5)


def test_a_rendered_conversation_begins_with_one_first_token(chat_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_folder)

    ids = ChatText(tokenizer, 256)(EXCHANGES[0]).input_ids

    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids).endswith("<|im_start|>assistant\nbecause of air<|im_end|>")


def test_a_long_pair_loses_the_middle_of_each_text(pair_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pair_folder)
    read = PairText(tokenizer, PairLengths(**PAIR_LENGTHS))

    tokens = read(exchange("why is the sky blue because of air", "it scatters light more than red light is blue"))

    assert " ".join(tokenizer.convert_ids_to_tokens(tokens.input_ids)) == (
        "[CLS] why is because of air [SEP] it scatters light more is blue [SEP]"
    )
    assert list(tokens.token_type_ids or ()) == [0] * 7 + [1] * 7


def test_a_conversation_becomes_one_text_as_preference_data_writes_it() -> None:
    messages = turns(("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"))

    assert pair_prompt(Exchange(messages, "x")) == "Human: Hi\n\nAssistant: Hello\n\nHuman: Why?"


def test_a_single_user_turn_is_its_own_text_regardless_of_the_system_prompt() -> None:
    assert pair_prompt(Exchange(turns(("system", "Be kind."), ("user", "Hi")), "x")) == "Hi"


def test_a_conversation_that_the_template_rejects_is_an_error_with_its_reason(chat_folder: Path) -> None:
    tool = Exchange(turns(("user", "Hi"), ("tool", "42")), "ok")

    with pytest.raises(UnreadablePromptError, match="no tools here"):
        load_gold(str(chat_folder), "cpu").tokenize(tool)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_returned_as_it_is(pair_folder: Path, tmp_path: Path, bad: float) -> None:
    folder = shutil.copytree(pair_folder, tmp_path / "broken")
    set_embedding(folder, "is", bad)

    finite = [math.isfinite(score) for score in scores(load_gold(str(folder), "cpu"), EXCHANGES)]

    assert [i for i, good in enumerate(finite) if not good] == [0, 2, 3]


def set_embedding(folder: Path, word: str, value: float) -> None:
    """Overwrite the embedding of `word` in the weights of the BERT model in `folder`."""
    weights = load_file(folder / "model.safetensors")
    row = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(word)
    weights["bert.embeddings.word_embeddings.weight"][row] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_model_whose_head_is_damaged_is_not_loaded(chat_folder: Path, tmp_path: Path, bad: float) -> None:
    folder = shutil.copytree(chat_folder, tmp_path / "damaged")
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"][:] = bad
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(GoldLoadError, match="its weights are damaged"):
        load_gold(str(folder), "cpu")


def test_a_gold_model_on_the_encoders_base_has_a_notice(pair_folder: Path) -> None:
    gold = load_gold(str(pair_folder), "cpu")

    def notice(encoder: str) -> str | None:
        return shared_base_notice(gold.id, gold.encoder_base, "relevance encoder", encoder)

    assert notice("all-MiniLM-L6-v2") is None

    gold.encoder_base = "all-MiniLM-L6-v2"

    assert "not independent evidence" in str(notice("sentence-transformers/all-MiniLM-L6-v2"))
    assert notice("facebook/contriever") is None


def test_a_causal_model_needs_no_mask_for_rows_padded_on_the_right(
    chat_folder: Path,
) -> None:
    gold, model = load_gold(str(chat_folder), "cpu"), _model(chat_folder)
    rows = [list(gold.tokenize(asked).input_ids) for asked in EXCHANGES]
    width = max(map(len, rows))
    padded = [row + [model.config.pad_token_id] * (width - len(row)) for row in rows]
    with torch.no_grad():
        without_mask = model(torch.tensor(padded)).logits[:, 0].tolist()

    assert has_causal_attention(model)
    assert without_mask == pytest.approx(scores(gold, EXCHANGES), abs=1e-5)


def test_a_bidirectional_model_needs_a_mask(pair_folder: Path) -> None:
    assert not has_causal_attention(_model(pair_folder))


def _model(folder: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
