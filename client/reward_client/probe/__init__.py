"""What does a reward pay for? Gamed and wrong responses, scored beside good ones.

case.py       prompts with good answers, embedded or from a file
kinds/        worse responses to them, by kind
run.py        scores both, in batches ── scorers.py: the protocols
report.py     how often the worse one wins, by how much, which feature is to blame; its JSON form
table.py      the report for a terminal ── page.py: as one HTML page
texts.py      operations on text that the kinds share
"""
