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
    """Address to listen on. Addresses other than loopback need an API key, or `allow_anonymous`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port; 0 takes a free one and prints it."""
    encoder: str = EMBEDDED_ENCODER
    """Relevance encoder: the embedded one, a Hugging Face id (`facebook/contriever`), a folder, or `none`."""
    gold: str = "demo-gold"
    """Gold reward model: the embedded demo model, a Hugging Face id, a folder, or `none`."""
    default_recipe: str = "rer"
    """Recipe of requests that do not name one."""
    recipes_dir: Path | None = None
    """Folder with custom recipes (`NAME.yaml`); they take precedence over the embedded ones."""
    device: str | None = None
    """Torch device of the models; CUDA if available, otherwise the CPU."""
    backend: Literal["auto", "openvino", "torch"] = "auto"
    """Runtime of the encoder. `auto` is OpenVINO on a CPU, where it is faster and gives the same numbers."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of the encoder; only fp32 keeps parity with the reference (docs/performance.md)."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of each model; all cores when unset. Lower it if a trainer uses the same machine."""

    api_keys_file: Path | None = None
    """File of API keys, one per line, `#` for comments. Read again when it changes: no restart to rotate keys."""
    api_key: SecretStr | None = None
    """One API key; only in the environment, because other users of the machine can read a command line."""
    allow_anonymous: bool = False
    """Serve without authentication on an address that other machines can reach."""

    max_body_bytes: Annotated[int, Field(ge=1)] = 32 * 1024 * 1024
    """Bytes of one request body: limits the cost of parsing."""
    max_items: Annotated[int, Field(ge=1)] = 4096
    """Items of one request: larger batches are not faster, and delay other requests."""
    max_text_chars: Annotated[int, Field(ge=1)] = 200_000
    """Characters of one text: the encoder reads its last 512 tokens, but words are counted in all of it."""
    max_waiting_items: Annotated[int, Field(ge=1)] = 65_536
    """Texts in the queue of one model, above which new requests are refused or held: limits memory."""
    max_waiting_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds of work in the queue of one model, above which new requests are refused or held. Requests take
    turns, so that one of ordinary size takes up to twice as long; `request_timeout_s` limits all of them."""
    max_batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Padded tokens (longest × count) of one forward pass; each model's own measured choice when unset."""
    max_batch_items: Annotated[int, Field(ge=1)] | None = None
    """Items of one forward pass; each model's own measured choice when unset."""
    batch_timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds after which a forward pass counts as hung: its requests fail and the model is reloaded."""
    max_model_restarts: Annotated[int, Field(ge=0)] = 3
    """Reloads of hung models; limited, because each leaves a stuck thread behind."""
    cache_bytes: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    """Bytes of cached vectors: prompt and reference of a group of samples are encoded once. 0 disables it."""
    max_waiting_bytes: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    """Bytes of all bodies that are being read or answered: limits the memory that requests can occupy."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds in which a body must arrive: a slow upload occupies memory that other requests need."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 170.0
    """Seconds from receipt in which a request is answered; just below the 180 s timeout of common clients."""
    max_hold_s: Annotated[float, Field(ge=0)] = 150.0
    """Maximum seconds that a request is held for a protocol whose clients do not retry (`ProtocolSpec.hold_s`)."""
    idempotency_ttl_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds that the reply to an Idempotency-Key is kept: longer than clients retry."""
    idempotency_entries: Annotated[int, Field(ge=1)] = 10_000
    """Replies kept for idempotency; the least recently used are dropped first."""
    idempotency_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    """Bytes of these replies together."""
    ready_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Timeout of the forward pass of `GET /readyz`, in seconds."""
    supervise: bool = True
    """Run under a parent process that holds the socket and restarts the service when it exits, so that connections
    wait instead of being refused."""
    stop_timeout_s: Annotated[int, Field(ge=0)] = 20
    """Seconds that requests in flight have to finish at shutdown."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Log level. Request bodies are never logged."""


def environment_warnings() -> list[str]:
    """What to log at start about the environment: variables that are called by their former names."""
    return read_environment(os.environ, Settings.model_fields).warnings
