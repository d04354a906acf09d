"""`glassbox engineer`: a readable recipe that ranks the responses to a prompt as a gold reward does.

command        options ─▶ report
rows           input files ─▶ rows with gold scores
measure        rows ─▶ Table: features, gold, rewards of other recipes, through the service
pairs          ordered pairs of responses to one prompt
shapes         a feature's value ─▶ a factor; the candidates for a feature
design, path   forward selection of factors by the pairwise logistic likelihood
finish         powers and ends rounded to readable numbers, on the product itself
selection      nested cross-validation by prompt
ranking        rank correlation and pairwise accuracy by prompt, with intervals
findings       what each feature adds, curves, disagreement, calibration, hackability
recipe_file    the recipe as YAML, and as overrides of a request
result, page   engineer.json, engineer.html, the summary
"""
