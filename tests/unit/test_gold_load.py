"""Loading gold models: the demo model, folders, hub ids, and errors that name the next step."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from reward_client.wire import ChatMessage
from reward_service.errors import ConfigurationError
from reward_service.models.load_gold import GoldLoadError, load_gold
from reward_service.models.protocols import Exchange
from tests.gold_models import edit_json, save_bert, save_chat_model
from tests.gold_scores import scores

DEMO = Path(__file__).parents[2] / "services/reward_service/models/demo_gold"
ASKED = Exchange(
    (ChatMessage(role="user", content="Why is the sky blue?"),), "Because air scatters blue light more."
)


def test_demo_gold_is_embedded_and_has_a_notice() -> None:
    gold = load_gold("demo-gold", "cpu")

    assert gold.id == "demo-gold"
    assert gold.notices[0] == "demo model, not a judge of quality"
    assert "--gold Skywork/Skywork-Reward-V2-Qwen3-0.6B" in gold.notices[1]
    assert gold.encoder_base == "all-MiniLM-L6-v2"
    assert len(gold.revision) == 12


@pytest.mark.slow
def test_the_demo_model_on_the_policy_prefers_an_answer_to_a_worse_one() -> None:
    gold = load_gold("demo-gold-smollm2", "cpu")
    worse = ["I cannot help with that.", "Why is the sky blue?", "Bread is baked in an oven."]

    found = scores(gold, [ASKED, *(Exchange(ASKED.messages, response) for response in worse)])

    assert gold.encoder_base == "smollm2-135m-instruct"
    assert gold.notices[0] == "demo model, not a judge of quality"
    assert found[0] > max(found[1:])


@pytest.mark.parametrize("name", ["demo-gold", pytest.param("demo-gold-smollm2", marks=pytest.mark.slow)])
def test_demo_gold_scores_a_batch_as_it_scores_alone(name: str) -> None:
    gold = load_gold(name, "cpu")
    longer = Exchange(ASKED.messages, ASKED.response * 30)
    empty = Exchange(ASKED.messages, "")

    alone = [scores(gold, [e])[0] for e in (ASKED, longer, empty)]

    assert scores(gold, [ASKED, longer, empty]) == pytest.approx(alone, abs=1e-4)
    assert len(set(alone)) == 3


def test_the_revision_is_the_content_of_the_weights(tmp_path: Path) -> None:
    first = save_bert(tmp_path / "a", head=True, words="a b", text_pair=True)
    copy = shutil.copytree(first, tmp_path / "b")
    other = save_bert(tmp_path / "c", head=True, words="a b c", text_pair=True)

    revisions = [load_gold(str(folder), "cpu").revision for folder in (first, copy, other)]

    assert revisions[0] == revisions[1] != revisions[2]


def test_an_unreachable_hub_id_is_an_error_with_its_cause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(GoldLoadError, match="Copy the model to a folder") as raised:
        load_gold("somebody/no-such-reward-model")

    assert isinstance(raised.value, ConfigurationError)
    assert "somebody/no-such-reward-model" in str(raised.value)


def test_a_model_without_a_chat_template_is_rejected(tmp_path: Path) -> None:
    folder = save_chat_model(tmp_path, template=False)

    with pytest.raises(GoldLoadError, match="no chat template"):
        load_gold(str(folder), "cpu")


def test_a_model_whose_head_would_be_random_is_not_a_reward_model(tmp_path: Path) -> None:
    folder = save_chat_model(tmp_path)
    AutoModelForSequenceClassification.from_pretrained(folder).model.save_pretrained(folder)
    edit_json(folder / "config.json", num_labels=1, architectures=["LlamaForCausalLM"])

    with pytest.raises(GoldLoadError, match=r"lack score\.weight"):
        load_gold(str(folder), "cpu")


def test_a_classifier_with_several_labels_is_not_a_reward_model(tmp_path: Path) -> None:
    with pytest.raises(GoldLoadError, match="2 labels"):
        load_gold(str(save_chat_model(tmp_path, labels=2)), "cpu")


def test_pickled_weights_are_rejected(tmp_path: Path) -> None:
    folder = save_bert(tmp_path, head=True, words="a b", text_pair=True)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")

    with pytest.raises(GoldLoadError, match="pickled weights are not supported"):
        load_gold(str(folder), "cpu")


def test_a_misspelled_pair_length_is_rejected(tmp_path: Path) -> None:
    folder = save_bert(tmp_path, head=True, words="a b")
    edit_json(folder / "config.json", glassbox_text_pair={"prompt": 3})

    with pytest.raises(GoldLoadError, match="prompt_head"):
        load_gold(str(folder), "cpu")


def test_a_delta_on_other_base_weights_is_rejected(tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO, tmp_path / "delta")
    edit_json(folder / "config.json", base_revision="0" * 64)

    with pytest.raises(GoldLoadError, match="fitted on all-MiniLM-L6-v2 with the weights 000000000000"):
        load_gold(str(folder), "cpu")


def test_a_delta_that_lacks_a_parameter_is_rejected(tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO, tmp_path / "delta")
    edit_json(folder / "config.json", changed=[])

    with pytest.raises(GoldLoadError, match="does not contain the parameters"):
        load_gold(str(folder), "cpu")
