"""The gold model behind a server, as the worker of the gold model runs it.

    connect ──▶ tokenizer, /v1/models or /info, probe ──▶ RemoteGold
    score(batch) ──▶ requests of `max_items` each ──▶ a score, or an error, for each item

Only scores that the server sent for an item are returned. A request that is refused, perhaps because of one of its
items, is sent again in halves until that item is alone, or the server is found to fail for any item.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from huggingface_hub import snapshot_download

from reward_client.retry import RetryPolicy, backoff_s
from reward_service.batching import BatchLimits
from reward_service.errors import GoldUnavailableError, ModelError
from reward_service.models.load_gold import MAX_TOKENS, GoldLoadError
from reward_service.models.protocols import Exchange, RawText, Tokens
from reward_service.models.remote.formats import BadReplyError, Format, Glassbox, Score, format_of
from reward_service.models.remote.inputs import RemoteInput, RemoteText
from reward_service.models.remote.probe import PROBES, probe
from reward_service.models.remote.server import RefusedError, RemoteServer
from reward_service.models.remote.spec import RemoteSpec

_BATCH_TOKENS = 131_072
"""Padded tokens of one request: about a megabyte of JSON with token ids."""
_TOKENIZER_FILES = ["*.json", "*.jinja", "*.txt", "*.model"]
_UNKNOWN = "unknown"
"""Revision of weights whose server does not name one."""
_FAILURES = 3
"""Items of a batch, the first ones, that get a 500 alone before the server is taken to fail for every item."""
_START = RetryPolicy()
"""Delays between attempts at start."""

logger = logging.getLogger(__name__)


class RemoteGold:
    """A gold model behind `server`."""

    device = "remote"
    encoder_base: str | None = None

    def __init__(
        self,
        server: RemoteServer,
        form: Format,
        text: RemoteText,
        *,
        id: str,  # noqa: A002 - the Protocol's name
        revision: str = _UNKNOWN,
        notices: tuple[str, ...] = (),
    ) -> None:
        self.id = id
        self.revision = revision
        self.backend = f"{type(form).__name__.lower()} {form.path}"
        self.limits = BatchLimits(max_tokens=_BATCH_TOKENS, max_items=form.max_items)
        self.notices = notices
        self.fields: dict[str, bool] = {}
        """Besides the format's, for raw logits."""
        self._server = server
        self._format = form
        self._text = text

    def tokenize(self, exchange: Exchange) -> Tokens:
        """What the server is sent for `exchange`. Raises ValueError, with the reason."""
        return self._text(exchange)

    def tokenize_text(self, text: RawText) -> Tokens:
        """What the server is sent for `text`. Raises ValueError, with the reason."""
        return self._text.raw(text)

    async def score(self, batch: Sequence[Tokens]) -> list[Score]:
        """Scores in the order of `batch`, or errors of items. Raises GoldUnavailableError or ModelError."""
        inputs = cast(Sequence[RemoteInput], batch)
        found: list[Score] = []
        try:
            for part in self._parts(inputs):
                await self._halved(part, found)
            if len(found) > 1:
                _check_not_all_failed(found)
        except ModelError as exc:
            raise self._named(exc) from exc
        return [self._named(score) if isinstance(score, ModelError) else score for score in found]

    async def ask(self, inputs: Sequence[RemoteInput], fields: dict[str, bool]) -> list[Score]:
        """Scores of requests with other `fields`. Raises RefusedError if one of them is refused."""
        return [score for part in self._parts(inputs) for score in await self._ask_once(part, fields)]

    def _parts(self, inputs: Sequence[RemoteInput]) -> list[Sequence[RemoteInput]]:
        n = self._format.max_items
        return [inputs[start : start + n] for start in range(0, len(inputs), n)]

    async def _ask_once(self, inputs: Sequence[RemoteInput], fields: dict[str, bool]) -> list[Score]:
        reply = await self._server.post(self._format.path, self._format.body(inputs) | fields, len(inputs))
        return self._format.scores(reply, len(inputs))

    async def _halved(self, inputs: Sequence[RemoteInput], found: list[Score]) -> None:
        """Append to `found` the scores of one request, or, if it is refused, of two with half of the items each.

        Raises ModelError when the server fails whatever the item is: the first `_FAILURES` each get a 500 alone.
        """
        try:
            found += await self._ask_once(inputs, self.fields)
        except RefusedError as exc:
            if not exc.may_be_item:
                raise
            if len(inputs) == 1:
                found.append(exc)
                if len(found) == _FAILURES:
                    _check_not_all_failed(found)
                return
        else:
            return
        middle = len(inputs) // 2
        await self._halved(inputs[:middle], found)
        await self._halved(inputs[middle:], found)

    def _named(self, exc: ModelError) -> ModelError:
        return ModelError(f"the gold model {self.id} failed: {exc}")


