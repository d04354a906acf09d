"""Every setting and limit of the service, with its unit and reason, and the reading of the environment.

A field is also a variable `GLASSBOX_<NAME>` and, where `--help` lists it, an option on the command line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from reward_service.environment import read_environment

__all__ = ["EMBEDDED_ENCODER", "NO_MODEL", "Settings", "environment_warnings"]

EMBEDDED_ENCODER = "all-MiniLM-L6-v2"
"""The encoder that ships as a Python package, so that no hub is needed."""

NO_MODEL = "none"
"""Value of `encoder` or `gold` that switches the model off."""


class Settings(BaseModel):
    """Settings of one service; `Settings()` reads the environment, arguments take precedence.

    Raises:
        ConfigurationError: the environment has a variable with our prefix that no part of the project reads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _with_environment(cls, given: dict[str, Any]) -> dict[str, Any]:
        return read_environment(os.environ, cls.model_fields).values | given

    host: str = "127.0.0.1"
    """Address to listen on. Any other than loopback needs an API key, or `allow_anonymous`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port; 0 takes a free one and prints it."""
    encoder: str = EMBEDDED_ENCODER
    """Relevance encoder: the embedded one, a Hugging Face id (`facebook/contriever`), a folder, or `none`."""
    gold: str = "demo-gold"
    """Gold reward model: the embedded demo model, a Hugging Face id, a folder, or `none`."""
    default_recipe: str = "rer"
    """Recipe of requests that name none."""
    recipes_dir: Path | None = None
    """Folder with recipes of your own (`NAME.yaml`); a name given there wins."""
    device: str | None = None
    """Torch device of the models; CUDA when there is one, else the CPU."""
    backend: Literal["auto", "openvino", "torch"] = "auto"
    """What runs the encoder: on a CPU OpenVINO is the faster one, with the same numbers; `auto` takes it."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of the encoder; only fp32 keeps parity with the reference (docs/performance.md)."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of each model; all cores when unset. Lower it where a trainer shares them."""

    api_keys_file: Path | None = None
    """File of API keys, one a line, `#` for comments; read again when it changes: no restart to rotate keys."""
    api_key: SecretStr | None = None
    """One API key; only in the environment, because a command line can be read by everybody on the machine."""
    allow_anonymous: bool = False
    """Serve whoever can reach an address that is not loopback, without an API key."""

    max_body_bytes: Annotated[int, Field(ge=1)] = 32 * 1024 * 1024
    """Bytes of one request body: bounds what parsing can cost before anything is known about the caller."""
    max_items: Annotated[int, Field(ge=1)] = 4096
    """Items of one request: larger batches gain nothing, and keep others waiting."""
    max_text_chars: Annotated[int, Field(ge=1)] = 200_000
    """Characters of one text: the encoder reads its last 512 tokens, but words are counted in all of it."""
    max_waiting_items: Annotated[int, Field(ge=1)] = 65_536
    """Texts waiting for one model, beyond which new requests are told to come back: bounds their memory."""
    max_waiting_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds of work waiting for one model, beyond which new requests are told to come back: requests take turns,
    so one of ordinary size takes up to twice as long, a large one longer, and `request_timeout_s` is for all."""
    max_batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Padded tokens (longest × count) of one forward pass; each model's own measured choice when unset."""
    max_batch_items: Annotated[int, Field(ge=1)] | None = None
    """Items of one forward pass; each model's own measured choice when unset."""
    batch_timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds after which a forward pass counts as hung, its callers are told, and the model is loaded anew."""
    max_model_restarts: Annotated[int, Field(ge=0)] = 3
    """Times that a hung model is loaded anew; each leaves a stuck thread behind, so it is bounded."""
    cache_bytes: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    """Bytes of vectors kept: the prompt and the reference of a group of samples are encoded once. 0 keeps none."""
    max_waiting_bytes: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    """Bytes of all bodies that are being read or answered at a time: bounds the memory that callers can take."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds in which a body must have arrived: a caller that trickles keeps memory from others."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 170.0
    """Seconds from receipt in which a request is answered; just under the 180 s after which clients hang up."""
    max_hold_s: Annotated[float, Field(ge=0)] = 150.0
    """Seconds that requests are held, at most, whose clients do not survive a refusal (see api/patience.py)."""
    idempotency_ttl_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds that the reply to an Idempotency-Key is kept: longer than clients try again."""
    idempotency_entries: Annotated[int, Field(ge=1)] = 10_000
    """IdempotencyCache kept under an Idempotency-Key; the oldest go first."""
    idempotency_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    """Bytes of those replies together."""
    ready_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds within which the forward pass behind `GET /readyz` must be done."""
    supervise: bool = True
    """A parent process holds the socket and starts the service anew when it dies, so that nobody is refused."""
    stop_timeout_s: Annotated[int, Field(ge=0)] = 20
    """Seconds that requests in flight have to finish when the service is told to stop."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged; request bodies never are."""


def environment_warnings() -> list[str]:
    """What to log at start about the environment: variables that are called by their former names."""
    return read_environment(os.environ, Settings.model_fields).warnings
