"""Reward models of the families in use: tiny random ones, each served with the score of its card's code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaModel

from reward_client.wire import ChatMessage
from reward_service.models.gated_head import GatedReward
from reward_service.models.load_gold import GoldLoadError, load_gold
from reward_service.models.protocols import Exchange
from tests.gold_models import CHATML, byte_tokenizer, edit_json, save_chat_model
from tests.gold_scores import scores
from tests.unit.test_gold import EXCHANGES, plain_chat_score

LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] }}<|eot_id|>{% endfor %}"
)
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "num_labels": 1,
}


def small_config(kind: type[Any], tokenizer: Any, **options: Any) -> Any:
    pad = tokenizer.convert_tokens_to_ids("<|pad|>")
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": pad}
    return kind(vocab_size=len(tokenizer), **SMALL, **ids, **options)


@pytest.mark.parametrize(
    "family",
    ["Llama", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3Text", "Mistral", "Phi3", "Mixtral", "Qwen3Moe"],
)
def test_a_sequence_classifiers_score_is_plain_transformers_alone_and_batched(tmp_path: Path, family: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path)
    kind = getattr(transformers, f"{family}ForSequenceClassification")
    torch.manual_seed(0)
    kind(small_config(kind.config_class, tokenizer)).eval().save_pretrained(tmp_path)

    gold = load_gold(str(tmp_path), "cpu")
    expected = [plain_chat_score(tmp_path, one) for one in EXCHANGES]

    assert len({round(score, 3) for score in expected}) == len(expected)
    assert scores(gold, EXCHANGES) == pytest.approx(expected, abs=1e-4)
    assert [scores(gold, [one])[0] for one in EXCHANGES] == pytest.approx(expected, abs=1e-4)


# ArmoRM --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("armo")
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|pad|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]}
    )
    tokenizer.chat_template = LLAMA_3
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    gating = {"num_objectives": 5, "gating_temperature": 2, "gating_hidden_dim": 16, "gating_n_hidden": 3}
    model = GatedReward(small_config(LlamaConfig, tokenizer, **gating)).eval()
    torch.nn.init.normal_(model.reward_transform_matrix)
    model.save_pretrained(folder)
    edit_json(folder / "config.json", architectures=["LlamaForRewardModelWithGating"], num_labels=5)
    return folder


def card_score_of_armorm(folder: Path, asked: Exchange) -> float:
    """What the code of ArmoRM's card computes for one conversation, written again."""
    weights = load_file(folder / "model.safetensors")
    config = LlamaConfig.from_pretrained(folder)
    trunk = LlamaModel(config).eval()
    trunk.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [*(m.model_dump() for m in asked.messages), {"role": "assistant", "content": asked.response}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pattern = tokenizer("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", add_special_tokens=False)[
        "input_ids"
    ]
    start = max(i for i in range(len(ids)) if ids[i : i + len(pattern)] == pattern)
    with torch.no_grad():
        hidden = trunk(torch.tensor([ids])).last_hidden_state[0]
        rewards = weights["regression_layer.weight"] @ hidden[-1]
        value = hidden[start]
        for n in range(4):
            value = weights[f"gating.layers.{n}.weight"] @ value + weights[f"gating.layers.{n}.bias"]
            value = value.clamp(min=0) if n < 3 else value
        gates = torch.softmax(value / config.gating_temperature, dim=0) * weights["gating.logit_scale"][0]
        return float((gates * (rewards @ weights["reward_transform_matrix"])).sum())


def test_a_gated_models_score_is_that_of_its_cards_code(gated: Path) -> None:
    gold = load_gold(str(gated), "cpu")
    two_turns = Exchange(
        (
            ChatMessage(role="user", content="Hi"),
            ChatMessage(role="assistant", content="Hello"),
            ChatMessage(role="user", content="Why?"),
        ),
        "Because.",
    )
    asked = [*EXCHANGES, two_turns]
    expected = [card_score_of_armorm(gated, one) for one in asked]

    assert len({round(score, 3) for score in expected}) == len(expected)
    assert scores(gold, asked) == pytest.approx(expected, abs=1e-4)
    assert [scores(gold, [one])[0] for one in asked] == pytest.approx(expected, abs=1e-4)


def test_a_gated_model_has_the_weights_that_armorm_publishes(gated: Path) -> None:
    names = {name for name in load_file(gated / "model.safetensors") if not name.startswith("model.")}

    layers = {f"gating.layers.{n}.{part}" for n in range(4) for part in ("weight", "bias")}
    assert names == layers | {"gating.logit_scale", "regression_layer.weight", "reward_transform_matrix"}


def test_a_gated_model_gives_no_score_without_the_begin_of_the_response(gated: Path) -> None:
    gold = load_gold(str(gated), "cpu", max_tokens=64)

    with pytest.raises(ValueError, match="where the response begins"):
        scores(gold, [Exchange(EXCHANGES[0].messages, "long " * 20)])


# Value heads: Starling-RM-34B ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def starling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama trunk under the name `transformer` and `v_head`, as in the weights of Starling-RM-34B."""
    folder = save_chat_model(tmp_path_factory.mktemp("starling"))
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("model.", "transformer.", 1): value for name, value in weights.items()}
    renamed["v_head.weight"] = renamed.pop("score.weight")
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def card_score_of_starling(folder: Path, asked: Exchange) -> float:
    """What the code of the card computes for one conversation, written again: v_head at the last token."""
    weights = load_file(folder / "model.safetensors")
    trunk = LlamaModel(LlamaConfig.from_pretrained(folder)).eval()
    trunk.load_state_dict(
        {k.removeprefix("transformer."): v for k, v in weights.items() if k.startswith("transformer.")}
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [*(m.model_dump() for m in asked.messages), {"role": "assistant", "content": asked.response}]
    ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        hidden = trunk(torch.tensor([ids])).last_hidden_state
    return float(weights["v_head.weight"][0] @ hidden[0, -1])


def test_a_value_heads_score_is_that_of_its_cards_code(starling: Path) -> None:
    gold = load_gold(str(starling), "cpu")
    expected = [card_score_of_starling(starling, one) for one in EXCHANGES]

    assert len({round(score, 3) for score in expected}) == len(expected)
    assert scores(gold, EXCHANGES) == pytest.approx(expected, abs=1e-4)
    assert [scores(gold, [one])[0] for one in EXCHANGES] == pytest.approx(expected, abs=1e-4)


# What is refused -----------------------------------------------------------------------------------------------


def refusal(folder: Path) -> str:
    with pytest.raises(GoldLoadError) as raised:
        load_gold(str(folder), "cpu")
    return str(raised.value)


@pytest.mark.parametrize(
    "config",
    [
        {
            "model_type": "internlm2",
            "architectures": ["InternLM2ForRewardModel"],
            "auto_map": {"AutoModel": "modeling_internlm2.InternLM2ForRewardModel"},
        },
        {"architectures": ["Qwen2ForRewardModel"]},
        {"auto_map": {"AutoModelForSequenceClassification": "modeling_custom.LlamaForSequenceClassification"}},
    ],
)
def test_a_model_that_needs_code_of_its_repository_is_refused_with_a_way_to_serve_it(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    folder = save_chat_model(tmp_path)
    edit_json(folder / "config.json", **config)

    said = refusal(folder)

    assert "never run here" in said
    assert "vllm+http://" in said


def test_a_language_model_is_refused_because_it_has_no_score(tmp_path: Path) -> None:
    folder = save_chat_model(tmp_path)
    config = LlamaConfig.from_pretrained(folder)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)

    said = refusal(folder)

    assert "lack score.weight" in said
    assert "a language model has no score" in said


def test_a_model_with_several_labels_is_refused_because_no_rule_is_known(tmp_path: Path) -> None:
    assert "which sum, is the score" in refusal(save_chat_model(tmp_path, labels=19))


def test_a_head_that_the_architecture_does_not_use_is_refused(tmp_path: Path) -> None:
    folder = save_chat_model(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["regression_head.weight"] = torch.zeros(1, 32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    assert "regression_head.weight" in refusal(folder)


def test_an_unused_head_for_words_is_no_reason_to_refuse(tmp_path: Path) -> None:
    folder = save_chat_model(tmp_path)
    before = scores(load_gold(str(folder), "cpu"), EXCHANGES[:1])
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = torch.zeros(260, 32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    assert scores(load_gold(str(folder), "cpu"), EXCHANGES[:1]) == before
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForSequenceClassification"]