def _check_not_all_failed(found: Sequence[Score]) -> None:
    """Raise ModelError if every item got a 500."""
    if all(isinstance(one, RefusedError) and one.status == 500 for one in found):
        raise ModelError(str(found[0]))


async def connect(spec: RemoteSpec, server: RemoteServer) -> RemoteGold:
    """The gold model that `spec` names, once its server answers; waits for that as long as it takes.

    What a server may answer while it starts is tried again for the time limit of a call.

    Raises GoldLoadError, with what to do, when its scores cannot be used, or the tokenizer cannot be loaded.
    """
    tokenizer = await asyncio.to_thread(_tokenizer, spec) if spec.tokenizer else None
    give_up, attempt = math.inf, 0
    while True:
        attempt += 1
        try:
            gold = await _connected(spec, server, tokenizer)
        except GoldUnavailableError:
            give_up = math.inf
        except (ModelError, GoldLoadError, ValueError) as exc:
            give_up = min(give_up, time.monotonic() + server.timeout_s)
            if not _may_pass(exc) or time.monotonic() >= give_up:
                raise GoldLoadError(
                    f"gold model {spec.text!r} cannot be used: {exc}. Restart this service once that is corrected"
                ) from exc
            server.refusal = str(exc)
        else:
            server.refusal = None
            return gold
        await asyncio.sleep(backoff_s(_START, attempt=attempt, retry_after_s=None, jitter=random.random()))


def _may_pass(exc: Exception) -> bool:
    """Whether a server, or a proxy before it, may answer so while it starts."""
    if isinstance(exc, RefusedError):
        return exc.status in {404, 424} or exc.status >= 500
    return isinstance(exc, BadReplyError)


async def _connected(spec: RemoteSpec, server: RemoteServer, tokenizer: Any) -> RemoteGold:
    form = format_of(spec)
    about = await _description(spec, server)
    max_tokens = min(n for n in (spec.max_tokens, about.get("max_tokens"), MAX_TOKENS) if n)
    if isinstance(form, Glassbox):
        form.revision = about["revision"]
    gold = RemoteGold(
        server,
        form,
        RemoteText(spec.sends, tokenizer, max_tokens),
        id=spec.text,
        revision=about.get("revision") or _UNKNOWN,
        notices=tuple(about.get("notices", ())),
    )
    inputs = [cast(RemoteInput, gold.tokenize(exchange)) for exchange in PROBES]

    async def scores(indices: Sequence[int], fields: dict[str, bool]) -> list[Score]:
        return await gold.ask([inputs[index] for index in indices], fields)

    switch = await probe(scores, form, raw=spec.raw)
    gold.fields = {} if switch is None else {switch.name: switch.raw}
    return gold


async def _description(spec: RemoteSpec, server: RemoteServer) -> dict[str, Any]:
    """What the server says about its model: `max_tokens`, `revision` and `notices`, as far as it does."""
    path = "/v1/models" if spec.kind in {"vllm", "sglang"} else "/info"
    try:
        about = await server.get(path)
    except RefusedError:
        if spec.kind == "glassbox":
            raise
        about = None
    if spec.kind == "glassbox":
        if _gold_of(about) is None:  # none, or it loads it: then /readyz is a 503 until it is loaded
            await server.get("/readyz")
            about = await server.get(path)
        return _of_glassbox(about)
    about = about if isinstance(about, dict) else {}
    if spec.kind == "tei":
        return {"max_tokens": _positive(about.get("max_input_length")), "revision": about.get("model_sha")}
    models = about.get("data") if isinstance(about.get("data"), list) else []
    named = [model for model in models or [] if isinstance(model, dict) and spec.model in {None, model.get("id")}]
    return {"max_tokens": _positive(named[0].get("max_model_len"))} if named else {}


def _gold_of(about: Any) -> dict[str, Any] | None:
    gold = about.get("gold") if isinstance(about, dict) else None
    return gold if isinstance(gold, dict) else None


def _of_glassbox(about: Any) -> dict[str, Any]:
    gold = _gold_of(about)
    if gold is None:
        raise GoldLoadError("its /info names no gold model; start that service with --gold")
    return {"revision": str(gold.get("revision")), "notices": [str(one) for one in gold.get("notices") or ()]}


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _tokenizer(spec: RemoteSpec) -> Any:
    name = str(spec.tokenizer)
    try:
        from reward_service.models.pretrained import AutoTokenizer

        folder = name if Path(name).is_dir() else snapshot_download(name, allow_patterns=_TOKENIZER_FILES)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as exc:
        raise GoldLoadError(
            f"gold model {spec.text!r}: its tokenizer {name!r} cannot be loaded ({exc}); name a folder, or a "
            "Hugging Face id that this machine can reach"
        ) from exc
    if not tokenizer.chat_template:
        raise GoldLoadError(
            f"gold model {spec.text!r}: the tokenizer {name!r} has no chat template; add the one that the model "
            "was trained with"
        )
    return tokenizer
