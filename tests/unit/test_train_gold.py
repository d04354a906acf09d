"""Fitting a gold model: it learns, the service can load it, and its card contains the measurements."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reward_client.wire import ChatMessage
from reward_runs.errors import DataError
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import Exchange
from reward_trainer.fit_gold import main
from reward_trainer.gold.folder import Snapshot, write_model
from reward_trainer.gold.model import load_base, score, trained_parameters
from reward_trainer.gold.nets import make_net
from reward_trainer.gold.preferences import Pair, balance_lengths, n_words, read_pairs
from reward_trainer.gold.quality import quality
from reward_trainer.gold.text import PairLengths, encode_pairs, to_tensors
from tests.gold_models import save_bert
from tests.gold_scores import scores

TOPICS = "sky sea tree stone bird fish cloud river hill road"
WORDS = f"tell me about {TOPICS} kind rude word"


def synthetic_pairs(n: int, seed: int) -> list[Pair]:
    """Kind answers are preferred to rude ones; length is noise."""
    rng = random.Random(seed)

    def answer(tone: str) -> str:
        return " ".join(rng.choices([tone, *TOPICS.split()], [5, *[1] * 10], k=rng.randint(4, 30)))

    return [
        Pair(
            f"tell me about {rng.choice(TOPICS.split())} {1000 * seed + i}",
            answer("kind"),
            answer("rude"),
            "made_up",
        )
        for i in range(n)
    ]


def write_pairs(path: Path, pairs: list[Pair]) -> Path:
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected, "source": p.source} for p in pairs]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("base"), head=False, words=WORDS)


@pytest.fixture(scope="module")
def fitted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the command wrote."""
    place = tmp_path_factory.mktemp("fit")
    train = write_pairs(place / "train.jsonl.gz", [*synthetic_pairs(200, 1), Pair("a", "b", "c", "some_gpt4")])
    test = write_pairs(place / "test.jsonl", synthetic_pairs(40, 2))
    command = ["--preferences", str(train), "--test", str(test), "--base", str(base), "--out", str(place / "gold")]
    assert main([*command, "--epochs", "2", "--learning-rate", "1e-3", "--keep-lengths"]) == 0
    return place / "gold"


def test_fitting_separates_the_chosen_from_the_rejected(fitted: Path) -> None:
    gold = load_gold(str(fitted), "cpu")
    pairs = synthetic_pairs(40, 3)

    chosen, rejected = (
        scores(gold, [Exchange((ChatMessage(role="user", content=p.prompt),), getattr(p, side)) for p in pairs])
        for side in ("chosen", "rejected")
    )

    assert sum(c > r for c, r in zip(chosen, rejected, strict=True)) >= 36


def test_the_service_and_the_trainer_compute_the_same_scores(base: Path, tmp_path: Path) -> None:
    loaded = load_base(str(base))
    net = make_net(loaded, 1, 4)
    snapshot = Snapshot(loaded, net)
    with torch.no_grad():
        for parameter in trained_parameters(net).values():
            parameter.add_(torch.randn_like(parameter) / 8)
    lengths = PairLengths(prompt_head=2, prompt_tail=1, response_head=5, response_tail=3)
    write_model(tmp_path, loaded, snapshot.round_to_delta(), lengths, {})
    pairs = synthetic_pairs(8, 4)
    rows = [row for pair in encode_pairs(loaded.tokenizer, pairs, lengths, loaded.frame) for row in pair]

    gold = load_gold(str(tmp_path), "cpu")
    served = scores(
        gold,
        [
            Exchange((ChatMessage(role="user", content=p.prompt),), r)
            for p in pairs
            for r in (p.chosen, p.rejected)
        ],
    )

    assert served == pytest.approx(score(net, to_tensors(rows, torch.device("cpu"))).tolist(), abs=1e-5)
    assert gold.encoder_base == str(base.resolve())


def test_the_two_halves_of_the_model_equal_the_complete_model(base: Path) -> None:
    loaded = load_base(str(base))
    net = make_net(loaded, 2, 4)
    pairs = encode_pairs(loaded.tokenizer, synthetic_pairs(5, 5), PairLengths(), loaded.frame)
    rows = [row for pair in pairs for row in pair]
    inputs = to_tensors(rows, torch.device("cpu"))

    halves = net.upper(net.lower(inputs), inputs["attention_mask"])

    torch.testing.assert_close(halves, net.model(**inputs).logits[:, 0], atol=1e-5, rtol=0)


def test_only_trained_parameters_are_stored(fitted: Path) -> None:
    config = json.loads((fitted / "config.json").read_text())

    assert config["whole"] == ["classifier.bias", "classifier.weight"]
    assert {name.split(".layer.")[-1][0] for name in config["changed"] if ".layer." in name} == {"1", "2"}


