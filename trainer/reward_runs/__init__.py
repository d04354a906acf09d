"""What a training run leaves on disk, and how it is read: no torch, no OpenRLHF.

layout          RunDir: paths in a run directory, metrics.jsonl
files           atomic replacement of files, the lock of a directory, JSON lines
record          RunRecord: config.json, with its schema version; RunReader: all that a run left on disk
checkpoints     folders of Hugging Face checkpoints: their steps, whether they are complete
prompts         prompt files in any accepted form; `embedded_prompts` ships with the package
events          events.jsonl: evaluations, warnings and stops while a run trained
provenance      package versions, commit
errors          RunError and its subclasses, also of the trainer and the evaluation
"""

from reward_client import __version__ as __version__
