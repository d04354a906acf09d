"""Servers of a tiny reward model in the shapes of vLLM, SGLang and Text Embeddings Inference.

Written from their documentation and request classes as of autumn 2026, not the servers themselves: fields that a
version does not know are ignored, as vLLM ignores them, and a classifier's scores go through a sigmoid unless the
request asks for logits.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from reward_client.wire import ChatMessage
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import Exchange, Tokens
from tests.json_server import Received

Answer = Callable[[Received], tuple[int, Any]]


class TinyModel:
    """The model in `folder`, for several threads."""

    def __init__(self, folder: Path) -> None:
        self._gold = load_gold(str(folder), "cpu")
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._lock = threading.Lock()

    def of_messages(self, messages: Sequence[dict[str, str]]) -> float:
        turns = [ChatMessage.model_validate(message) for message in messages]
        return self._score(self._gold.tokenize(Exchange(tuple(turns[:-1]), turns[-1].content)))

    def of_pair(self, prompt: str, response: str) -> float:
        return self.of_messages([{"role": "user", "content": prompt}, {"role": "assistant", "content": response}])

    def of_text(self, text: str, *, special: bool = True) -> float:
        return self.of_ids(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def of_ids(self, ids: Sequence[int]) -> float:
        return self._score(Tokens(ids))

    def _score(self, tokens: Tokens) -> float:
        with self._lock:
            return self._gold.score([tokens])[0]


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def vllm(model: TinyModel, knows: Sequence[str] = ("use_activation",), *, softmax: bool = False) -> Answer:
    """`POST /classify` and `/pooling` of a version that knows these request fields."""

    def answer(request: Received) -> tuple[int, Any]:
        if request.method == "GET":
            models = [{"id": "tiny", "max_model_len": 256}]
            return (200, {"data": models}) if request.path == "/v1/models" else (404, {})
        body = request.json()
        if body.get("model", "tiny") != "tiny":
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}
        if "messages" in body:
            logits = [model.of_messages(body["messages"])]
        else:
            logits = [_of_input(model, one, body) for one in body["input"]]
        known = [body[name] for name in knows if body.get(name) is not None]
        if not known or known[0]:
            logits = [1.0 if softmax else sigmoid(logit) for logit in logits]
        if request.path == "/pooling":
            data = [{"index": i, "object": "pooling", "data": [logit]} for i, logit in enumerate(logits)]
        else:
            data = [
                {"index": i, "label": "LABEL_0", "probs": [logit], "num_classes": 1}
                for i, logit in enumerate(logits)
            ]
        return 200, {"id": "x", "object": "list", "model": "tiny", "data": data}

    return answer


def _of_input(model: TinyModel, one: Any, body: dict[str, Any]) -> float:
    return (
        model.of_ids(one)
        if isinstance(one, list)
        else model.of_text(one, special=body.get("add_special_tokens", True))
    )


def sglang(model: TinyModel) -> Answer:
    """The native `POST /classify`."""

    def answer(request: Received) -> tuple[int, Any]:
        if request.path != "/classify":
            return 404, {"detail": "Not Found"}
        body = request.json()
        inputs = body.get("input_ids") or body["text"]
        logits = [model.of_ids(one) if isinstance(one, list) else model.of_text(one) for one in inputs]
        return 200, [{"embedding": [logit], "meta_info": {"id": "x", "prompt_tokens": 1}} for logit in logits]

    return answer


def tei(model: TinyModel) -> Answer:
    """`POST /predict` and `GET /info`."""

    def answer(request: Received) -> tuple[int, Any]:
        if request.path == "/info":
            return 200, {"model_id": "tiny", "model_sha": "abc", "max_input_length": 256}
        body = request.json()
        logits = [model.of_pair(*one) if len(one) > 1 else model.of_text(one[0]) for one in body["inputs"]]
        values = logits if body.get("raw_scores") else [sigmoid(logit) for logit in logits]
        return 200, [[{"score": value, "label": "LABEL_0"}] for value in values]

    return answer
