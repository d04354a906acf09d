"""Replies in the wire version of the client; `reward_client.wire.version` has the policy.

Glassbox-Wire-Version: 2                        ─▶ that version, or the service's own when it is older
no header, request has the form of release 0.1  ─▶ version 1: nothing that release 0.1 does not know
no header, any other client (curl, a browser)   ─▶ the service's own version
"""

import re
from collections.abc import Mapping
from typing import Any

from reward_client.wire import WIRE_VERSION, WIRE_VERSION_HEADER, Info, LimitsInfo, ScoreReply
from reward_client.wire.replies import GOLDS
from reward_service.errors import InvalidRequestError
from reward_service.features.recipe import PARAMETERS_BEFORE

WIRE_VERSION_PARAMETER: dict[str, Any] = {
    "name": WIRE_VERSION_HEADER,
    "in": "header",
    "required": False,
    "description": "Wire version of the client; the reply has nothing newer. The service's own if absent.",
    "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,5}$"},
}
"""The header in the OpenAPI document."""

_VERSION = re.compile(rb"[1-9][0-9]{0,5}")
_NEW_IN_INFO_2: Mapping[str, Any] = {
    "wire_version": True,
    "features": True,
    "golds": True,
    "models": True,
    "relevance": {"base"},
    "gold": {"base"},
    "recipes": {"__all__": {"constants", "formula"}},
    "limits": set(LimitsInfo.model_fields) - {"max_body_bytes", "max_items", "max_text_chars"},
}
_FEATURES_OF_VERSION_1 = {"length_incentive", "repetition_penalty", "query_relevance", "reference_relevance"}


def requested_version(headers: Mapping[bytes, bytes], method: str = "POST") -> int:
    """The version to reply in. Raises InvalidRequestError for a header that is not a positive integer."""
    given = headers.get(WIRE_VERSION_HEADER.lower().encode())
    if given is None:
        return 1 if _is_release_0_1(headers, method) else WIRE_VERSION
    if not _VERSION.fullmatch(given):
        message = f"must be a positive integer, like {WIRE_VERSION}"
        raise InvalidRequestError.in_field(WIRE_VERSION_HEADER, message)
    return min(int(given), WIRE_VERSION)


def _is_release_0_1(headers: Mapping[bytes, bytes], method: str) -> bool:
    """Release 0.1's client is the only one on httpx with a content type on GET and an Idempotency-Key on POST."""
    marker = b"content-type" if method == "GET" else b"idempotency-key"
    return marker in headers and headers.get(b"user-agent", b"").startswith(b"python-httpx/")


def in_version(reply: ScoreReply, version: int) -> ScoreReply:
    """A `/score` reply for clients of `version`; 1 knows no features of plug-ins, attribution, other golds."""
    if version >= 2:
        return reply
    results = [
        result.model_dump(mode="json", exclude={"attribution", *GOLDS})
        | {"features": {k: v for k, v in result.features.items() if k in _FEATURES_OF_VERSION_1}}
        for result in reply.results
    ]
    models = reply.models.model_copy(update={"golds": {}})
    return reply.model_copy(update={"results": results, "models": models})


def info_json(info: Info, version: int) -> bytes:
    """Body of an `/info` reply."""
    if version >= 2:
        return info.model_dump_json(exclude=None if info.golds else GOLDS).encode()
    recipes = [
        recipe.model_copy(update={"parameters": _in_version_1(recipe.parameters)}) for recipe in info.recipes
    ]
    return info.model_copy(update={"recipes": recipes}).model_dump_json(exclude=_NEW_IN_INFO_2).encode()


def _in_version_1(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Without parameters of later releases, except those that determine the reward: as in a recipe's hash."""
    return {k: v for k, v in parameters.items() if k not in PARAMETERS_BEFORE or v != PARAMETERS_BEFORE[k]}
