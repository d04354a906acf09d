"""Forms of a conversation, of which a reward model's chat template gets the first that it shows whole.

    as posted             most templates
    developer as system   for templates that drop or refuse developer messages
    system in user        system text before the first user message, for templates without system messages

Whether a form is shown whole is tried with a short word for each message, once for each sequence of roles: a score
of a text without one of the messages would be a score of another conversation.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import lru_cache

from jinja2 import TemplateError

Messages = Sequence[dict[str, str]]
Form = Callable[[Messages], Messages]
Render = Callable[[Messages], str]

_CACHED_SEQUENCES = 256
MAX_REASON_CHARS = 300
"""Characters of a template's or tokenizer's error in an item's error."""
_INSTRUCTIONS = ("system", "developer")


def as_posted(messages: Messages) -> Messages:
    """The messages as they are."""
    return messages


def developer_as_system(messages: Messages) -> Messages:
    """Developer messages as system messages, whose successors they are."""
    return [message | {"role": "system"} if message["role"] == "developer" else message for message in messages]


def system_in_user(messages: Messages) -> Messages:
    """The first user message, with the text of the system messages before it."""
    n = next((i for i, message in enumerate(messages) if message["role"] not in _INSTRUCTIONS), len(messages))
    if n == len(messages) or messages[n]["role"] != "user":
        return messages
    text = "\n\n".join(message["content"] for message in messages[: n + 1])
    return [{"role": "user", "content": text}, *messages[n + 1 :]]


_FORMS = (as_posted, developer_as_system, system_in_user)


class ConversationForms:
    """The forms for one template, which `render` applies."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._found = lru_cache(_CACHED_SEQUENCES)(self._find)

    def form_for(self, roles: Sequence[str]) -> Form:
        """The form for messages with these roles. Raises ValueError, with the reason, when none is shown whole."""
        form, problem = self._found(tuple(roles))
        if problem is not None:
            raise ValueError(problem)
        return form

    def _find(self, roles: tuple[str, ...]) -> tuple[Form, str | None]:
        messages = [{"role": role, "content": f"Text{number}x"} for number, role in enumerate(roles)]
        problems = []
        for form in _FORMS:
            problem = self._problem(form, messages)
            if problem is None:
                return form, None
            problems.append(problem)
        return as_posted, problems[0]

    def _problem(self, form: Form, messages: Messages) -> str | None:
        try:
            text = self._render(form(messages))
        except Exception as exc:  # noqa: BLE001 - a template is a program
            return f"its chat template refuses this conversation ({described(exc)})"
        missing = [message["role"] for message in messages if message["content"] not in text]
        return f"its chat template leaves out the text of a {missing[0]} message" if missing else None


def described(exc: Exception) -> str:
    """A template's own message, or another error with its type; cut, because it may quote the conversation."""
    text = str(exc) if isinstance(exc, TemplateError) else f"{type(exc).__name__}: {exc}"
    return textwrap.shorten(text, MAX_REASON_CHARS, placeholder="…") if len(text) > MAX_REASON_CHARS else text