def test_the_same_seed_gives_the_same_weights(base: Path, tmp_path: Path) -> None:
    train = write_pairs(tmp_path / "train.jsonl", synthetic_pairs(20, 1))
    command = ["--preferences", str(train), "--base", str(base), "--keep-lengths"]

    for out in ("a", "b"):
        assert main([*command, "--out", str(tmp_path / out)]) == 0

    a, b = ((tmp_path / out / "delta.safetensors").read_bytes() for out in ("a", "b"))
    assert a == b


def test_the_card_states_figures_attribution_and_command(fitted: Path) -> None:
    card = (fitted / "MODEL_CARD.md").read_text()

    assert "demo model, not a judge of quality" in card
    assert "longer wins" in card
    assert "| controlled |" in card
    assert "| made_up | 200 | 200 | not recorded |" in card
    assert "glassbox fit-gold --preferences" in card
    assert "some_gpt4" not in card
    assert re.search(r"ranks right in fewer than 8 of 10 pairs: \w+", card)


def test_excluded_sources_are_not_read(tmp_path: Path) -> None:
    path = write_pairs(
        tmp_path / "p.jsonl", [Pair("a", "b", "c", s) for s in ("people", "x_gpt4", "gpt4rel", "ultrafeedback")]
    )

    assert [p.source for p in read_pairs([path], ["ultrafeedback", "*gpt4*"])] == ["people"]
    assert len(read_pairs([path])) == 4


@pytest.mark.parametrize("row", ["{", "[1]", '{"prompt": "a"}', '{"prompt": "a", "chosen": 1, "rejected": "c"}'])
def test_an_invalid_pair_is_an_error_that_names_the_row(tmp_path: Path, row: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"prompt": "a", "chosen": "b", "rejected": "c"}}\n{row}\n')

    with pytest.raises(DataError, match="row 2"):
        read_pairs([path])


