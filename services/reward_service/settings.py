"""Settings and limits of the service, each with its unit and reason.

Each field is also an environment variable `GLASSBOX_<NAME>` and, except the keys, a command line option.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_validator,
)

from reward_client.embedded_models import MINILM
from reward_client.wire import MAX_LIST, MAX_REFERENCES, LimitsInfo
from reward_client.wire.api_key import key_problem
from reward_client.wire.requests import MAX_MESSAGES
from reward_service.environment import SECRET_SETTINGS, empty_value, read_environment, wrong_value
from reward_service.errors import ConfigurationError

EMBEDDED_ENCODER = MINILM
"""Encoder that is installed as a Python package, so that no model hub is needed."""

DEMO_GOLD = "demo-gold"
SMOLLM2_GOLD = "demo-gold-smollm2"
EMBEDDED_GOLDS = (DEMO_GOLD, SMOLLM2_GOLD)
"""Gold models that are part of this package: on the embedded encoder, and, slower, on the embedded policy."""

NO_MODEL = "none"
"""Value of `encoder` or `gold` that disables the model."""


MAX_REQUEST_SENTENCES = 65_536
"""Sentences that are embedded for one request; its memory is estimated from its body, which has few strings."""
MAX_METRIC_FIELDS = 20_000
"""Fields of all tasks, and of all responses, of which NeMo-Gym gets statistics: five numbers each in the reply."""


class Settings(BaseModel):
    """Settings of one service. `Settings()` reads the environment; arguments take precedence.

    Raises:
        ConfigurationError: the environment has an unknown variable with the prefix of the project, a value is
            empty, or the API key has quotation marks or white space around it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="wrap")
    @classmethod
    def _with_environment(cls, given: dict[str, Any], validate: ModelWrapValidatorHandler[Self]) -> Self:
        for name, value in given.items():
            if isinstance(value, str) and not value.strip():
                raise ConfigurationError(empty_value(f"--{name.replace('_', '-')}", name))
        values = read_environment(os.environ, cls.model_fields).values | given
        for name in SECRET_SETTINGS:
            if isinstance(key := values.get(name), str) and (problem := key_problem(key)):
                raise ConfigurationError(f"GLASSBOX_{name.upper()} {problem}")
        try:
            made = validate(values)
        except ValidationError as exc:
            raise ConfigurationError("\n".join(map(wrong_value, exc.errors()))) from None
        _check_golds(made)
        return made

    @property
    def golds(self) -> list[str]:
        """The gold models that `gold` names, the primary one first; empty for none."""
        if self.gold == NO_MODEL:
            return []
        return sorted(_separated(self.gold), key=lambda one: one != self.primary_gold)  # stable

    @property
    def limits(self) -> LimitsInfo:
        """What `GET /info` tells about the size of requests."""
        others = {
            "max_request_chars": self.max_body_bytes,
            "max_list_elements": MAX_LIST,
            "max_request_sentences": MAX_REQUEST_SENTENCES,
            "max_metric_fields": MAX_METRIC_FIELDS,
        }
        return LimitsInfo.model_validate(self.model_dump(include=set(LimitsInfo.model_fields)) | others)

    host: str = "127.0.0.1"
    """Address to listen on. An address other than loopback requires an API key or `allow_anonymous`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port; 0 selects a free one and prints it."""
    encoder: str = EMBEDDED_ENCODER
    """Relevance encoder: the embedded one, a Hugging Face id (`facebook/contriever`), a folder, or `none`."""
    gold: str = DEMO_GOLD
    """Gold reward model: the embedded demo model, a Hugging Face id, a folder, a server
    (`vllm+http://host:8000?model=NAME`, `sglang+…`, `tei+…`, `glassbox+…`), or `none`. Several, separated by
    commas: one is the primary gold model, and the others are reported beside it. A comma in the name of a folder
    that exists separates nothing."""
    primary_gold: str | None = None
    """Which of several gold models is the primary one, as `gold` names it; when unset, the first."""
    gold_api_key: SecretStr | None = None
    """API key that the server of a remote gold model requires; only in the environment."""
    gold_in_flight: Annotated[int, Field(ge=1, le=1024)] = 8
    """Requests to the server of a remote gold model at a time, and connections that are kept open."""
    gold_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds in which the server of a remote gold model must answer a request, all attempts together; the request
    of the caller has its own limit."""
    default_recipe: str = "glassbox"
    """Recipe of requests without one."""
    recipes_dir: Path | None = None
    """Folder with custom recipes (`NAME.yaml`); they take precedence over packaged ones with the same name."""
    query_type_source: Literal["request", "classifier"] = "request"
    """Query type of items that have a reference, but no query type and no default in the request or the recipe:
    an error, or the guess of the embedded classifier, with the flag `query_type_by_classifier`."""
    device: str | None = None
    """Torch device of the models; when unset, CUDA if available, otherwise the CPU."""
    backend: Literal["auto", "openvino", "torch"] = "auto"
    """Library that runs the encoder and gold models fitted on the embedded one; `auto` selects OpenVINO on a CPU,
    which is faster with the same results."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of the encoder; only fp32 has parity with the reference implementation."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of each model; all cores when unset. Lower it where a trainer shares the cores."""

    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """TCP port on `host` that serves the metrics alone, from a thread and without an API key, for scrapers that
    send none. Let only the scraper reach it. When unset, only `GET /metrics` has them, which needs a key."""
    metrics_runs: Annotated[int, Field(ge=0, le=1000)] = 30
    """Pairs of a training run and a recipe that the metrics count under their names; one without items for an hour
    makes room for another, and the others count together. Bounds the series; 0 keeps names out of the metrics."""

    api_keys_file: Path | None = None
    """File of API keys, one per line, `#` for comments; reloaded when it changes: no restart to rotate keys."""
    api_key: SecretStr | None = None
    """One API key; only in the environment, because other users of the machine can read command lines."""
    allow_anonymous: bool = False
    """Serve on an address other than loopback without an API key."""

    allowed_hosts: str | None = None
    """Names, separated by commas, that the `Host` of a request may have. When unset, any name; without an API key
    on loopback, only loopback names, because a web page can make a browser resolve its own name to 127.0.0.1."""
    root_path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] | None = None
    """Path prefix under which a reverse proxy publishes the service, like `/glassbox`."""
    trusted_proxies: str | None = None
    """Addresses or networks, separated by commas, of reverse proxies whose `X-Forwarded-For` names the caller."""

    max_connections: Annotated[int, Field(ge=1)] | None = None
    """Open connections, of which one address may have 8/9; each needs a file descriptor and some memory. When
    unset, 16384, or as many as the limit of open files allows."""
    max_other_requests: Annotated[int, Field(ge=1)] = 16
    """Uploads of data sets of one caller that are not answered yet, which hold a file each, and as many of its
    other requests that are not for scoring; more are refused. Health checks do not count."""
    max_body_bytes: Annotated[int, Field(ge=1)] = 32 * 1024 * 1024
    """Bytes of one request body; bounds the cost of parsing."""
    max_items: Annotated[int, Field(ge=1)] = 4096
    """Items of one request; larger batches are not faster and delay other requests."""
    max_text_chars: Annotated[int, Field(ge=1)] = 200_000
    """Characters of one text; the encoder reads the last 512 tokens, but words are counted in the whole text."""
    max_item_chars: Annotated[int, Field(ge=1)] = 400_000
    """Characters of all texts of one item; a gold model renders and tokenizes them together, in half a kilobyte a
    character. Those of a request are bounded by `max_body_bytes`: each has at least one byte, or is counted."""
    max_messages: Annotated[int, Field(ge=1, le=MAX_MESSAGES)] = 1_000
    """Messages of one prompt; a chat template is rendered message by message."""
    max_references: Annotated[int, Field(ge=1, le=MAX_REFERENCES)] = 64
    """References of one item; a closed-ended item is scored against each, and the best counts."""
    max_request_references: Annotated[int, Field(ge=1)] = 65_536
    """References of all items of one request that have several, also those that a data set has for them; an item
    is prepared with each of its references, in 1.3 kB."""
    max_id_chars: Annotated[int, Field(ge=1)] = 256
    """Characters of the `id` of an item, of `run` and of a model's name; replies, errors and logs repeat them."""
    max_override_values: Annotated[int, Field(ge=1)] = 256
    """Values in `recipe_overrides` or the URL, nested ones included; all parameters of a recipe have fewer."""
    max_override_chars: Annotated[int, Field(ge=1)] = 32_768
    """Characters of those values."""
    max_stop_strings: Annotated[int, Field(ge=1)] = 64
    """Stop strings of a recipe or a request; each is searched in every response."""
    max_stop_string_chars: Annotated[int, Field(ge=1)] = 256
    """Characters of one stop string; a long one makes the search slower."""
    max_url_parameters: Annotated[int, Field(ge=1)] = 100
    """Parameters in the query of a URL; all options and recipe parameters are fewer."""
    max_object_keys: Annotated[int, Field(ge=16)] = 128
    """Keys of one JSON object in a body; no message has as many, and every unknown key is an error to report."""
    max_key_chars: Annotated[int, Field(ge=16)] = 1_024
    """Characters of one key; replies and errors repeat keys, statistics of NeMo-Gym eleven times."""
    max_values: Annotated[int, Field(ge=1)] = 300_000
    """JSON values of one body; a short value takes twenty times as much memory as it has bytes."""
    max_waiting_items: Annotated[int, Field(ge=1)] = 65_536
    """Texts queued for one model, and those expected from requests in preparation, by the size of their bodies;
    callers share them, and a request is refused above its caller's share. Bounds memory."""
    max_waiting_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds until the work that a caller has queued for one model is done, above which its new requests are
    refused. Its requests take turns, so one of ordinary size may take twice as long, and a large one longer, up to
    `request_timeout_s`."""
    preparation_threads: Annotated[int, Field(ge=1)] = 1
    """Threads that parse, tokenize and compute text features. Python runs one of them at a time, and two delay the
    event loop twice as long; with one, a feature of a plug-in that never returns stops all preparation."""
    max_batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Padded tokens (longest × count) of one forward pass; when unset, the measured optimum of each model."""
    max_batch_items: Annotated[int, Field(ge=1)] | None = None
    """Items of one forward pass; when unset, the measured optimum of each model."""
    batch_timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds after which a forward pass counts as hung: its requests fail, and the model is loaded again."""
    max_model_restarts: Annotated[int, Field(ge=0)] = 3
    """Times that a hung model is loaded again; bounded, because each time one blocked thread remains."""
    cache_bytes: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    """Bytes of cached vectors, so that the prompt and the reference of a group of samples are encoded once; 0
    disables the cache."""
    max_waiting_bytes: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    """Bytes that requests may hold together, shared by callers, above which new ones are refused. A byte of a body
    counts as 4, for each of several gold models, a string in it as 600 more and a value as 80, for what is made of
    them; a reply counts until it is sent. The process stays below its memory when idle, plus the caches, the data
    sets that it keeps in memory, and twice this."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds in which a body must arrive; a slow upload occupies memory that other requests need."""
    min_body_bytes_per_s: Annotated[int, Field(ge=0)] = 1024
    """Bytes per second with which a body must arrive on average, after its first 10 s; slower than any network in
    use, and faster than a client that only occupies a connection. 0 disables the limit."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 170.0
    """Seconds from receipt in which a request is answered; below the 180 s after which clients disconnect."""
    max_hold_s: Annotated[float, Field(ge=0)] = 150.0
    """Maximum seconds that a request waits for body memory, and again for model capacity, if its client does not
    survive a refusal; `request_timeout_s` bounds the whole request."""
    idempotency_ttl_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds that the reply of an Idempotency-Key is kept; longer than clients retry."""
    idempotency_entries: Annotated[int, Field(ge=1)] = 10_000
    """Replies kept for an Idempotency-Key; the oldest are evicted."""
    idempotency_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    """Total bytes of those replies."""
    datasets_dir: Path | None = None
    """Folder of uploaded data sets, which replicas may share; when unset, they are in memory until the process
    ends."""
    max_datasets: Annotated[int, Field(ge=1)] = 64
    """Data sets that are kept, uploads in progress included; API keys share them."""
    max_dataset_rows: Annotated[int, Field(ge=1)] = 1_000_000
    """Rows of one data set; reading one takes about 80 microseconds of a processor, and keeping it 60 bytes
    besides its references."""
    max_upload_bytes: Annotated[int, Field(ge=1)] = 1024 * 1024 * 1024
    """Bytes of one uploaded data set, which is read as it arrives; prompts are not kept."""
    datasets_bytes: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    """Bytes of all data sets that are kept, uploads in progress included; API keys share them. In memory, unless
    `datasets_dir` is set."""
    ready_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds in which the forward pass of `GET /readyz` must complete."""
    supervise: bool = True
    """Run a supervisor process that holds the socket and restarts the worker when it ends."""
    stop_timeout_s: Annotated[int, Field(ge=0)] = 20
    """Seconds that requests in flight may take to finish at shutdown."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of log records; request bodies are never logged."""


