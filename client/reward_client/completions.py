"""Addresses and replies of OpenAI-compatible servers: `/chat/completions`, and `/completions` with plain text."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reward_client.errors import RewardError, validation_errors


def base_url(url: str) -> str:
    """The URL below which the routes are: without a route, and with `/v1` if it has no path."""
    base = url.rstrip("/").removesuffix("/completions").removesuffix("/chat")
    return base if "/" in base.partition("://")[2].rpartition("@")[2] else f"{base}/v1"


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Message(_Reply):
    """What the model answered; servers write null for a refusal, a call of a tool, or unfinished reasoning."""

    content: str | None = None


class Choice(_Reply):
    """One response."""

    message: Message | None = None
    """Of a chat."""
    text: str | None = None
    """Of a plain completion."""
    finish_reason: str | None = None

    @property
    def content(self) -> str | None:
        """The response; None when the server sent none."""
        return self.text if self.message is None else self.message.content


class Completion(_Reply):
    """The reply to one prompt."""

    choices: list[Choice] = Field(min_length=1)


def read_completion(body: bytes) -> Completion:
    """Read a reply. Raises RewardError naming the field that is wrong."""
    try:
        return Completion.model_validate_json(body)
    except ValidationError as exc:
        raise RewardError(f"the reply is not one of OpenAI's API: {validation_errors(exc)[0]}") from exc
