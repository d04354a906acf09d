"""Replies about the data sets of a service. Tolerant, as all replies."""

from __future__ import annotations

from reward_client.wire.replies import Reply
from reward_client.wire.requests import QueryType


class DatasetInfo(Reply):
    """A data set of references that the service keeps. The texts are not returned."""

    name: str
    """Name for `dataset=NAME` in a URL."""
    rows: int
    """Rows that were uploaded."""
    prompts: int
    """Different prompts among them."""
    with_reference: int
    """Prompts with a reference."""
    query_types: dict[QueryType, int]
    """Prompts by query type."""
    query_type_default: QueryType
    """What prompts with a reference and no query type got."""
    revision: str
    """Hash of the uploaded bytes: equal on all replicas that received the same file."""
    n_bytes: int
    """Bytes that the service keeps."""
    persistent: bool
    """Whether it survives a restart of the service."""
    hits: int = 0
    """Items that found their prompt, since this process read the data set."""
    misses: int = 0
    """Items whose prompt was not in it."""


class DatasetList(Reply):
    """The reply of `GET /datasets`."""

    datasets: list[DatasetInfo]
    """Data sets that the caller's key may use."""
    persistent: bool
    """Whether data sets survive a restart of the service."""