def _separated(golds: str) -> list[str]:
    """The gold models in `golds`, at whose commas they are separated, except in names of folders that exist."""
    parts, found = golds.split(","), []
    while parts:
        joined = (",".join(parts[:n]).strip() for n in range(len(parts), 1, -1))
        folder = next((name for name in joined if Path(name).is_dir()), None)
        found.append(parts[0].strip() if folder is None else folder)
        del parts[: 1 if folder is None else folder.count(",") + 1]
    return found


def _check_golds(settings: Settings) -> None:
    """Raise ConfigurationError if `gold` and `primary_gold` do not fit together."""
    golds, primary = settings.golds, settings.primary_gold
    if len(golds) > 1 and ({"", NO_MODEL} & set(golds) or len(set(golds)) < len(golds)):
        raise ConfigurationError(
            f"--gold {settings.gold!r} must name different models: --gold A --gold B, or GLASSBOX_GOLD=A,B; "
            "a comma in a URL is written %2C"
        )
    if primary is not None and primary not in golds:
        named = ", ".join(golds) or NO_MODEL
        raise ConfigurationError(f"--primary-gold {primary!r} is no gold model of this service: those are {named}")


def environment_warnings() -> list[str]:
    """Warnings to log at start: variables with the former prefix."""
    return read_environment(os.environ, Settings.model_fields).warnings
