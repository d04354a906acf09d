"""`glassbox fit-gold`, also `python -m reward_trainer.fit_gold`: fit a small gold model on preference pairs.

read pairs ──▶ balance lengths ──▶ add degraded pairs ──▶ fit ──▶ write delta.safetensors and config.json
                                                           └────▶ measure ──▶ MODEL_CARD.md
"""

import argparse
import hashlib
import random
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

import torch

from reward_client.cli.command import run_program
from reward_client.writing import check_folder
from reward_runs.errors import ConfigError, DataError, RunError
from reward_runs.files import lock_folder, replace_text
from reward_runs.prompts import Columns, load_prompts
from reward_trainer.gold.battery import battery_pairs, kind_rows
from reward_trainer.gold.degrade import SOURCE, degraded_pairs, wrong_answers
from reward_trainer.gold.fit import EncodedPair, FitSettings, fit, score_rows
from reward_trainer.gold.fit_options import configure, fit_settings, pair_lengths
from reward_trainer.gold.folder import Snapshot, judged_by_models, model_card, write_model
from reward_trainer.gold.model import Base, GoldNet, load_base
from reward_trainer.gold.nets import make_net
from reward_trainer.gold.preferences import Pair, balance_lengths, check_other_prompts, hold_out, read_pairs
from reward_trainer.gold.quality import quality
from reward_trainer.gold.similar import similar_prompt_pairs
from reward_trainer.gold.states import States, cached, uncached
from reward_trainer.gold.text import PairLengths, check_lengths, encode_pairs


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` and run the command; return the exit status."""
    return run_program("python -m reward_trainer.fit_gold", configure, run, argv)


def run(options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Fit and write the model; return 0 when it is written, 2 when the input cannot be used."""
    try:
        if options.work is None:
            fit_gold(options, shlex.join(["glassbox", "fit-gold", *argv]))
        else:
            with lock_folder(options.work):
                fit_gold(options, shlex.join(["glassbox", "fit-gold", *argv]))
    except RunError as exc:
        sys.stderr.write(f"fit-gold: {exc}\n")
        return 2
    return 0


def fit_gold(options: argparse.Namespace, command: str) -> None:
    """Fit the model, measure it and write it; raise RunError for invalid input, and OutputError."""
    _check_out(options)
    read, test = _read(options)
    used = _used(options, read)
    check_other_prompts(used, test)
    settings, lengths = fit_settings(options), pair_lengths(options)
    torch.manual_seed(options.seed)  # the new parameters are initialised randomly
    base = load_base(options.base, options.keep_layers)
    check_lengths(lengths, base.frame, base.model.config.get_text_config().max_position_embeddings)
    base.model.to("cuda" if torch.cuda.is_available() else "cpu")
    net = make_net(base, settings.n_trained_layers, settings.rank)
    snapshot = Snapshot(base, net)
    encoded = encode_pairs(base.tokenizer, used, lengths, base.frame)
    n_tokens = sum(len(side.ids) for pair in encoded for side in pair)
    _log(f"{len(read)} pairs read, {len(used)} used with {n_tokens} tokens; fitting on {net.model.device}")
    minutes = _fit(options.work, base, net, encoded, settings)
    delta = snapshot.round_to_delta()
    sources = Counter(pair.source for pair in used)
    margins = _margins(net, base, lengths, test)
    rows = quality(test, margins, set(sources), judged_by_models()) if test else []
    fitted_kinds = sorted(name.removeprefix(SOURCE) for name in sources if name.startswith(SOURCE))
    probed = battery_pairs() if test else []
    kinds = kind_rows(probed, _margins(net, base, lengths, probed), fitted_kinds)
    fitted = {
        "command": command,
        "seed": settings.seed,
        "pairs_by_source": dict(sorted(sources.items())),
        "accuracy": {row.name: asdict(row.model) for row in rows},
        "battery": {row.name: row.accuracy for row in kinds},
    }
    write_model(options.out, base, delta, lengths, fitted)
    card = model_card(
        used,
        read,
        test,
        base=base,
        settings=settings,
        lengths=lengths,
        excluded=options.exclude_source,
        rows=rows,
        kinds=kinds,
        held_out=options.hold_out is not None,
        command=command,
        made_on=datetime.now(UTC).date(),
        minutes=minutes,
        n_trained=sum(tensor.numel() for tensor in delta.values()),
    )
    replace_text(options.out / "MODEL_CARD.md", card)
    _log(f"written: {options.out}; serve it with: glassbox serve --gold {options.out}")


def _check_out(options: argparse.Namespace) -> None:
    """Raise OutputError or ConfigError when `--out` cannot be written."""
    check_folder(options.out)
    if options.out.exists() and Path(options.base).exists() and options.out.samefile(options.base):
        raise ConfigError(f"--out {options.out} is the folder of --base, whose config.json would be replaced")


def _read(options: argparse.Namespace) -> tuple[list[Pair], list[Pair]]:
    """Return the preference pairs to fit on and those to measure on, if any; raise DataError."""
    read = read_pairs(options.preferences, options.exclude_source)
    if options.hold_out:
        return hold_out(read, options.hold_out, random.Random(options.seed))
    return read, read_pairs([options.test], options.exclude_source) if options.test else []


def _used(options: argparse.Namespace, read: Sequence[Pair]) -> list[Pair]:
    """Return the pairs to fit on: preferences, then degraded ones, then wrong answers; DataError for none."""
    rng = random.Random(options.seed)
    used = list(read) if options.keep_lengths else balance_lengths(read, rng)
    if options.rows:
        used = random.Random(options.seed).sample(used, min(options.rows, len(used)))
    good = [p for p in read if any(fnmatch(p.source, pattern) for pattern in options.degrade_source)]
    if options.degraded:
        used += degraded_pairs(good, options.degraded, rng)
    if options.similar_prompts:
        used += similar_prompt_pairs(good, options.similar_prompts, rng)
    if options.closed_ended:
        used += wrong_answers(load_prompts(options.closed_ended, Columns()), rng)
    if not used:
        raise DataError(
            f"none of the {len(read)} pairs is left once lengths are balanced within their sources: give more "
            "pairs, or --keep-lengths"
        )
    return used


def _fit(
    work: Path | None, base: Base, net: GoldNet, encoded: Sequence[EncodedPair], settings: FitSettings
) -> float:
    """Train `net`; return the minutes that it took."""
    started = time.monotonic()
    states, checkpoint = _working_files(work, base, net, encoded, settings)
    fit(net, encoded, settings, states, _log, checkpoint)
    return (time.monotonic() - started) / 60


def _working_files(
    work: Path | None, base: Base, net: GoldNet, pairs: Sequence[EncodedPair], settings: FitSettings
) -> tuple[States, Path | None]:
    """Return the lower half's states, and the checkpoint. Their names contain a hash of what they depend on."""
    if work is None:
        return uncached(net, settings.precision), None
    rows = [side for pair in pairs for side in pair]
    lower = _hash(base.revision, base.kept_layers, net.n_frozen, settings.precision, rows)
    states = cached(net, rows, work / f"states-{lower}.bf16", settings.precision, _log)
    return states, work / f"checkpoint-{_hash(lower, settings)}.pt"


def _hash(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def _margins(net: GoldNet, base: Base, lengths: PairLengths, pairs: Sequence[Pair]) -> list[float]:
    """Return score(chosen) − score(rejected) of each pair, with the model as it is stored."""
    rows = [row for pair in encode_pairs(base.tokenizer, pairs, lengths, base.frame) for row in pair]
    scores = score_rows(net, rows, _log)
    return [chosen - rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)]


def _log(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
