"""The service as a Ray Serve application: the same app, a replica an actor, as many as the load needs.

    serve run reward_service.ray_app:build max_replicas=4          serve deploy deploy/ray/serve.yaml

    Serve's HTTP proxy ──▶ replica 1..n, each `create_app(settings)` with models of its own

A replica is a whole service: it batches across its own requests and shares nothing. Each takes the share of a GPU
that its encoder and its gold model are given, so that several fit one device. Settings come from GLASSBOX_… as
everywhere; for replicas on other nodes they stand in `runtime_env`. Needs the extra `ray`.
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
from reward_service.settings import NO_MODEL, Settings, environment_warnings

__all__ = ["RayArguments", "build", "deployment_options"]

logger = logging.getLogger(__name__)


class RayArguments(BaseModel):
    """Arguments of the application: `args:` in the file for `serve deploy`, or NAME=VALUE after `serve run`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    min_replicas: Annotated[int, Field(ge=0)] = 1
    """Replicas that are always there."""
    max_replicas: Annotated[int, Field(ge=1)] = 1
    """Replicas at most."""
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 64
    """Requests a replica should have at a time; above it more replicas start. A batch is made of what waits, so
    fewer are not better."""
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 1024
    """Requests given to one replica; further ones wait in Serve's proxy, as OpenRLHF's client needs it."""
    cpus: Annotated[float, Field(ge=0)] = 1
    """CPUs of a replica, for Ray's bookkeeping; its models' own are `GLASSBOX_THREADS`."""
    encoder_gpus: Annotated[float, Field(ge=0)] = 0
    """Share of a GPU that the encoder of a replica takes; Ray reserves it, memory is not enforced."""
    gold_gpus: Annotated[float, Field(ge=0)] = 0
    """Share of a GPU that the gold model of a replica takes."""

    @model_validator(mode="after")
    def _replicas_in_order(self) -> RayArguments:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}")
        return self


def deployment_options(arguments: RayArguments, settings: Settings) -> dict[str, Any]:
    """What Serve is told about a replica: a model that is switched off takes no share of a GPU."""
    gpus = (arguments.encoder_gpus if settings.encoder != NO_MODEL else 0) + (
        arguments.gold_gpus if settings.gold != NO_MODEL else 0
    )
    return {
        "autoscaling_config": {
            "min_replicas": arguments.min_replicas,
            "max_replicas": arguments.max_replicas,
            "target_ongoing_requests": arguments.target_ongoing_requests,
        },
        "max_ongoing_requests": arguments.max_ongoing_requests,
        "ray_actor_options": {"num_cpus": arguments.cpus, "num_gpus": gpus},
        # A drain takes at most stop_timeout_s; Serve kills a replica that takes longer.
        "graceful_shutdown_timeout_s": float(settings.stop_timeout_s + 10),
    }


def _app() -> FastAPI:
    """The application, made in the replica: models and settings are the replica's own.

    Serve's proxy listens where `settings` cannot see, so that a key is needed as on any address that others reach.
    """
    settings = Settings()
    shared = settings if "host" in settings.model_fields_set else settings.model_copy(update={"host": "0.0.0.0"})  # noqa: S104
    return create_app(shared)


@serve.deployment(name="Glassbox")
@serve.ingress(_app)
class GlassboxReplica:
    """One replica; routes, models and limits are those of the app."""

    app: FastAPI  # put there by `serve.ingress`
    _was_loaded = False

    async def check_health(self) -> None:
        """What Serve asks before it sends the first request, and then every ten seconds.

        Raises, so that Serve starts another: NotReadyError, when a model cannot be loaded; ModelError, when
        one is gone for good. A model that is loaded anew after it hung is no reason.
        """
        state: AppState = self.app.state.glassbox
        if not self._was_loaded:
            await state.loaded()
            self._was_loaded = True
        if state.is_broken:
            raise ModelError("a model of this replica is gone; only another replica can help")


def build(arguments: RayArguments) -> serve.Application:
    """The application for `serve run` and `serve deploy`."""
    for warning in environment_warnings():
        logger.warning(warning)
    deployment: serve.Deployment = GlassboxReplica
    application: serve.Application = deployment.options(**deployment_options(arguments, Settings())).bind()
    return application
