"""Chat templates: converts the text that a trainer decodes, with template markers, to messages and a response.

    query  = [left-truncated] rendered prompt + response + end token      prompt = complete rendered prompt

    split_query    the response: the text after the longest suffix of `prompt` that `query` begins with
                   (query[len(prompt):] would be wrong for a prompt that was truncated on the left)
    parse_prompt   the messages, according to the template whose markers the prompt begins with
    clean          both, with flags for the changes: `truncated`, `special_tokens_removed`, …

Known templates: ChatML (Qwen, SmolLM), Llama 3, Llama 2 and Mistral, Alpaca; any other text is one user turn.
End tokens are removed from the response, and default system prompts of templates from the messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from reward_client.wire import ChatMessage

__all__ = ["CleanExchange", "clean", "parse_prompt", "split_query"]

Messages = tuple[ChatMessage, ...]


@dataclass(frozen=True, slots=True)
class CleanExchange:
    """A conversation and a response without template markers."""

    messages: Messages
    response: str
    flags: tuple[str, ...]
    """`truncated`: the response has no end token. `special_tokens_removed`: it contained other special tokens.
    `text_after_end`: text after the end token was removed."""


@dataclass(frozen=True, slots=True)
class _Template:
    name: str
    start: re.Pattern[str]
    """Matches the start of a prompt, after a BOS token, so that markers written by a user do not match."""
    parse: Callable[[str], Messages]
    assistant: str
    """Marker before a response."""
    ends: tuple[str, ...]
    """Tokens that end a response."""
    specials: re.Pattern[str]
    """Special tokens, which are removed from a response at any position."""


def clean(query: str, prompt: str | None) -> CleanExchange:
    """Split OpenRLHF's `query` at the end of the rendered `prompt`, parse the prompt and clean the response.

    Requests of older OpenRLHF releases have no field `prompts`: then `prompt` is None, and `query` is split at its
    only assistant marker.

    Raises:
        ValueError: the start of the response in `query` cannot be determined, or the prompt has an unknown role.
    """
    if prompt is None:
        prompt = _rendered_prompt(query)
    template = _template_of(prompt)
    response, ended, rest = _cut_at_end(split_query(query, prompt), template.ends)
    bare = _remove(template.specials, response)
    flags = [
        *(["truncated"] if not ended else []),
        *(["special_tokens_removed"] if bare != response else []),
        *(["text_after_end"] if _remove(template.specials, rest).strip() else []),
    ]
    return CleanExchange(parse_prompt(prompt), bare.strip() if template is _LLAMA2 else bare, tuple(flags))


def split_query(query: str, prompt: str) -> str:
    """The response in `query`. Raises ValueError when `query` does not begin with a suffix of `prompt`."""
    if query.startswith(prompt):
        return query[len(prompt) :]
    bare = _LEADING.sub("", query)
    overlap = _overlap(_LEADING.sub("", prompt), bare)
    if not overlap:
        raise ValueError("does not begin with the prompt or a suffix of it")
    return bare[overlap:]


def parse_prompt(prompt: str) -> Messages:
    """The messages of a rendered prompt, without default system prompts of templates."""
    messages = _template_of(prompt).parse(prompt)
    return tuple(m for m in messages if not (m.role == "system" and _is_default_system(m.content)))


_LEADING = re.compile(r"\A(?:<s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>|\ufffd|\s)+")
"""BOS tokens, replacement characters of a truncated character, and white space at the start of a text."""

_MIN_OVERLAP = 16
"""Minimum characters of a truncated prompt that must match; shorter matches may be coincidences."""

_MAX_PROBES = 64
"""Maximum positions tried; real prompts repeat the same 16 characters a few times at most."""


def _overlap(prompt: str, query: str) -> int:
    """Length of the longest suffix of `prompt` that is a prefix of `query`; 0 when none is long enough."""
    if query.startswith(prompt):  # they differed only in a BOS token
        return len(prompt)
    probe, start = query[:_MIN_OVERLAP], -1
    for _ in range(_MAX_PROBES):
        start = prompt.find(probe, start + 1)
        if start < 0 or len(prompt) - start < _MIN_OVERLAP:
            break
        if query.startswith(prompt[start:]):
            return len(prompt) - start
    return 0


_PIECE = re.compile(r"[^>\]]*[>\]]|[^>\]]+\Z")
_MAX_MARKER_CHARS = 32
"""`<|finetune_right_pad_id|>` has 25."""


def _remove(markers: re.Pattern[str], text: str) -> str:
    """Remove `markers` from `text`, and those that form when another is removed, in one pass for any nesting.

    No suffix of a marker is a prefix of another marker, so the result does not depend on the order of removal.
    """
    if not markers.search(text):
        return text
    kept: list[str] = []
    for piece in _PIECE.findall(text):
        kept += piece
        if found := markers.search("".join(kept[-_MAX_MARKER_CHARS:])):  # it ends here: earlier ones were removed
            del kept[-len(found[0]) :]
    return "".join(kept)


def _cut_at_end(text: str, ends: tuple[str, ...]) -> tuple[str, bool, str]:
    """The text before the first end token, whether `text` has an end token, and the text after it."""
    first = re.search("|".join(map(re.escape, ends)), text)
    if first is None:
        return text, False, ""
    return text[: first.start()], True, text[first.end() :]


# Templates ------------------------------------------------------------------------------------------------------

_CHATML_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(<\|im_end\|>|\Z)", re.DOTALL)
_LLAMA3_TURN = re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)(<\|eot_id\|>|\Z)", re.DOTALL)
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "system": "system", "ipython": "tool"}
_KNOWN_ROLES = get_args(ChatMessage.model_fields["role"].annotation)


def _turn(role: str, content: str) -> ChatMessage:
    if _ROLES.get(role, role) not in _KNOWN_ROLES:
        raise ValueError(f"has a turn with the unknown role {role[:32]!r}; known roles: {', '.join(_KNOWN_ROLES)}")
    return ChatMessage.model_validate({"role": _ROLES.get(role, role), "content": content})


def _from_turns(turn: re.Pattern[str]) -> Callable[[str], Messages]:
    """Parser of a template with a marker per turn. The last assistant turn is the response if it is not closed."""

    def parse(prompt: str) -> Messages:
        turns = list(turn.finditer(prompt))
        if turns and turns[-1][1] == "assistant" and not turns[-1][3]:
            turns.pop()
        return tuple(_turn(match[1], match[2]) for match in turns)

    return parse


def _parse_llama2(prompt: str) -> Messages:
    messages: list[ChatMessage] = []
    for turn in prompt.split("[INST]")[1:]:
        user, closed, assistant = turn.partition("[/INST]")
        if not closed:
            continue
        before, opened, rest = user.partition("<<SYS>>")
        system, ended, after = rest.partition("<</SYS>>")
        if opened and ended:
            messages.append(_turn("system", system.strip()))
            user = before + after
        messages.append(_turn("user", user.strip()))
        messages += _assistant_turn(assistant)
    return tuple(messages)


def _parse_alpaca(prompt: str) -> Messages:
    """Keep `### Input:` in the text of the user, as in the data, and drop the preamble of the template."""
    messages: list[ChatMessage] = []
    for turn in prompt.split("### Instruction:\n")[1:]:
        user, _, assistant = turn.partition("### Response:")
        messages.append(_turn("user", user.rstrip()))
        messages += _assistant_turn(assistant)
    return tuple(messages)


def _assistant_turn(text: str) -> Messages:
    content = text.replace("</s>", "").replace("<s>", "").strip()
    return (_turn("assistant", content),) if content else ()


_END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>", "<eos>", "<end_of_turn>")
_BRACKETED = (
    r"<\|(?:im_start|im_end|endoftext|begin_of_text|end_of_text|start_header_id|end_header_id|eot_id|eom_id"
    r"|finetune_right_pad_id)\|>"
)


def _parse_plain(prompt: str) -> Messages:
    return (_turn("user", re.sub(r"\A(?:<s>|<bos>|<\|begin_of_text\|>)|(?:</s>|<eos>)\Z", "", prompt)),)


_CHATML = _Template(
    "chatml",
    re.compile(r"\s*<\|im_start\|>\w+\n"),
    _from_turns(_CHATML_TURN),
    "<|im_start|>assistant\n",
    ("<|im_end|>", "<|endoftext|>"),
    re.compile(_BRACKETED),
)
_LLAMA3 = _Template(
    "llama3",
    re.compile(r"\s*<\|start_header_id\|>\w+<\|end_header_id\|>"),
    _from_turns(_LLAMA3_TURN),
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
    re.compile(_BRACKETED),
)
_LLAMA2 = _Template(
    "llama2", re.compile(r"\s*\[INST\]"), _parse_llama2, "[/INST]", ("</s>",), re.compile(r"</?s>|\[/?INST\]")
)
_ALPACA = _Template(
    "alpaca",
    re.compile(r"(?:.*\n)*?### Instruction:\n"),
    _parse_alpaca,
    "### Response:",
    ("</s>", "<|endoftext|>", "<|im_end|>", "<|end_of_text|>"),
    re.compile(rf"</?s>|{_BRACKETED}"),
)
_PLAIN = _Template("plain", re.compile(""), _parse_plain, "", _END_TOKENS, re.compile(_BRACKETED))


def _template_of(prompt: str) -> _Template:
    """The template whose start `prompt` matches and whose turns it contains; otherwise plain text."""
    bare = _LEADING.sub("", prompt)
    candidates = (t for t in (_CHATML, _LLAMA3, _LLAMA2, _ALPACA) if t.start.match(bare))
    return next((t for t in candidates if t.parse(prompt)), _PLAIN)


_DEFAULT_SYSTEMS = (
    re.compile(r"You are a helpful(?:,? and harmless)?(?: AI)? assistant\.?"),
    re.compile(r"You are a helpful AI assistant named SmolLM, trained by Hugging Face\.?"),
    re.compile(r"You are Qwen, created by Alibaba Cloud\. You are a helpful assistant\.?"),
    re.compile(r"(?:Cutting Knowledge Date: .*\n)?Today Date: .*"),
    re.compile(r"Below is an instruction that describes a task.*", re.DOTALL),
)
"""Default system prompts of SmolLM2, Qwen, Llama 3 and Alpaca, for conversations without a system prompt."""


def _rendered_prompt(query: str) -> str:
    """The prompt in `query`, up to its only assistant marker; of several, the policy may have generated one."""
    marker = _template_of(query).assistant
    if not marker or query.count(marker) != 1:
        raise ValueError(
            "does not have exactly one assistant marker between prompt and response; send the prompt too"
        )
    return query.partition(marker)[0] + marker


def _is_default_system(content: str) -> bool:
    return any(pattern.fullmatch(content.strip()) for pattern in _DEFAULT_SYSTEMS)
