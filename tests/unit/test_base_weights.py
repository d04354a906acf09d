"""Bases of gold models whose weights are in several files, or on the Hugging Face hub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reward_client.base_weights import INDEX_FILE, BaseWeightsError, base_location, weights_files, weights_revision
from reward_client.wire import ChatMessage
from reward_runs.errors import ConfigError
from reward_service.models.load_gold import GoldLoadError, load_gold
from reward_service.models.protocols import Exchange
from reward_trainer.gold.fit import score_rows
from reward_trainer.gold.folder import write_model
from reward_trainer.gold.model import load_base
from reward_trainer.gold.text import encode_pairs
from tests.gold_scores import scores
from tests.tiny_llama import save_tiny_llama
from tests.unit.test_fit_decoder import LENGTHS, changed_net
from tests.unit.test_train_gold import synthetic_pairs


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return save_tiny_llama(tmp_path / "base", max_shard_size="20KB")


def delta(shards: Path, folder: Path, *, base: str) -> Path:
    """A gold model on `shards`, whose config names `base`."""
    fitted, _, snapshot = changed_net(shards)
    write_model(folder / "gold", fitted, snapshot.round_to_delta(), LENGTHS, {})
    path = folder / "gold" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base": base}))
    return folder / "gold"


def test_a_base_in_several_files_is_fitted_and_served_to_the_same_scores(shards: Path, tmp_path: Path) -> None:
    assert len(weights_files(shards)) > 2
    base, net, snapshot = changed_net(shards)
    write_model(tmp_path / "gold", base, snapshot.round_to_delta(), LENGTHS, {})
    pairs = synthetic_pairs(4, 4)
    rows = [row for pair in encode_pairs(base.tokenizer, pairs, LENGTHS, base.frame) for row in pair]

    gold = load_gold(str(tmp_path / "gold"), "cpu")
    asked = [
        Exchange((ChatMessage(role="user", content=p.prompt),), r) for p in pairs for r in (p.chosen, p.rejected)
    ]

    assert scores(gold, asked) == pytest.approx(score_rows(net, rows, lambda _: None), abs=1e-4)


def test_other_weights_in_one_of_the_files_are_refused(shards: Path, tmp_path: Path) -> None:
    base, _, snapshot = changed_net(shards)
    write_model(tmp_path / "gold", base, snapshot.round_to_delta(), LENGTHS, {})
    last = weights_files(shards)[-1]
    content = last.read_bytes()
    last.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    with pytest.raises(GoldLoadError, match="install that version, or fit it again"):
        load_gold(str(tmp_path / "gold"), "cpu")


def test_the_revision_of_one_file_is_its_hash_and_of_several_depends_on_each(shards: Path, tmp_path: Path) -> None:
    whole = save_tiny_llama(tmp_path / "whole")
    of_shards = weights_revision(shards)

    assert weights_files(whole) == [whole / "model.safetensors"]
    assert len({of_shards, weights_revision(whole)}) == 2
    weights_files(shards)[0].write_bytes(b"")
    assert weights_revision(shards) != of_shards


def test_a_file_that_the_index_names_and_that_is_missing_is_named(shards: Path) -> None:
    missing = weights_files(shards)[1]
    missing.unlink()

    with pytest.raises(ConfigError, match=f"{missing.name}, which {INDEX_FILE} names, does not exist"):
        load_base(str(shards))


@pytest.mark.parametrize("index", ["[]", "{}", "{", '{"weight_map": {}}', '{"weight_map": {"a": "../b"}}'])
def test_an_index_that_names_no_files_of_its_folder_is_an_error(index: str, tmp_path: Path) -> None:
    (tmp_path / INDEX_FILE).write_text(index)

    with pytest.raises(BaseWeightsError, match="weight_map"):
        weights_files(tmp_path)


def test_a_folder_without_weights_is_an_error_that_names_both_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"has neither model.safetensors nor {INDEX_FILE}"):
        load_base(str(tmp_path))


def test_a_base_of_the_hub_that_is_not_in_the_cache_is_an_error_without_a_network(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="no such model in the hub's cache; HF_HUB_OFFLINE is set"):
        load_base("an-owner/a-model")
    with pytest.raises(GoldLoadError, match="an-owner/a-model: there is no such folder"):
        load_gold(str(delta(shards, tmp_path, base="an-owner/a-model")), "cpu")


def test_a_base_in_the_hub_s_cache_is_known_by_its_id(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "hub" / "models--an-owner--a-model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir()
    shards.rename(snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    base = load_base("an-owner/a-model")

    assert (base.name, base.revision) == ("an-owner/a-model", weights_revision(snapshot))
    assert base_location("an-owner/a-model") == snapshot


@pytest.mark.parametrize("base", ["../moved", "/nowhere/base"])
def test_a_base_folder_that_was_moved_is_named_with_its_whole_path(
    base: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative to the folder of the delta, not to that in which the service starts."""
    gold = delta(shards, tmp_path, base=base)
    (tmp_path / "elsewhere" / "service").mkdir(parents=True)
    (tmp_path / "elsewhere" / "moved").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere" / "service")

    with pytest.raises(GoldLoadError, match=re.escape(f"there is no folder {gold / base}")):
        load_gold(str(gold), "cpu")


def test_an_empty_name_is_no_base(shards: Path, tmp_path: Path) -> None:
    """An empty path is the working directory."""
    with pytest.raises(BaseWeightsError, match="is empty"):
        base_location("")
    with pytest.raises(GoldLoadError, match="is empty"):
        load_gold(str(delta(shards, tmp_path, base="")), "cpu")


_LOADS = """
from reward_client.base_weights import BaseWeightsError, base_location
from reward_service.models.load_gold import GoldLoadError, load_gold
for load, expected in ((base_location, BaseWeightsError), (load_gold, GoldLoadError)):
    try:
        load("an-owner/a-model")
    except expected as exc:
        print(exc)
"""


class BrokenHub(BaseHTTPRequestHandler):
    """A hub with one model, whose downloads end before all bytes are there."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        for name, value in {"etag": '"1"', "x-repo-commit": "0" * 40, "content-length": "1000"}.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        file = {"type": "file", "path": "config.json", "rfilename": "config.json", "size": 1000, "oid": "1"}
        model = {"id": "an-owner/a-model", "sha": "0" * 40, "siblings": [file]}
        body = json.dumps([file] if "/tree/" in self.path else model)
        is_list = self.path.startswith("/api/")
        self.send_response(200)
        self.send_header("content-length", str(len(body)) if is_list else "1000")
        self.end_headers()
        self.wfile.write(body.encode() if is_list else b"{")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow  # the hub's library tries again for some seconds
def test_a_download_that_breaks_off_is_an_error_that_names_the_model(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BrokenHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", _LOADS], env=os.environ | variables, capture_output=True, text=True, check=False
        )
    finally:
        server.shutdown()
        server.server_close()

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("an-owner/a-model cannot be downloaded from the Hugging Face hub: ") == 2
