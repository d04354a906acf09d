"""The gold model, served as the reward-model servers of other projects serve theirs, with raw logits.

vllm     /classify, /v1/classify, /pooling, /v1/models
sglang   /v1/embeddings; its /classify has the path of vLLM's
tei      /predict, /rerank

A text is scored as plain Transformers scores it: names of special tokens in it are those tokens. Messages, and
pairs of texts, are scored as `POST /score` scores a prompt and a response.
"""

from reward_service.protocols.reward_server import sglang, tei, vllm

PROTOCOLS = (*vllm.PROTOCOLS, *sglang.PROTOCOLS, *tei.PROTOCOLS)
