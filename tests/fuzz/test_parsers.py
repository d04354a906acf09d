"""Parsers return a value or raise their documented error for any input."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from reward_client.wire import Item, ScoreRequest
from reward_service.errors import InvalidRequestError
from reward_service.features.builtin import length_incentive
from reward_service.features.repetition import word_repetition
from reward_service.features.text import clean_response, words
from reward_service.http.json_codec import parse
from reward_service.protocols.chat_templates import clean, parse_prompt
from reward_service.protocols.openrlhf import OpenRlhfRequest
from reward_service.protocols.rendered_text import split_query
from reward_service.settings import Settings
from tests.generated_cases import cases

pytestmark = pytest.mark.slow

SETTINGS = Settings()

PIECES = [
    *("<|im_start|>", "<|im_end|>", "<|im_", "end|>", "start|>", "user\n", "assistant\n", "system\n", "poet\n"),
    *("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", "<|begin_of_text|>", "<s>", "</s>", "<</s>s>"),
    *(
        "<think>",
        "</think>",
        "<start_of_turn>",
        "<|channel|>final<|message|>",
        "<|start|>",
        "<｜User｜>",
        "USER: ",
    ),
    *(
        "<|user|>",
        "<|end|>",
        "ASSISTANT:",
        "<｜User｜>",
        "[THINK]",
        "<pad>",
        "<|turn>",
        "<turn|>",
        "[SYSTEM_PROMPT]",
    ),
    *("[INST]", "[/INST]", "[/INST", "<<SYS>>", "<</SYS>>", "### Instruction:\n", "### Response:", "### Input:\n"),
    *(
        "Below is an instruction that describes a task",
        "\n",
        " ",
        "\ufffd",
        "word",
        "\x00",
        "\u202e",
        "\U0001f600",
    ),
]
marked = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=40).map("".join)


@cases(400)
@given(prompt=marked | st.none(), answer=marked)
@example(prompt="", answer="")
@example(prompt=None, answer="<|im_start|>assistant\n")
def test_a_query_is_split_or_raises_value_error(prompt: str | None, answer: str) -> None:
    try:
        exchange = clean((prompt or "") + answer, prompt)
    except ValueError:
        return
    assert len(exchange.response) <= len(answer) + len("<think></think>")
    assert set(exchange.flags) <= {
        *("truncated", "special_tokens_removed", "text_after_end"),
        *("unknown_template", "unknown_special_tokens"),
    }
    assert all(message.content is not None for message in exchange.messages)


@cases(400)
@given(query=marked, prompt=marked)
def test_an_unrelated_query_and_prompt_are_split_or_raise_value_error(query: str, prompt: str) -> None:
    try:
        response = split_query(query, prompt)
    except ValueError:
        return
    assert query.endswith(response)


@cases(200)
@given(prompt=marked)
def test_a_prompt_is_parsed_or_raises_a_plain_value_error(prompt: str) -> None:
    reason = None
    try:
        parse_prompt(prompt)
    except ValueError as exc:
        reason = str(exc)
    assert "pydantic" not in (reason or "")


@cases(400)
@given(answer=marked)
def test_one_pass_removes_the_same_markers_as_repeated_removal(answer: str) -> None:
    """Compares the single pass with the simple loop, for ChatML."""
    prompt = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    markers = re.compile(
        r"<\|(?:im_start|im_end|endoftext|begin_of_text|end_of_text|start_header_id|end_header_id|eot_id|eom_id"
        r"|finetune_right_pad_id)\|>"
    )
    expected = re.split(r"<\|im_end\|>|<\|endoftext\|>", answer)[0]
    while markers.search(expected):
        expected = markers.sub("", expected)

    assert clean(prompt + answer, prompt).response == expected


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
item = st.fixed_dictionaries(
    {"prompt": st.text() | values, "response": st.text() | values},
    optional={"reference": st.text() | values, "query_type": st.text() | values, "id": st.text() | values},
)
near_requests = st.fixed_dictionaries(
    {"items": st.lists(item, max_size=3) | values},
    optional={"recipe": values, "recipe_overrides": values, "gold": values, "step": values, "run": values},
)


@cases(400)
@given(st.binary(max_size=200) | (near_requests | values).map(lambda v: json.dumps(v).encode()))
def test_a_body_is_parsed_or_the_error_names_a_field(content: bytes) -> None:
    for model in (ScoreRequest, OpenRlhfRequest):
        error = None
        try:
            parsed = parse(model, content, SETTINGS)
        except InvalidRequestError as exc:
            error = exc
        if error is None:
            assert type(parsed).model_validate_json(parsed.model_dump_json()) == parsed
        else:
            assert error.errors
            assert all(field_error.field for field_error in error.errors)


LARGE = 300_000
"""Bytes above which a body is parsed element by element."""


@cases(100)
@given(
    st.binary(max_size=200)
    | (near_requests | values).map(lambda v: json.dumps(v).encode())
    | near_requests.map(lambda v: json.dumps(v, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")),
    st.sampled_from([ScoreRequest, OpenRlhfRequest]),
)
@example(b'{"items": [{"prompt": "\\ud83d\\ude00", "response": "\\ud83d"}]}', ScoreRequest)
@example(b'{"query": "a", "labels": ' + b"[" * 198 + b"]" * 198 + b"}", OpenRlhfRequest)
@example(b'{"query": "a", "labels": ' + b"[" * 210 + b"]" * 210 + b"}", OpenRlhfRequest)
@example(b'{"query": "a", "labels": 1' + b"0" * 5_000 + b"}", OpenRlhfRequest)
@example(b'{"query": "a", "labels": {"a": 1, "a": 2}}', OpenRlhfRequest)
@example(b'{"query": "a",}', OpenRlhfRequest)
@example(b'{"query": []}', OpenRlhfRequest)
@example(b"{}", OpenRlhfRequest)
def test_a_large_body_is_parsed_like_a_small_one(
    content: bytes, model: type[ScoreRequest | OpenRlhfRequest]
) -> None:
    def outcome(body: bytes) -> object:
        try:
            return parse(model, body, SETTINGS)
        except InvalidRequestError as exc:
            return str(exc), [(e.item, e.field, re.sub(r"at character \d+", "", e.message)) for e in exc.errors]

    assert outcome(content + b" " * LARGE) == outcome(content)
    if content.startswith(b"{"):
        assert outcome(b"{" + b" " * (LARGE - 7) + content[1:]) == outcome(content)


@cases(200)
@given(st.dictionaries(st.text(max_size=5), st.integers(), min_size=1, max_size=4), st.integers(0, 3), st.data())
def test_a_duplicate_key_is_rejected_at_any_depth(fields: dict[str, int], depth: int, data: Any) -> None:
    key = data.draw(st.sampled_from(sorted(fields)))
    duplicate = json.dumps(fields)[:-1] + f", {json.dumps(key)}: 0}}"
    label = '{"a": [' * depth + duplicate + "]}" * depth
    body = f'{{"query": "a?b", "labels": {label}}}'.encode()

    with pytest.raises(InvalidRequestError) as refusal:
        parse(OpenRlhfRequest, body, SETTINGS)

    assert [error.field.endswith(key) for error in refusal.value.errors] == [True]


@cases(200)
@given(st.text(max_size=20) | st.sampled_from(["str", "strict", "list[int]", "function-x"]))
def test_the_error_names_an_unknown_field(key: str) -> None:
    assume(key not in Item.model_fields)
    body = json.dumps({"items": [{"prompt": "a", "response": "b"} | {key: 1}]}).encode()

    with pytest.raises(InvalidRequestError) as refusal:
        parse(ScoreRequest, body, SETTINGS)

    assert [error.field for error in refusal.value.errors] == [f"items.0.{key}"]


@cases(400)
@given(st.text(alphabet=st.characters(), max_size=400) | marked)
def test_features_of_any_text_are_finite_and_in_range(text: str) -> None:
    counted = words(clean_response(text, ("\n\nHuman:",)))

    assert 0 <= length_incentive(counted) < math.inf
    assert 0 < word_repetition(counted) <= 1
