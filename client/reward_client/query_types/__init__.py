"""Query type of a prompt, by a small readable model in pure Python. The service and `glassbox annotate` use it.

cues.py         text of a prompt ─▶ names of its features: words, pairs of them, cues such as `creative_noun`
classifier.py   features ─▶ query type and confidence, by the weights in model.json (MODEL_CARD.md)

`python -m tools.query_types` in a checkout fits the weights again.
"""
