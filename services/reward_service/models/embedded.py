"""The embedded encoder's package, read without Transformers: its weights, and its tokenizer.

The embedded models, and gold models that are fitted on the embedded encoder, start from these on a CPU. Importing
torch and Transformers for them would take most of the time until the service is ready.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from reward_client.embedded_models import MINILM, WEIGHTS_FILE, embedded_folder
from reward_service.models.bert import Bert

_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}


def embedded_bert() -> Bert:
    """Weights and `config.json` of the package. The weights are mapped: all models on them share their memory."""
    folder = embedded_folder(MINILM)
    return Bert(_mapped(folder / WEIGHTS_FILE), json.loads((folder / "config.json").read_text(encoding="utf-8")))


def _mapped(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors in fp32 of a safetensors file: https://github.com/huggingface/safetensors#format."""
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(n_header))
    data = np.memmap(path, np.uint8, "c", offset=8 + n_header)  # OpenVINO takes no array that is read-only
    return {
        name: data[slice(*entry["data_offsets"])].view(np.float32).reshape(entry["shape"])
        for name, entry in header.items()
        if entry.get("dtype") == "F32"
    }


class EmbeddedTokenizer:
    """The package's tokenizer, with the names of Transformers that this service uses; the same tokens."""

    def __init__(self) -> None:
        self.backend_tokenizer = words = Tokenizer.from_file(str(embedded_folder(MINILM) / "tokenizer.json"))
        words.no_truncation()
        words.no_padding()
        ids = {name: words.token_to_id(token) for name, token in _SPECIAL.items()}
        self.pad_token_id, self.unk_token_id = ids["pad"], ids["unk"]
        self.cls_token_id, self.sep_token_id = ids["cls"], ids["sep"]
        self.added_tokens_decoder = words.get_added_tokens_decoder()
        self.all_special_tokens = list(_SPECIAL.values())

    def __call__(
        self, texts: str | Sequence[str], *, add_special_tokens: bool, **_: Any
    ) -> Mapping[str, list[int] | list[list[int]]]:
        """`input_ids` of a text or of several."""
        parts = [texts] if isinstance(texts, str) else list(texts)
        found = self.backend_tokenizer.encode_batch(parts, add_special_tokens=add_special_tokens)
        ids = [words.ids for words in found]
        return {"input_ids": ids[0] if isinstance(texts, str) else ids}
