"""Chat templates: converts the text that a trainer decodes, with template markers, to messages and a response.

    query  = [padding] [left-truncated] rendered prompt + response + end token [padding]
    prompt = complete rendered prompt

    split_query    the response: the text after the longest suffix of `prompt` that `query` begins with
                   (query[len(prompt):] would be wrong for a prompt that was truncated on the left)
    parse_prompt   the messages, by the headers and footers of the format that the prompt begins with
    clean          both, with flags for the changes: `truncated`, `special_tokens_removed`, …

`chat_formats` has the formats. End tokens are removed from the response, default system prompts of templates from
the messages, and every way to mark reasoning becomes `<think>…</think>`, which recipes know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from reward_client.wire import ChatMessage
from reward_service.protocols.chat_formats import (
    DEFAULT_SYSTEMS,
    FORMATS,
    LEADING,
    MARKER,
    PADDING,
    PLAIN,
    TEMPLATE_TEXT,
    ChatFormat,
)
from reward_service.protocols.rendered_text import remove_markers, split_query

Messages = tuple[ChatMessage, ...]


class PromptError(ValueError):
    """The rendered prompt cannot be read."""


@dataclass(frozen=True, slots=True)
class CleanExchange:
    """A conversation and a response without template markers."""

    messages: Messages
    response: str
    flags: tuple[str, ...]
    """`truncated`: the response has no end token. `special_tokens_removed`: it contained other special tokens.
    `text_after_end`: text after the end token was removed. `unknown_template`: the prompt has markers of no known
    format. `unknown_special_tokens`: the response has markers that its format does not have."""


def clean(query: str, prompt: str | None) -> CleanExchange:
    """Split OpenRLHF's `query` at the end of the rendered `prompt`, parse the prompt and clean the response.

    Requests of older OpenRLHF releases have no field `prompts`: then `prompt` is None, and `query` is split at its
    only assistant header.

    Raises:
        PromptError: the prompt has an unknown role.
        ValueError: the start of the response in `query` cannot be determined.
    """
    if prompt is None:
        prompt = _rendered_prompt(query)
    parser, messages = _read(prompt)
    response, ended, rest = parser.cut_at_end(split_query(query, prompt))
    response = parser.mark_reasoning(response, prompt)
    bare = remove_markers(parser.specials, response)
    flags = {
        "truncated": not ended,
        "special_tokens_removed": bare != response,
        "text_after_end": PADDING.fullmatch(remove_markers(parser.specials, rest)) is None,
        "unknown_template": parser.format is PLAIN and MARKER.search(prompt) is not None,
        "unknown_special_tokens": MARKER.search(bare) is not None,
    }
    return CleanExchange(
        _without_defaults(messages),
        bare.strip() if parser.format.strip else bare,
        tuple(flag for flag, is_set in flags.items() if is_set),
    )


def parse_prompt(prompt: str) -> Messages:
    """The messages of a rendered prompt, without default system prompts of templates. Raises PromptError."""
    return _without_defaults(_read(prompt)[1])


def clean_reference(text: str, prompt: str) -> str:
    """A reference answer as the tokenizer decodes it after `prompt`, without its end token. Raises PromptError."""
    parser, _ = _read(prompt)
    return remove_markers(parser.specials, parser.cut_at_end(text)[0]).strip()


# Formats --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Header:
    start: int
    end: int
    word: str
    """The role's word."""


class _Ahead:
    """Searches a pattern from ascending positions, in one pass over the text."""

    def __init__(self, pattern: re.Pattern[str], text: str) -> None:
        self._matches = pattern.finditer(text)
        self._next = next(self._matches, None)

    def search(self, position: int) -> re.Match[str] | None:
        """The first match at or after `position`."""
        while self._next is not None and self._next.start() < position:
            self._next = next(self._matches, None)
        return self._next


