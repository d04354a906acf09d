"""NeMo-Gym: a resources server that Gym starts as `resources_servers/glassbox/app.py`.

    from reward_client.adapters.nemo_gym import GlassboxResourcesServer

    if __name__ == "__main__":
        GlassboxResourcesServer.run_webserver()

Settings are environment variables, or keys of `glassbox` in the server's YAML. The last reply of the response is
scored. The reference is the row's field GLASSBOX_REFERENCE_COLUMN (`reference`), or else `expected_answer`. The
features that apply are fields of the reply, `glassbox/NAME`, which Gym averages over the samples that have them.

A sample without a reward is masked, with `failure_kind` and `failure_reason`, where Gym has these fields (0.7).
In Gym 0.4 it is HTTP 500, and so is a request that the service rejects, such as one with a wrong key, in both.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from reward_client.adapters.samples import Sample, label_of
from reward_client.adapters.scorer import Scored, Scorer, rewards
from reward_client.errors import RewardUnavailableError

if TYPE_CHECKING:
    BaseResourcesServerConfig = BaseModel
    BaseVerifyRequest = BaseModel
    BaseVerifyResponse = BaseModel
    SimpleResourcesServer: Any = BaseModel
else:
    try:
        from nemo_gym.base_resources_server import (
            BaseResourcesServerConfig,
            BaseVerifyRequest,
            BaseVerifyResponse,
            SimpleResourcesServer,
        )
    except ImportError:
        BaseResourcesServerConfig = BaseVerifyRequest = BaseVerifyResponse = SimpleResourcesServer = BaseModel

_CAN_MASK = "mask_sample" in BaseVerifyResponse.model_fields
_ANSWER = "expected_answer"
"""The field for the reference in most data sets of NeMo-Gym."""


class GlassboxConfig(BaseResourcesServerConfig):
    """The server's entry in Gym's YAML."""

    glassbox: dict[str, Any] = Field(default_factory=dict)
    """Settings of the adapter, such as `{url: "http://HOST:8000", recipe: rer}`."""


class GlassboxVerifyRequest(BaseVerifyRequest):
    """A row of the data set, with the policy's response."""

    model_config = ConfigDict(extra="allow")


class GlassboxVerifyResponse(BaseVerifyResponse):
    """The request, with the reward and the features."""

    model_config = ConfigDict(extra="allow")


class GlassboxResourcesServer(SimpleResourcesServer):  # type: ignore[misc]
    """Verifies a response by scoring it with the reward service."""

    config: GlassboxConfig

    @cached_property
    def scorer(self) -> Scorer:
        """The connection to the service."""
        return Scorer(**self.config.glassbox)

    async def verify(self, body: GlassboxVerifyRequest) -> GlassboxVerifyResponse:
        """The request, with reward and features, or masked. Raises RewardError, of which Gym makes HTTP 500."""
        row = body.model_dump(mode="json")
        try:
            scored = (await self.scorer.score_async([self._sample(row)]))[0]
        except RewardUnavailableError as exc:
            if not _CAN_MASK:
                raise
            return _masked(row, "transport_unreachable", str(exc))
        if scored.error is not None and _CAN_MASK:
            return _masked(row, "verifier_error", scored.error)
        return _verified(row, scored)

    async def get_reverify_mode(self) -> str:
        """Gym 0.7 may verify a stored response again: nothing else is kept."""
        return "stateless"

    def _sample(self, row: dict[str, Any]) -> Sample:
        prompt = _prompt(row["responses_create_params"])
        label = label_of(self.scorer.settings, row, row.get(_ANSWER))
        return Sample(prompt, _last_reply(row["response"]), *label)


def _verified(row: dict[str, Any], scored: Scored) -> GlassboxVerifyResponse:
    features = {f"glassbox/{name}": value for name, value in scored.applicable_features().items()}
    return GlassboxVerifyResponse(**row | features | {"reward": rewards([scored])[0]})


def _masked(row: dict[str, Any], kind: str, reason: str) -> GlassboxVerifyResponse:
    """A sample that Gym leaves out of its scores; `reward` is required, and not used."""
    failure = {"mask_sample": True, "failure_kind": kind, "failure_reason": reason}
    return GlassboxVerifyResponse(**row | failure | {"reward": 0.0})


def _prompt(params: dict[str, Any]) -> Any:
    """The messages of the request to the policy; other items, such as calls of tools, are no text of the user."""
    turns = params["input"]
    if isinstance(turns, str):
        turns = [{"role": "user", "content": turns}]
    system = [{"role": "system", "content": params["instructions"]}] if params.get("instructions") else []
    return [*system, *(turn for turn in turns if turn.get("type") in (None, "message") and "role" in turn)]


def _last_reply(response: dict[str, Any]) -> str:
    """The text of the last message in the policy's response; "" when it has none."""
    messages = [one for one in response["output"] if one.get("type") == "message"]
    parts = messages[-1]["content"] if messages else []
    return "\n".join(part.get("text") or part.get("refusal") or "" for part in parts)
