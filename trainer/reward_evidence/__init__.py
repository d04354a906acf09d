"""The evidence of one run: from its checkpoints to a report.

    run_folder   what a run left behind: settings, held-out prompts, checkpoints
    session      one evaluation from start to end
      └▶ samples       what an answer is, and how it is drawn
           └▶ responses   each checkpoint answers the held-out prompts     (torch)
                └▶ divergence  how far it has moved from the start         (torch)
      └▶ scoring     the reward service scores the answers                 (HTTP)
      └▶ records     what was measured, on disk, a file a checkpoint
    evaluation   evaluation.json
      └▶ summary     records → figures       (pure; its statistics: `statistics.monotonicity`)
      └▶ verdict     figures → sentences     (pure)
    panels       figures → what to sample      (pure)
      └▶ plots       drawn                   (matplotlib)
    excerpts     records → which responses a report shows
    alpaca_eval  records → AlpacaEval's format

The commands around it are `python -m reward_evidence.evaluate` and `python -m reward_evidence.report`.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("glassbox-reward")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"
