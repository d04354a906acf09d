"""Chat templates: what a template renders is split into the same messages and response again."""

from __future__ import annotations

import contextlib

import jinja2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reward_service.protocols.chat_templates import PromptError, clean, parse_prompt
from tests.cost import assert_in_proportion
from tests.fixtures.chat_templates import ENDS, SYSTEM_MERGED, TEMPLATES
from tests.generated_cases import cases

Conversation = list[tuple[str, str]]

WITHOUT_SYSTEM = {"alpaca"}
HARMONY_FINAL = "<|channel|>final<|message|>"

texts = st.text(
    st.characters(blacklist_characters="<>[]#|｜▁", blacklist_categories=("Cs", "Cc")), min_size=1, max_size=60
).map(str.strip)
paragraphs = st.lists(texts.filter(bool), min_size=1, max_size=3).map("\n\n".join)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """An optional system message, then turns that begin and end with the user."""
    n_turns = draw(st.integers(0, 2))
    system = draw(paragraphs | st.none())
    turns = [("system", system)] if system is not None else []
    for _ in range(n_turns):
        turns += [("user", draw(paragraphs)), ("assistant", draw(paragraphs))]
    return [*turns, ("user", draw(paragraphs))]


def render(family: str, conversation: Conversation) -> str:
    environment = jinja2.Environment(keep_trailing_newline=True)  # noqa: S701 (no HTML)
    messages = [{"role": role, "content": content} for role, content in conversation]
    return environment.from_string(TEMPLATES[family]).render(messages=messages)


def expected(family: str, conversation: Conversation) -> Conversation:
    system = [content for role, content in conversation if role == "system"]
    rest = [turn for turn in conversation if turn[0] != "system"]
    if not system or family in WITHOUT_SYSTEM:
        return rest
    if family in SYSTEM_MERGED:
        return [("user", f"{system[0]}\n\n{rest[0][1]}"), *rest[1:]]
    return [("developer" if family == "harmony" else "system", system[0]), *rest]


def is_ambiguous(family: str, conversation: Conversation) -> bool:
    """Whether a text says what only the template says, or a role's word stands at its start."""
    words = ("USER:", "ASSISTANT:", "Today Date:", "Cutting Knowledge", "You are", "A chat between")
    return any(word in content for _, content in conversation for word in words)


@pytest.mark.parametrize("family", TEMPLATES)
@cases(60)
@given(conversation=conversations(), answer=paragraphs)
def test_a_rendered_conversation_is_split_into_its_messages_and_the_response(
    family: str, conversation: Conversation, answer: str
) -> None:
    assume(not is_ambiguous(family, [*conversation, ("assistant", answer)]))
    prompt = render(family, conversation)
    response = (HARMONY_FINAL if family == "harmony" else "") + answer
    if family == "deepseek-r1":
        response = f"A thought.\n</think>\n\n{answer}"

    exchange = clean(prompt + response + ENDS.get(family, "<|im_end|>"), prompt)

    assert [(m.role, m.content.strip()) for m in exchange.messages] == expected(family, conversation)
    thought = "<think>A thought.\n</think>" if family == "deepseek-r1" else ""
    assert exchange.response.strip().removeprefix(thought).strip() == answer
    assert not {"truncated", "text_after_end", "unknown_template", "unknown_special_tokens"} & set(exchange.flags)


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize("padding", ["<pad>", "</s>", "<|endoftext|>", "<unk>", "[PAD]", "<|my_own_padding|>"])
def test_padding_on_either_side_changes_nothing(family: str, padding: str) -> None:
    prompt = render(family, [("user", "Why do leaves turn red?")])
    answer = (HARMONY_FINAL if family == "harmony" else "") + "Because chlorophyll fades."
    query = prompt + answer + ENDS.get(family, "<|im_end|>")

    assert clean(padding * 7 + query + padding * 5, prompt) == clean(query, prompt)


@pytest.mark.parametrize(
    "prompt",
    ["<|startofturn|>user\nWhy?<|endofturn|>", "<｜Utilisateur｜>Why?<｜Assistant｜>", "<|begin|>q<|answer|>"],
)
def test_a_template_that_is_not_known_is_flagged(prompt: str) -> None:
    exchange = clean(prompt + "Because.</s>", prompt)

    assert "unknown_template" in exchange.flags


