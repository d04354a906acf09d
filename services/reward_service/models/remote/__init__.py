"""Gold models behind another server: vLLM, SGLang, Text Embeddings Inference, or a service like this one.

spec      a URL such as `vllm+http://host:8000?model=NAME`, and its options
inputs    what is sent for a conversation: messages, a pair of texts, one text, or token ids
formats   request bodies and replies of each kind of server
server    one call over HTTP: retries, time limit, size limit, errors
probe     scores at start: a server that returns probabilities, or mixes up texts, is refused
gold      RemoteGold, which the gold model's worker runs

Only the operator names a URL, in the setting `gold`. Redirects are not followed.
"""