def test_an_unreadable_file_ends_the_command_with_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["--preferences", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out")])

    assert status == 2
    assert "preference pairs cannot be read" in capsys.readouterr().err


def test_a_test_file_with_prompts_of_the_fit_is_an_error_that_names_one(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = synthetic_pairs(20, 1)
    shared = Pair(f" {pairs[3].prompt.upper()}\n", "another answer", "a third answer", "other")
    train = write_pairs(tmp_path / "train.jsonl", pairs)
    test = write_pairs(tmp_path / "test.jsonl", [*synthetic_pairs(5, 2), shared])

    command = [
        "--preferences",
        str(train),
        "--test",
        str(test),
        "--base",
        str(base),
        "--out",
        str(tmp_path / "gold"),
    ]
    assert main([*command, "--keep-lengths"]) == 2

    error = capsys.readouterr().err
    assert "the test pairs share 1 prompts with those of the fit" in error
    assert "(source other; in the fit made_up)" in error
    assert not (tmp_path / "gold").exists()


def test_held_out_prompts_are_measured_on_and_not_fitted_on(base: Path, tmp_path: Path) -> None:
    train = write_pairs(tmp_path / "train.jsonl", [*synthetic_pairs(40, 1), *synthetic_pairs(40, 1)])

    command = ["--preferences", str(train), "--base", str(base), "--keep-lengths", "--hold-out", "0.25"]
    assert main([*command, "--out", str(tmp_path / "gold")]) == 0

    card = (tmp_path / "gold/MODEL_CARD.md").read_text()
    assert "| made_up | 60 | 60 |" in card
    assert "| in distribution | 20 | 10 |" in card


def test_too_few_prompts_to_hold_some_out_are_an_error(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_pairs(tmp_path / "train.jsonl", synthetic_pairs(3, 1))

    command = ["--preferences", str(train), "--base", str(base), "--keep-lengths", "--hold-out", "0.1"]
    assert main([*command, "--out", str(tmp_path / "gold")]) == 2

    assert "--hold-out 0.1 of 3 prompts leaves none" in capsys.readouterr().err


def test_lengths_are_balanced_in_every_range_of_ratios() -> None:
    long, short, longest = "w " * 10, "w " * 9, "w " * 100
    pairs = (
        [Pair("p", long, short, "a")] * 7
        + [Pair("p", short, long, "a")] * 3
        + [Pair("p", longest, short, "a")] * 2
        + [Pair("p", short, longest, "a")] * 9
        + [Pair("p", long, long, "a")] * 4
    )

    kept = balance_lengths(pairs, random.Random(0))

    gaps = [n_words(p.chosen) - n_words(p.rejected) for p in kept]
    assert {gap: gaps.count(gap) for gap in sorted(set(gaps))} == {-91: 2, -1: 3, 0: 4, 1: 3, 91: 2}


def test_accuracy_is_compared_with_longer_wins_per_subset_and_source() -> None:
    pairs = [
        Pair("p1", "a b c", "a", "seen"),
        Pair("p2", "a", "a b c", "seen"),
        Pair("p2", "a", "a b c", "seen"),
        Pair("p3", "a b", "b a", "seen"),
        Pair("p4", "a", "a b", "unseen"),
    ]

    rows = {row.name: row for row in quality(pairs, [1.0, 1.0, -1.0, 0.0, 1.0], {"seen"})}

    figures = {
        name: (row.n_pairs, row.n_prompts, row.model.mean, row.longer_wins.mean) for name, row in rows.items()
    }
    assert figures == {
        "in distribution": (4, 3, 0.625, 0.375),
        "controlled": (1, 1, 0.5, 0.5),
        "chosen shorter": (2, 1, 0.5, 0.0),
        "chosen longer": (1, 1, 1.0, 1.0),
        "seen": (4, 3, 0.625, 0.375),
        "unseen (not fitted on)": (1, 1, 1.0, 0.0),
    }
    assert rows["chosen shorter"].model.interval is None


def test_pairs_without_a_models_preference_have_a_row_when_a_model_stated_others() -> None:
    pairs = [Pair(f"p{i}", "a", "b", source) for i, source in enumerate(("ours", "theirs_gpt4"))]

    by = {row.name: row for row in quality(pairs, [1.0, -1.0], {"ours", "theirs_gpt4"}, {"theirs_gpt4"})}
    without = quality(pairs, [1.0, -1.0], {"ours"}, {"theirs_gpt4"})

    assert (by["in distribution"].model.mean, by["without a model's"].model.mean) == (0.5, 1.0)
    assert (by["controlled"].model.mean, by["both of these"].model.mean) == (0.5, 1.0)
    assert "without a model's" not in {row.name for row in without}


def test_the_interval_counts_prompts_not_pairs() -> None:
    one_each = [Pair(f"p{i}", "a", "b", "s") for i in range(40)]
    same_four = [Pair(f"p{i % 4}", "a", "b", "s") for i in range(40)]
    margins = [1.0 if i % 4 < 2 else -1.0 for i in range(40)]

    widths = []
    for pairs in (one_each, same_four):
        low, high = quality(pairs, margins, {"s"})[0].model.interval or (0.0, 0.0)
        widths.append(high - low)

    assert widths[1] > 2 * widths[0]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damaged(content: bytes) -> bytes:
    """With another checksum at its end."""
    return content[:-8] + bytes(8)


def not_compressed(content: bytes) -> bytes:
    return gzip.decompress(content)


@pytest.mark.parametrize("damage", [cut, damaged, not_compressed])
def test_a_damaged_file_is_one_line_that_names_it_and_the_row_reached(
    damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_pairs(tmp_path / "train.jsonl.gz", synthetic_pairs(2000, 1))
    path.write_bytes(damage(path.read_bytes()))

    assert main(["--preferences", str(path), "--out", str(tmp_path / "out")]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    reached = "at its beginning" if damage is not_compressed else r"after row \d+"
    assert re.search(rf"^fit-gold: {re.escape(str(path))} is damaged or incomplete {reached}: .+; copy", line)


def test_a_missing_file_is_one_line_that_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preferences", str(tmp_path / "no.jsonl.gz"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.endswith("no.jsonl.gz: No such file or directory\n")


def test_the_folder_of_the_base_is_not_replaced(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, before = (
        write_pairs(tmp_path / "train.jsonl", synthetic_pairs(9, 1)),
        (base / "config.json").read_bytes(),
    )

    assert main(["--preferences", str(path), "--base", str(base), "--out", str(base)]) == 2
    assert "is the folder of --base" in capsys.readouterr().err
    assert (base / "config.json").read_bytes() == before


def test_nothing_is_written_when_no_pair_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_pairs(tmp_path / "train.jsonl", [Pair("p", "a b c", "d", "made_up")])

    assert main(["--preferences", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "none of the 1 pairs is left once lengths are balanced" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_lengths_beyond_the_positions_of_the_base_are_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_pairs(tmp_path / "p.jsonl", synthetic_pairs(4, 0))
    lengths = ["--lengths", "300", "300", "300", "300"]

    assert (
        main(
            [
                "--preferences",
                str(path),
                "--base",
                str(base),
                "--out",
                str(tmp_path / "out"),
                *lengths,
                "--keep-lengths",
            ]
        )
        == 2
    )
    assert (
        "--lengths allow 1203 tokens with the frame, and the base has positions for 512" in capsys.readouterr().err
    )
