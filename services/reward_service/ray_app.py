"""The service as a Ray Serve application: each replica is an actor that runs the same app, scaled by load.

    serve run reward_service.ray_app:build max_replicas=4          serve deploy deploy/ray/serve.yaml

    Serve's HTTP proxy ──▶ replica 1..n, each `create_app(settings)` with separate models

A replica is a complete service: it batches the requests that it receives and shares no state with other replicas.
It reserves a share of a GPU for its encoder and its gold model, so that several replicas fit on one device. The
settings are read from GLASSBOX_…, except for `host` and `port`, which are Serve's; set them in `runtime_env` for
replicas on other nodes. Requires the extra `ray`.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve

from reward_service.app import create_app
from reward_service.errors import ModelError
from reward_service.http.app_state import AppState
from reward_service.models.remote.spec import is_remote
from reward_service.settings import NO_MODEL, Settings, environment_warnings

logger = logging.getLogger(__name__)


class RayArguments(BaseModel):
    """Arguments of the application: `args:` in the file for `serve deploy`, or NAME=VALUE after `serve run`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    min_replicas: Annotated[int, Field(ge=0)] = 1
    """Minimum number of replicas."""
    max_replicas: Annotated[int, Field(ge=1)] = 1
    """Maximum number of replicas."""
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 64
    """Concurrent requests per replica above which Serve starts more replicas. Batches are formed from queued
    requests, so a low value makes them small."""
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 1024
    """Maximum concurrent requests of one replica; Serve's proxy queues further ones, because OpenRLHF's
    client does not survive a refusal."""
    cpus: Annotated[float, Field(ge=0)] = 1
    """CPUs that Ray reserves for a replica; `GLASSBOX_THREADS` sets the threads of its models."""
    encoder_gpus: Annotated[float, Field(ge=0)] = 0
    """Share of a GPU that Ray reserves for the encoder of a replica; GPU memory is not limited by it."""
    gold_gpus: Annotated[float, Field(ge=0)] = 0
    """Share of a GPU that Ray reserves for each gold model of a replica."""

    @model_validator(mode="after")
    def _replicas_in_order(self) -> RayArguments:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}")
        return self


def deployment_options(arguments: RayArguments, settings: Settings) -> dict[str, Any]:
    """Options of the Serve deployment; a disabled or remote model reserves no share of a GPU."""
    n_golds = sum(not is_remote(gold) for gold in settings.golds)
    gpus = (arguments.encoder_gpus if settings.encoder != NO_MODEL else 0) + n_golds * arguments.gold_gpus
    return {
        "autoscaling_config": {
            "min_replicas": arguments.min_replicas,
            "max_replicas": arguments.max_replicas,
            "target_ongoing_requests": arguments.target_ongoing_requests,
        },
        "max_ongoing_requests": arguments.max_ongoing_requests,
        "ray_actor_options": {"num_cpus": arguments.cpus, "num_gpus": gpus},
        # A drain takes at most stop_timeout_s; Serve kills a replica that needs longer than this timeout.
        "graceful_shutdown_timeout_s": float(settings.stop_timeout_s + 10),
    }


def replica_app() -> FastAPI:
    """Create the application in the replica, with its settings and models.

    Serve's proxies listen where the cluster's configuration says, whatever the setting `host` is, so without an
    API key the replica starts only with `allow_anonymous`.

    Raises:
        ConfigurationError: neither a key nor `allow_anonymous` is set.
    """
    return create_app(Settings(host="0.0.0.0"))  # noqa: S104


@serve.deployment(name="Glassbox")
@serve.ingress(replica_app)
class GlassboxReplica:
    """One replica, which serves the routes of the app."""

    app: FastAPI  # set by `serve.ingress`
    _was_loaded = False

    async def check_health(self) -> None:
        """Health check that Serve runs before the first request and then every ten seconds.

        Any error makes Serve replace the replica. The check passes while a hung model is loaded again.

        Raises:
            NotReadyError: a model could not be loaded.
            ModelError: a model failed permanently.
        """
        state: AppState = self.app.state.glassbox
        if not self._was_loaded:
            await state.loaded()
            self._was_loaded = True
        if state.is_broken:
            raise ModelError("a model of this replica failed permanently: the replica must be replaced")


def build(arguments: RayArguments) -> serve.Application:
    """Build the application for `serve run` and `serve deploy`."""
    for warning in environment_warnings():
        logger.warning(warning)
    settings = Settings()
    if arguments.max_replicas > 1 and settings.datasets_dir is None:
        logger.warning(
            "an uploaded data set reaches one of %d replicas; set GLASSBOX_DATASETS_DIR to a folder they share",
            arguments.max_replicas,
        )
    deployment: serve.Deployment = GlassboxReplica
    application: serve.Application = deployment.options(**deployment_options(arguments, settings)).bind()
    return application
