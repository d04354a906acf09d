"""The gold model on CUDA: the same parity as on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from reward_client.wire import ChatMessage
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import Exchange
from tests.gold_models import save_bert, save_chat_model
from tests.gold_scores import scores

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here"),
]

WORDS = "why is the sky blue because of air"
EXCHANGES = [
    Exchange((ChatMessage(role="user", content="why is the sky blue"),), response)
    for response in ("because of air", "", "air " * 40)
]


def test_a_chat_models_score_is_plain_transformers_on_cuda(tmp_path: Path) -> None:
    folder = save_chat_model(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16).to("cuda").eval()
    expected = []
    for asked in EXCHANGES:
        messages = [m.model_dump() for m in asked.messages] + [{"role": "assistant", "content": asked.response}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"].to("cuda")
        with torch.no_grad():
            expected.append(float(plain(ids).logits[0, 0]))

    gold = load_gold(str(folder))

    assert gold.device.startswith("cuda")
    assert [scores(gold, [e])[0] for e in EXCHANGES] == pytest.approx(expected, abs=1e-6)
    # bfloat16 keeps 8 bits: sums over differently padded rows differ in the last of them
    assert scores(gold, EXCHANGES) == pytest.approx(expected, rel=0.05, abs=0.05)


def test_a_pair_models_score_on_cuda_is_the_one_on_a_cpu(tmp_path: Path) -> None:
    folder = save_bert(tmp_path, head=True, words=WORDS, text_pair=True)

    on_cpu = scores(load_gold(str(folder), "cpu"), EXCHANGES)

    assert scores(load_gold(str(folder), "cuda"), EXCHANGES) == pytest.approx(on_cpu, rel=0.05, abs=0.05)


def test_demo_gold_is_float32_on_cuda_too() -> None:
    on_cpu = scores(load_gold("demo-gold", "cpu"), EXCHANGES)

    assert scores(load_gold("demo-gold", "cuda"), EXCHANGES) == pytest.approx(on_cpu, abs=1e-3)
