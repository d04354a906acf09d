"""Figures of evaluated checkpoints as scalars: TensorBoard, Weights & Biases, MLflow.

OpenRLHF logs the training in its own processes, so the evaluations are a separate run beside it, NAME-eval.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from reward_evidence.statistics.summary import CheckpointFigures
from reward_runs.layout import RunDir
from reward_trainer.config import Config


def scalars(checkpoint: CheckpointFigures) -> dict[str, float]:
    """The figures of one checkpoint by tag: means over the held-out prompts, and shares of the responses."""
    named = {
        "proxy_reward": checkpoint.proxy_reward,
        "gold_reward": checkpoint.gold_reward,
        "words": checkpoint.n_words,
        "tokens": checkpoint.n_tokens,
        "kl": checkpoint.kl,
        **{f"feature/{name}": mean for name, mean in checkpoint.features.items()},
    }
    found = {f"eval/{name}": mean.mean for name, mean in named.items() if mean is not None}
    shares = {"eval/truncated": checkpoint.truncated, "eval/empty": checkpoint.empty}
    return found | {name: share for name, share in shares.items() if share is not None}


class Tracker(Protocol):
    """Somewhere that scalars are logged to."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of a step."""
        ...

    def close(self) -> None:
        """Write what is buffered."""
        ...


class TensorBoard:
    """Event files in `folder`."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary import Writer  # needs neither torch nor TensorFlow

        self._writer = Writer(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log, and write at once: a reader looks while the run trains."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run in `project`, in the group of the training run; WANDB_MODE=offline needs no network."""

    def __init__(self, project: str, run: RunDir) -> None:
        import wandb

        self._run = wandb.init(project=project, name=f"{run.name}-eval", group=run.name, dir=str(run.path))
        self._run.define_metric("eval/step")
        self._run.define_metric("eval/*", step_metric="eval/step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values against the training step."""
        self._run.log({**values, "eval/step": step})

    def close(self) -> None:
        """End the run."""
        self._run.finish()


class MLflow:
    """A run in `experiment`, at MLFLOW_TRACKING_URI or in mlflow.db and mlruns/ beside the run directory."""

    def __init__(self, experiment: str, run: RunDir, environ: Mapping[str, str]) -> None:
        from mlflow.tracking import MlflowClient

        uri = environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.path.parent / 'mlflow.db'}"
        self._client: Any = MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(experiment)
        identity = found.experiment_id if found else self._client.create_experiment(experiment)
        self._id = self._client.create_run(identity, run_name=f"{run.name}-eval").info.run_id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of a step."""
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)


class Tracking:
    """All trackers of a run, opened with the first values."""

    def __init__(self, config: Config, run: RunDir, environ: Mapping[str, str]) -> None:
        project, experiment = config.wandb_project, config.mlflow_experiment
        folder = Path(config.tensorboard_dir) if config.tensorboard_dir else run.tensorboard
        self._closed: dict[str, Callable[[], Tracker]] = {
            "TensorBoard": lambda: TensorBoard(folder / f"{run.name}-eval")
        }
        """Trackers that are opened with the first values, by name."""
        if project is not None:
            self._closed["Weights & Biases"] = lambda: WeightsAndBiases(project, run)
        if experiment is not None:
            self._closed["MLflow"] = lambda: MLflow(experiment, run, environ)
        self._opened: dict[str, Tracker] = {}

    def log(self, step: int, values: Mapping[str, float]) -> list[str]:
        """Log to each tracker; return what failed. A tracker that failed is not used again."""
        problems = []
        for name in [*self._closed, *self._opened]:
            try:
                if open_tracker := self._closed.pop(name, None):
                    self._opened[name] = open_tracker()
                self._opened[name].log(step, values)
            except Exception as exc:  # noqa: BLE001 - the errors of three libraries; none may end a training
                self._opened.pop(name, None)
                problems.append(f"{name} does not receive the evaluations: {type(exc).__name__}: {exc}")
        return problems

    def close(self) -> list[str]:
        """Close each tracker; return what failed."""
        problems = []
        for name, tracker in self._opened.items():
            try:
                tracker.close()
            except Exception as exc:  # noqa: BLE001 - the training is finished, and is not a failure
                problems.append(f"{name} was not closed: {type(exc).__name__}: {exc}")
        self._opened.clear()
        return problems
