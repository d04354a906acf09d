"""Fitting a gold model on a decoder: LoRA, cached states, checkpoints, degraded pairs, scores of the service."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from reward_client.wire import ChatMessage
from reward_runs.errors import ConfigError, DataError
from reward_runs.prompts import load_embedded
from reward_service.models.load_gold import GoldLoadError, load_gold
from reward_service.models.protocols import Exchange
from reward_trainer.fit_gold import main
from reward_trainer.gold.battery import battery_pairs, kind_rows, mean_accuracy
from reward_trainer.gold.degrade import degraded_pairs, kinds, wrong_answer, wrong_answers
from reward_trainer.gold.fit import FitSettings, fit, score_rows
from reward_trainer.gold.folder import Snapshot, write_model
from reward_trainer.gold.model import Base, GoldNet, load_base, trained_parameters
from reward_trainer.gold.nets import make_net
from reward_trainer.gold.preferences import Pair
from reward_trainer.gold.states import cached, uncached
from reward_trainer.gold.text import PairLengths, chat_frame, encode_pairs, to_tensors
from tests.gold_models import save_bert
from tests.gold_scores import scores
from tests.tiny_llama import save_tiny_llama
from tests.unit.test_train_gold import synthetic_pairs, write_pairs

LENGTHS = PairLengths(prompt_head=12, prompt_tail=6, response_head=20, response_tail=8)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


def changed_net(llama: Path, kept_layers: int | None = None) -> tuple[Base, GoldNet, Snapshot]:
    """A net whose trained parameters are random."""
    base = load_base(str(llama), kept_layers)
    net = make_net(base, 1, 4)
    snapshot = Snapshot(base, net)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in trained_parameters(net).values():
            parameter.add_(torch.randn_like(parameter) / 4)
    return base, net, snapshot


@pytest.mark.parametrize("kept_layers", [None, 1])
def test_the_service_and_the_trainer_compute_the_same_scores(
    llama: Path, tmp_path: Path, kept_layers: int | None
) -> None:
    base, net, snapshot = changed_net(llama, kept_layers)
    write_model(tmp_path, base, snapshot.round_to_delta(), LENGTHS, {})
    pairs = [*synthetic_pairs(6, 4), Pair("Hello", "", "a" * 200, "edge")]
    rows = [row for pair in encode_pairs(base.tokenizer, pairs, LENGTHS, base.frame) for row in pair]

    gold = load_gold(str(tmp_path), "cpu")
    asked = [
        Exchange((ChatMessage(role="user", content=p.prompt),), r) for p in pairs for r in (p.chosen, p.rejected)
    ]

    trained = score_rows(net, rows, lambda _: None)
    assert scores(gold, asked) == pytest.approx(trained, abs=1e-4)
    assert len(set(trained)) == len(trained)


def test_the_frame_is_that_of_the_chat_template(llama: Path) -> None:
    base = load_base(str(llama))
    pair = Pair("Why?", "Because.", "No.", "s")

    chosen = encode_pairs(base.tokenizer, [pair], PairLengths(), base.frame)[0][0]

    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    assert chosen.ids == base.tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]


def test_a_default_system_text_is_left_out(llama: Path) -> None:
    base = load_base(str(llama))
    template = base.tokenizer.chat_template
    base.tokenizer.chat_template = (
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nA long text<|im_end|>\n{% endif %}" + template
    )
    before = base.tokenizer.decode(chat_frame(base.tokenizer).before)

    assert before == "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n"


def test_a_base_without_a_chat_template_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        load_base(str(save_tiny_llama(tmp_path, chat=False)))


def test_more_layers_than_the_base_has_are_rejected(llama: Path) -> None:
    with pytest.raises(ConfigError, match="--keep-layers must be from 1 to 2"):
        load_base(str(llama), 3)
    with pytest.raises(ConfigError, match="--layers must be from 1 to 2"):
        make_net(load_base(str(llama)), 3, 4)


def test_cached_states_are_those_of_the_lower_layers(llama: Path, tmp_path: Path) -> None:
    base, net, _ = changed_net(llama)
    rows = [r for p in encode_pairs(base.tokenizer, synthetic_pairs(20, 1), LENGTHS, base.frame) for r in p]
    path = tmp_path / "states.bf16"
    cached(net, rows[:], path, torch.float32, lambda _: None)

    read = cached(net, rows, path, torch.float32, lambda line: pytest.fail(f"computed again: {line}"))
    mask = to_tensors(rows[:3], CPU)["attention_mask"][..., None]

    expected = uncached(net, torch.float32)(rows[:3]) * mask
    torch.testing.assert_close(read(rows[:3]), expected, atol=0, rtol=2**-7)


def test_incomplete_states_are_completed(llama: Path, tmp_path: Path) -> None:
    base, net, _ = changed_net(llama)
    rows = [r for p in encode_pairs(base.tokenizer, synthetic_pairs(20, 1), LENGTHS, base.frame) for r in p]
    whole, path = tmp_path / "whole.bf16", tmp_path / "states.bf16"
    cached(net, rows, whole, torch.float32, lambda _: None)
    content = whole.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(len(content) - half))
    path.with_suffix(".rows").write_text("16")

    cached(net, rows, path, torch.float32, lambda _: None)

    assert path.read_bytes() == content


def test_states_that_do_not_fit_on_the_disk_are_an_error(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, net, _ = changed_net(llama)
    rows = [r for p in encode_pairs(base.tokenizer, synthetic_pairs(2, 1), LENGTHS, base.frame) for r in p]
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())

    with pytest.raises(ConfigError, match="choose another --work folder"):
        cached(net, rows, tmp_path / "states.bf16", torch.float32, lambda _: None)


def test_an_interrupted_fit_continues_to_the_same_weights(llama: Path, tmp_path: Path) -> None:
    settings = FitSettings(n_trained_layers=1, rank=4, batch_pairs=4, learning_rate=1e-2)

    def fitted(checkpoint: Path | None, stop_after: int | None = None) -> dict[str, torch.Tensor]:
        base = load_base(str(llama))
        torch.manual_seed(0)
        net = make_net(base, 1, 4)
        pairs = encode_pairs(base.tokenizer, synthetic_pairs(24, 1), LENGTHS, base.frame)
        states, calls = uncached(net, torch.float32), iter(range(10_000))

        def interrupted(rows: list[object]) -> torch.Tensor:
            if next(calls) == stop_after:
                raise KeyboardInterrupt
            return states(rows)  # type: ignore[arg-type]

        fit(net, pairs, settings, interrupted, lambda _: None, checkpoint, checkpoint_every_s=0)  # type: ignore[arg-type]
        return {name: p.detach() for name, p in trained_parameters(net).items()}

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "c.pt", stop_after=3)
    continued = fitted(tmp_path / "c.pt")

    for name, expected in fitted(None).items():
        torch.testing.assert_close(continued[name], expected, atol=1e-6, rtol=1e-4)


def test_a_batch_in_parts_has_the_gradient_of_the_whole(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for tokens in (1, 100_000):
        monkeypatch.setattr("reward_trainer.gold.fit.TOKENS_AT_ONCE", {"cpu": tokens})
        base = load_base(str(llama))
        torch.manual_seed(0)
        net = make_net(base, 1, 4)
        pairs = encode_pairs(base.tokenizer, synthetic_pairs(12, 1), LENGTHS, base.frame)
        settings = FitSettings(n_trained_layers=1, batch_pairs=6, learning_rate=1e-2)
        fit(net, pairs, settings, uncached(net, torch.float32), lambda _: None)
        weights.append(net.model.score.weight.detach().clone())

    torch.testing.assert_close(weights[0], weights[1], atol=1e-5, rtol=1e-3)


def test_the_command_fits_a_decoder_that_the_service_loads(llama: Path, tmp_path: Path) -> None:
    train = write_pairs(tmp_path / "train.jsonl", synthetic_pairs(120, 1))
    test = write_pairs(tmp_path / "test.jsonl", synthetic_pairs(20, 2))
    command = [
        *("--preferences", str(train), "--test", str(test), "--base", str(llama), "--out", str(tmp_path / "gold")),
        *("--keep-lengths", "--layers", "2", "--rank", "4", "--learning-rate", "1e-2", "--epochs", "4"),
        *("--work", str(tmp_path / "work"), "--lengths", "10", "20", "40", "20"),
        *("--degraded", "14", "--closed-ended", "embedded"),
    ]

    assert main(command) == 0

    gold, config = (
        load_gold(str(tmp_path / "gold"), "cpu"),
        json.loads((tmp_path / "gold/config.json").read_text()),
    )
    card = (tmp_path / "gold/MODEL_CARD.md").read_text()
    asked = (ChatMessage(role="user", content="tell me about sky"),)
    kind, rude = scores(gold, [Exchange(asked, "kind sky sea"), Exchange(asked, "rude sky sea")])
    assert kind > rude
    assert config["format"] == "glassbox-gold-delta/2"
    assert config["fitted"]["pairs_by_source"]["degraded_doubled"] >= 2
    assert len(list((tmp_path / "work").glob("states-*.bf16"))) == 1
    assert "| doubled | yes |" in card
    assert "| looped | no |" in card


def test_the_same_command_continues_from_its_checkpoint(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_pairs(tmp_path / "train.jsonl", synthetic_pairs(40, 1))
    command = ["--preferences", str(train), "--base", str(llama), "--keep-lengths", "--layers", "1"]
    command += ["--work", str(tmp_path / "work"), "--out"]

    assert main([*command, str(tmp_path / "a")]) == 0
    capsys.readouterr()
    assert main([*command, str(tmp_path / "b")]) == 0

    assert "continued after step 3 of 3" in capsys.readouterr().out
    a, b = ((tmp_path / out / "delta.safetensors").read_bytes() for out in "ab")
    assert a == b


def test_a_delta_whose_frame_is_misspelled_is_rejected(llama: Path, tmp_path: Path) -> None:
    base, _, snapshot = changed_net(llama)
    write_model(tmp_path, base, snapshot.round_to_delta(), LENGTHS, {})
    config = json.loads((tmp_path / "config.json").read_text())
    config["frame"] = {"before": [1]}
    (tmp_path / "config.json").write_text(json.dumps(config))

    with pytest.raises(GoldLoadError, match=r"frame\.between"):
        load_gold(str(tmp_path), "cpu")


def test_an_encoder_that_is_no_bert_is_rejected(tmp_path: Path) -> None:
    folder = save_bert(tmp_path, head=False, words="a b")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "roberta"}))

    with pytest.raises(ConfigError, match="must be a BERT or a decoder"):
        load_base(str(folder))


LONG = (
    "The river rises in the hills, passes three small towns and reaches the sea after two days. Boats carry grain "
    "and timber down to the harbour, and in spring the melting snow lifts them over the sand banks."
)


def test_degraded_pairs_are_of_all_kinds_and_keep_the_good_response() -> None:
    pairs = [Pair(f"Question {i}?", f"{LONG} It is number {i}.", "x", "people") for i in range(70)]

    made = degraded_pairs(pairs, 70, random.Random(0))

    assert Counter(p.source for p in made) == {f"degraded_{k}": 10 for k in kinds() if k != "wrong_answer"}
    chosen = {p.prompt: p.chosen for p in pairs}
    assert all(chosen[p.prompt] == p.chosen != p.rejected for p in made)


def test_more_degraded_pairs_than_possible_are_an_error() -> None:
    with pytest.raises(DataError, match="5 degraded pairs were asked for, and 0 can be made"):
        degraded_pairs([Pair("a", "too short", "b", "s")], 5, random.Random(0))


@pytest.mark.parametrize("answer", ["Yes", "391", "3.5 m", "Paris", "B", "1", "AB"])
def test_a_wrong_answer_differs_from_the_right_one(answer: str) -> None:
    rng = random.Random(0)
    wrong = {wrong_answer(answer, {"a": "Paris", "b": "Rome", "c": "yes"}, rng) for _ in range(30)}

    assert answer not in wrong
    assert None not in wrong


def test_only_closed_ended_prompts_have_wrong_answers() -> None:
    prompts = load_embedded("train")

    made = wrong_answers(prompts, random.Random(0))

    closed = {p.prompt for p in prompts if p.query_type == "closed_ended"}
    assert {p.prompt for p in made} <= closed
    assert len(made) > len(closed) / 2
    assert all(p.chosen.lower() != p.rejected.lower() for p in made)


def test_kinds_that_were_fitted_on_are_marked() -> None:
    pairs = battery_pairs()

    rows = kind_rows(pairs, [1.0] * len(pairs), ["doubled", "off_topic"])

    assert {row.name for row in rows if row.fitted_on} == {
        "doubled", "off_topic_short", "off_topic_same_length", "off_topic_long"
    }  # fmt: skip
    assert mean_accuracy(rows) == 1.0
    assert sum(row.n_pairs for row in rows) == len(pairs)


def test_no_text_of_the_battery_is_fitted_on() -> None:
    held_out = {text for pair in battery_pairs() for text in (pair.chosen, pair.rejected)}
    pairs = [Pair(f"Question {i}?", f"{LONG} It is number {i}.", "x", "people") for i in range(70)]

    made = degraded_pairs(pairs, 70, random.Random(0))

    assert held_out.isdisjoint(text for pair in made for text in (pair.chosen, pair.rejected))
