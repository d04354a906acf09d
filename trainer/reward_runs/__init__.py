"""What a training run leaves on disk, and how it is read: no torch, no OpenRLHF.

layout          paths in a run directory
files           atomic replacement of files, the lock of a directory, JSON lines
record          RunRecord: config.json, with its schema version
run_reader      RunReader: record, held-out prompts and checkpoints of one run
checkpoints     folders of Hugging Face checkpoints: their steps, whether they are complete
step_metrics    metrics.jsonl
prompts         prompt files in any accepted form; `embedded_prompts` ships with the package
provenance      package versions, commit
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("glassbox-reward")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"
