"""How do two recipes order the same responses, and which features make the difference?

recipe.py     a recipe as named on the command line: a name, or a file of parameters
judged.py     scores the rows by both, groups them by prompt
ranks.py      orders within a prompt: Kendall's τ-b, ranks, the best
movement.py   movement of each response in standard deviations, exactly by feature
figures.py    figures over prompts ── reward_client.intervals
report.py     the report and its JSON form ── build.py: makes it
table.py      the report for a terminal ── page.py, charts.py: as one HTML page
"""
