"""Evaluation of a training run: from its checkpoints, or from recorded responses, to a report.

evaluate              the command `glassbox evaluate`
evaluation/
  source              what is evaluated: a run directory, a folder of checkpoints, a file of responses
  evaluation_run      one evaluation from start to end
  store               responses → rewards, by the reward service; one file per checkpoint
  evaluation          evaluation.json
sampling/
  samples             types: a sampled response, the settings and interface of a sampler
  policy_sampler      a checkpoint responds to the prompts                          (torch)
  generation          the sampling loop, also used by the trainer's CPU engine      (torch)
  recorded            responses read from a file
best_of_n/            the command `glassbox best-of-n`: recipes judged on the same samples, without training
statistics/
  summary             responses → figures; `monotonicity` has the statistics        (pure)
  kl                  KL divergence from the initial policy                         (torch)
  verdict             figures → sentences                                           (pure)
comparison/           evaluated runs side by side → comparison.json                 (pure, except `runs`)
report/               figures → report.html, comparison.html, plots/, …             (matplotlib)
study/                several recipes and seeds, each run a child process → a comparison
"""

from reward_client import __version__ as __version__