@dataclass(frozen=True)
class _Parser:
    """The parser of one format, with its patterns compiled."""

    format: ChatFormat

    @cached_property
    def start(self) -> re.Pattern[str]:
        own = self.format.start
        return re.compile(rf"\s*{self.format.header}" if own is None else own)

    @cached_property
    def specials(self) -> re.Pattern[str]:
        return re.compile("|".join([self.format.specials, *map(re.escape, self.format.footers)]))

    @cached_property
    def _header(self) -> re.Pattern[str]:
        return re.compile(self.format.header)

    @cached_property
    def _footers(self) -> dict[bool, re.Pattern[str]]:
        """By whether the turn is the assistant's."""
        common = self.format.footers
        both = {True: (*common, *self.format.assistant_footers), False: common}
        return {key: _any_of(texts) for key, texts in both.items()}

    @cached_property
    def _ends(self) -> re.Pattern[str]:
        footers = (text for text in self.format.footers if text not in self.format.continues)
        return _any_of((*footers, *self.format.assistant_footers, *self.format.ends))

    def headers(self, text: str) -> Iterator[_Header]:
        """The headers in `text`."""
        for match in self._header.finditer(text):
            yield _Header(match.start(), match.end(), match["role"])

    def role(self, word: str) -> str | None:
        """The role of a header's word; None if its turn is no message. Raises PromptError for an unknown one."""
        roles = self.format.roles
        if word in roles or word.lower() in roles:
            return roles.get(word, roles.get(word.lower()))
        known = ", ".join(get_args(ChatMessage.model_fields["role"].annotation))
        raise PromptError(f"has a turn with the unknown role {word[:32]!r}; known roles: {known}")

    def messages(self, prompt: str) -> Messages:
        """The messages of `prompt`, without the generation prompt. Raises PromptError."""
        if self.format is PLAIN:
            bare = re.sub(r"\A(?:<s>|<bos>|<\|begin_of_text\|>)|(?:</s>|<eos>)\Z", "", prompt)
            return (ChatMessage(role="user", content=bare),)
        text = LEADING.sub("", prompt)
        if self.format.generation_prompt is not None:
            text = re.sub(self.format.generation_prompt, "", text)
        turns = list(self._turns(text))
        if turns and turns[-1][0] == "assistant" and not turns[-1][2]:
            turns.pop()
        found = [(role, content.strip() if self.format.strip else content) for role, content, _ in turns if role]
        return tuple(message for turn in found for message in _messages_of_turn(*turn))

    def _turns(self, text: str) -> Iterator[tuple[str | None, str, bool]]:
        """(role, content, whether a footer closed it) of each turn."""
        headers = list(self.headers(text))
        lead = text[: headers[0].start].strip() if headers and self.format.lead_role else ""
        if lead:
            yield self.format.lead_role, lead, True
        position = 0
        footers = {kind: _Ahead(pattern, text) for kind, pattern in self._footers.items()}
        for number, header in enumerate(headers):
            if header.start < position:  # a marker inside a turn that has a footer
                continue
            role = self.role(header.word)
            following = headers[number + 1].start if number + 1 < len(headers) else len(text)
            footer = footers[role == "assistant"].search(header.end)
            may_continue = bool(self.format.footers) and role not in self.format.unclosed
            if footer is not None and (footer.start() <= following or may_continue):
                yield role, text[header.end : footer.start()], True
                position = footer.end()
            else:
                yield role, text[header.end : following], False
                position = following

    def cut_at_end(self, text: str) -> tuple[str, bool, str]:
        """The text before the first end token, whether `text` has an end token, and the text after it."""
        first = self._ends.search(text)
        return (text, False, "") if first is None else (text[: first.start()], True, text[first.end() :])

    def mark_reasoning(self, response: str, prompt: str) -> str:
        """`response` with its reasoning, in the markers of this format, between `<think>` and `</think>`."""
        opened = re.search(self.format.thinking_opened, prompt)
        text = opened[0].strip() + response if opened is not None else response.lstrip()
        found = re.compile(self.format.thinking, re.DOTALL).match(text)
        if found is None:
            return self._without_answer_header(response)
        if found.end() == found.end("thought"):
            return f"<think>{found['thought']}"
        return f"<think>{found['thought']}</think>{self._without_answer_header(text[found.end() :])}"

    def _without_answer_header(self, text: str) -> str:
        header = self.format.answer_header
        return text if header is None else re.sub(rf"\A{header}", "", text)


def _any_of(texts: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, texts)) or "(?!)")


_PARSERS = tuple(map(_Parser, FORMATS))
_PLAIN_PARSER = _Parser(PLAIN)


def _read(prompt: str) -> tuple[_Parser, Messages]:
    """The first parser whose start `prompt` matches, and the messages; plain text if none finds any."""
    bare = LEADING.sub("", prompt)
    for parser in _PARSERS:
        if parser.start.match(bare) and (messages := parser.messages(prompt)):
            return parser, messages
    return _PLAIN_PARSER, _PLAIN_PARSER.messages(prompt)


def _rendered_prompt(query: str) -> str:
    """The prompt in `query`, up to its only assistant header; of several, the policy may have generated one."""
    parser, _ = _read(query)
    ends = [header.end for header in parser.headers(query) if parser.role(header.word) == "assistant"]
    if len(ends) != 1:
        raise ValueError(
            "does not have exactly one assistant marker between prompt and response; send the prompt too"
        )
    return query[: ends[0]]


# Messages -------------------------------------------------------------------------------------------------------


def _messages_of_turn(role: str, content: str) -> Iterator[ChatMessage]:
    """The message of one turn; two where Llama 2 wrote the system message into the first user turn."""
    before, opened, rest = content.partition("<<SYS>>")
    system, closed, after = rest.partition("<</SYS>>")
    if role == "user" and opened and closed:
        yield ChatMessage(role="system", content=system.strip())
        content = (before + after).strip()
    if content or role == "user":
        yield ChatMessage.model_validate({"role": role, "content": content})


def _without_defaults(messages: Messages) -> Messages:
    """`messages` without the text that templates add to them."""
    kept = []
    for message in messages:
        content = message.content
        if message.role in {"system", "developer"}:
            content = TEMPLATE_TEXT.sub("", content)
            if not content.strip() or any(pattern.fullmatch(content.strip()) for pattern in DEFAULT_SYSTEMS):
                continue
        kept.append(message if content == message.content else ChatMessage(role=message.role, content=content))
    return tuple(kept)
