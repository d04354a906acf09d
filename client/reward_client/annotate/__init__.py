"""`glassbox annotate`: query types for a file of prompts.

rows.py        rows of the input, each with its prompt and the label that it may have already
annotators.py  where a label comes from: the embedded classifier ── endpoint.py: an OpenAI-compatible endpoint
run.py         annotates the rows, several at a time, in the order of the input
summary.py     counts for the end ── score_output.py writes the table or the lines
"""