def test_markers_that_the_format_does_not_have_are_flagged_in_a_response() -> None:
    prompt = render("mistral-v7", [("user", "Why?")])

    assert "unknown_special_tokens" in clean(prompt + "Because <|tool_call_begin|> of it.</s>", prompt).flags
    assert "unknown_special_tokens" not in clean(prompt + "Use a < b and <b>bold</b>.</s>", prompt).flags


@pytest.mark.parametrize("family", ["qwen-3", "llama-3", "gemma", "phi-3", "command-r", "gemma-4"])
def test_an_unknown_role_is_an_error_of_the_prompt(family: str) -> None:
    prompt = render(family, [("user", "Why?")]).replace("user", "poet").replace("USER", "POET")
    if clean_is_plain(prompt):
        pytest.skip("the header of this family names its roles, so another role is no header")

    with pytest.raises(PromptError, match=r"poet|POET"):
        parse_prompt(prompt)


def clean_is_plain(prompt: str) -> bool:
    try:
        return "unknown_template" in clean(prompt + "x", prompt).flags
    except PromptError:
        return False


THOUGHTS = {
    "qwen-3": "<think>\nLet me see.\n</think>\n\nRed.",
    "gemma-4": "<|channel>thought\nLet me see.\n<channel|>Red.",
    "command-r": "<|START_THINKING|>Let me see.<|END_THINKING|><|START_RESPONSE|>Red.<|END_RESPONSE|>",
    "mistral-v7": "[THINK]Let me see.[/THINK]Red.",
    "harmony": "<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant<|channel|>final<|message|>Red.",
    "deepseek-r1": "Let me see.\n</think>\n\nRed.",
}


@pytest.mark.parametrize("family", THOUGHTS)
def test_reasoning_is_marked_in_one_way_whatever_the_family_writes(family: str) -> None:
    prompt = render(family, [("user", "Which colour?")])

    exchange = clean(prompt + THOUGHTS[family] + ENDS.get(family, "<|im_end|>"), prompt)

    thought, closed, answer = exchange.response.partition("</think>")
    assert closed
    assert thought.removeprefix("<think>").strip() == "Let me see."
    assert answer.strip() == "Red."
    assert "unknown_special_tokens" not in exchange.flags


@pytest.mark.parametrize("family", THOUGHTS)
def test_reasoning_that_does_not_end_is_marked_as_open(family: str) -> None:
    prompt = render(family, [("user", "Which colour?")])
    opening = THOUGHTS[family].partition("Let me see.")[0]

    response = clean(f"{prompt}{opening}Let me see. And", prompt).response

    assert response.startswith("<think>")
    assert "</think>" not in response


LONG = 200_000
ODD = {
    "a long word": "a" * LONG,
    "spaces": " " * LONG,
    "angle brackets": "<" * LONG,
    "bars": "<|" * (LONG // 2),
    "system marks": "<<SYS>>" * (LONG // 7),
    "channels": "<|channel|>" * (LONG // 11),
    "new lines": "\n" * LONG,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("family", TEMPLATES)
def test_texts_of_odd_characters_are_read_in_linear_time(family: str, odd: str) -> None:
    prompt = render(family, [("user", "Why?")])
    header = prompt.split("Why?", 1)[0].rstrip()

    def read(text: str) -> None:
        for query, sent in ((prompt + text, prompt), (header + text, header + text[:-1]), (header + text, None)):
            with contextlib.suppress(ValueError):
                clean(query, sent)

    assert_in_proportion(read, ODD[odd])


@pytest.mark.parametrize("family", ["qwen-3", "llama-3", "gemma", "gemma-4", "llama-4"])
def test_a_marker_that_a_user_quotes_is_text(family: str) -> None:
    header = render(family, [("user", "Why?")]).rpartition("Why?")[0]
    mark = header[max(header.rfind("<|"), header.rfind("<start")) :].replace("user", "whatever")
    question = f"What does {mark.split('whatever')[0]}whatever{mark.partition('whatever')[2]} mean?"

    [*_, message] = parse_prompt(render(family, [("user", question)]))

    assert message.role == "user"
    assert "mean?" in message.content
