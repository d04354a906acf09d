"""`python -m reward_client.doctor.render TOKENIZER`: conversations as a tokenizer of Transformers renders them.

It runs in a separate process, which can be stopped: Transformers takes seconds to import, and may load from a
hub. Code in a model's folder is not run. Prints one JSON object.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

CONVERSATIONS: dict[str, list[dict[str, str]]] = {
    "one question": [{"role": "user", "content": "Why is the sky blue?"}],
    "with a system message": [
        {"role": "system", "content": "Answer in one sentence."},
        {"role": "user", "content": "Why is the sky blue?"},
    ],
    "several turns": [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "It is Paris."},
        {"role": "user", "content": "Why is the sky blue?"},
    ],
}
RESPONSE = "Air scatters blue light more than red light."


def main(name: str) -> None:
    """Print the rendered conversations, or the error."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.disable(logging.WARNING)
    try:
        found = _rendered(name)
    except Exception as exc:  # noqa: BLE001 - whatever a tokenizer raises is the result of the check
        found = {"error": f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}"}
    sys.stdout.write(json.dumps(found) + "\n")


def _rendered(name: str) -> dict[str, Any]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if not getattr(tokenizer, "chat_template", None):
        return {"template": False, "conversations": {}}
    conversations: dict[str, Any] = {}
    for title, messages in CONVERSATIONS.items():
        try:
            prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as exc:  # noqa: BLE001 - a template may refuse a role
            conversations[title] = {"error": f"{type(exc).__name__}: {exc}"}
            continue
        ids = tokenizer(prompt + RESPONSE, add_special_tokens=False)["input_ids"]
        query = tokenizer.decode([*ids, tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else ids)
        conversations[title] = {"prompt": prompt, "query": query, "messages": messages, "response": RESPONSE}
    return {"template": True, "end": tokenizer.eos_token, "conversations": conversations}


if __name__ == "__main__":
    main(sys.argv[1])
