"""A gold model served without batching: one text per post, one forward pass per post, in the event loop.

It does the same as OpenRLHF's `serve_rm`, without OpenRLHF's packages.
    python -m tools.gpu_check.one_at_a_time FOLDER DEVICE PORT
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MAX_TOKENS = 4096


def create_app(folder: str, device: str) -> FastAPI:
    """POST /get_reward {"query": [text]} → {"rewards": [score]}."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    app = FastAPI()

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/get_reward")
    async def get_reward(request: Request) -> dict[str, list[float]]:
        asked = await request.json()
        cut = {"truncation": True, "max_length": MAX_TOKENS}
        inputs = tokenizer(asked["query"], add_special_tokens=False, return_tensors="pt", **cut)
        ids, mask = (inputs[name].to(device) for name in ("input_ids", "attention_mask"))
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits
        return {"rewards": logits[:, 0].float().cpu().tolist()}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1], sys.argv[2]), port=int(sys.argv[3]), log_level="warning")
