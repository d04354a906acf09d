"""Chat templates: the text of Transformers, within a bound, whatever the template does."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from jinja2 import TemplateError

from reward_client.wire import ChatMessage
from reward_service.models.chat_template import ChatTemplate
from reward_service.models.conversation_forms import MAX_REASON_CHARS
from reward_service.models.gold_text import ChatText
from reward_service.models.protocols import Exchange
from tests import tiny_llama
from tests.gold_models import CHATML, byte_tokenizer

QWEN_LIKE = """\
{%- set ns = namespace(last=messages|length - 1, found=false) %}
{%- for message in messages[::-1] %}
{%- if not ns.found and message.role == "user" and message.content is string
       and not (message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
{%- set ns.found = true %}{%- set ns.last = messages|length - 1 - loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- set content = message.content if message.content is string else '' %}
{%- if message.role in ['user', 'system'] %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- elif message.role == "assistant" %}
{%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
{{- '<|im_start|>assistant\\n' + ('<think></think>\\n\\n' if loop.index0 > ns.last else '') ~ content }}<|im_end|>
{%- endif %}
{%- endfor %}"""

EVERYTHING = """\
{% macro turn(m, n=2) %}{{ m.role|upper }}{{ n }}{{ caller() if caller }}{% endmacro %}
{% for m in messages if m.content %}
  {{ turn(m) }} {% generation %}{{ m.content|trim }}{% endgeneration %} {{ loop.length }} {{ loop.revindex }}
  {{ loop.nextitem.role if not loop.last }} {{ loop.cycle('a', 'b') }}
  {% if loop.index > 3 %}{% break %}{% endif %}
{% else %}nothing{% endfor %}
{% for n in [[1, [2, 3]], [4, []]] recursive %}{{ n if n is number else loop(n[1]) ~ n[0] }}{% endfor %}
{% call turn({'role': 'x'}) %}called{% endcall %}{% filter upper %}abc{% endfilter %}
{% set block %}text{% endset %}{{ block }}{% set a, b = (1, 2) %}{{ a + b }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 10 }}
{{ messages|map(attribute='role')|unique|join(', ') }} {{ messages|tojson(indent=2) }} {{ {'b': 1}|dictsort }}
{{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ strftime_now('%Y') }} {{ [1, 2]|sum }}
{{ messages[0].content[:9]|e ~ 3 }} {{ '%s-%05d' % ('a', 3) }} {{ '{:>10}'.format('x') }} {{ 'ab'.center(9) }}
{{ messages[-1]['content'].replace('a', 'bb') }} {{ ', '.join(messages[0]) }} {{ missing|default('none') }}
{{ bos_token }}{{ 'a\\nb'|indent(4) }} {{ range(3)|list }} {{ 'abc'|batch(2)|list }} {{ 1.55|round(1) }}"""

TEMPLATES = {
    "ChatML": CHATML,
    "the test policies'": tiny_llama.CHAT_TEMPLATE,
    "like Qwen3's": QWEN_LIKE,
    "every construct": EVERYTHING,
}

CONVERSATIONS = [
    [("user", "why is the sky blue"), ("assistant", "<think>of</think>\n because of air")],
    [("system", "Be kind."), ("user", " Hi\n"), ("assistant", "Hello"), ("user", "Why?"), ("assistant", "")],
    [("user", "<b>&'\"\u2028é {{ x }} {% y %}" * 2000), ("assistant", "a\n" * 20_000)],
    [(("user", "assistant")[i % 2], "ab" * (i % 7)) for i in range(2000)],
]


def as_messages(turns: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


@pytest.mark.parametrize("turns", CONVERSATIONS, ids=["one turn", "several", "long texts", "2,000 turns"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_text_is_that_of_transformers(name: str, turns: list[tuple[str, str]]) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATES[name]
    messages = as_messages(turns)

    expected = tokenizer.apply_chat_template(messages, tokenize=False)

    assert ChatTemplate(TEMPLATES[name]).render(messages, **tokenizer.special_tokens_map) == expected


def repeated(start: str, value: str, output: str = "''") -> str:
    """A template that computes `value` of itself 60 times, from `start`."""
    steps = "{% for i in range(60) %}{% set n.x = " + value + " %}{% endfor %}"
    return "{% set n = namespace(x=" + start + ") %}" + steps + "{{ " + output + " }}"


LONG = "('a' * 500000)"
OUTPUT = "{% for a in range(99999) %}" + "x" * 9999 + "{% endfor %}"
UNBOUNDED = {
    "nested loops": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "a loop whose test is false": (
        "{% for a in range(99999) %}{% for b in range(99999) if b < 0 %}{% endfor %}{% endfor %}"
    ),
    "a recursive loop": "{% for a in [1, 1] recursive %}{{ loop([1, 1]) if loop.depth < 60 }}{% endfor %}",
    "a macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a branching macro": "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n }}{% endmacro %}{{ f(60) }}",
    "a block in itself": "{% block a %}{{ self.a() }}{% endblock %}",
    "output in a loop": OUTPUT,
    "output in a macro": "{% macro f() %}" + OUTPUT + "{% endmacro %}{{ f() }}",
    "output in a block": "{% set x %}" + OUTPUT + "{% endset %}",
    "a text times a number": "{{ 'a' * 10 ** 10 }}",
    "a number times a list": "{{ (10 ** 9 * [1])|length }}",
    "a text doubled by ~": repeated("'aa'", "n.x ~ n.x"),
    "a text doubled by +": repeated("'aa'", "n.x + n.x"),
    "a list of lists": repeated("[1]", "[n.x, n.x]", "n.x"),
    "a dict of dicts": repeated("{}", "{1: n.x, 2: n.x}", "n.x"),
    "a tuple as a key": repeated("(1,)", "(n.x, n.x)", "{n.x: 1}"),
    "a power": "{{ 9 ** (9 ** 9) }}",
    "a power of two": "{{ 2 ** (10 ** 9) }}",
    "squares": repeated("3", "n.x * n.x"),
    "a wide filter": "{{ 'a'|center(10 ** 9) }}",
    "a wide method": "{{ 'a'.ljust(10 ** 9) }}",
    "wide tabs": "{{ ('\\t' * 9999).expandtabs(99999) }}",
    "a wide format": "{{ '%1000000000d' % 1 }}",
    "a wide format with an argument": "{{ '{:{w}}'.format(1, w=10 ** 9) }}",
    "a wide format filter": "{{ '%999999999d'|format(1) }}",
    "a repeated format": "{{ ('{0}' * 99999).format(" + LONG + ") }}",
    "a repeated key": "{{ ('%(a)s' * 99999) % {'a': " + LONG + "} }}",
    "replacements": "{{ " + LONG + "|replace('a', " + LONG + ") }}",
    "replacements by a method": "{{ " + LONG + ".replace('', " + LONG + ") }}",
    "a long separator": "{{ range(99999)|join(" + LONG + ") }}",
    "a long separator of a method": "{{ " + LONG + ".join(range(99999)|map('string')) }}",
    "a list of one long text": "{{ ([" + LONG + "] * 99999)|join }}",
    "indented lines": "{{ ('a\\n' * 99999)|indent(99999) }}",
    "indented JSON": "{{ [1]|tojson(indent=10 ** 9) }}",
    "bytes of a number": "{{ (1).to_bytes(10 ** 9, 'big') }}",
    "a translation": "{{ " + LONG + ".translate({97: " + LONG + "}) }}",
    "a precise number": "{{ 1.5|round(10 ** 9, 'ceil') }}",
    "a sum of lists": "{{ ([[1] * 999] * 999)|sum(start=[]) }}",
    "batches": "{{ [1]|batch(10 ** 9, 0)|list }}",
    "slices": "{{ [1]|slice(10 ** 9)|list }}",
    "a range": "{{ range(10 ** 9)|list }}",
    "searches of a list": "{% set x = range(99999)|list %}{% for i in x %}{{ 'a' in x }}{% endfor %}",
    "searches by a test": "{{ range(99999)|map('string')|select('in', range(99999)|list)|list }}",
    "searches of a text": "{% for i in range(99999) %}{{ " + LONG + ".count('b') }}{% endfor %}",
    "copies of a text": "{% set x = " + LONG + " %}{% for i in range(99999) %}{% set y = x[1:] %}{% endfor %}",
    "random words": "{{ lipsum(n=9999, max=9999) }}",
}

USUAL = as_messages(CONVERSATIONS[3])


@pytest.fixture(scope="module")
def usual_s() -> float:
    """CPU seconds of rendering 2,000 turns with every construct."""
    template = ChatTemplate(EVERYTHING)
    template.render(USUAL)
    started = time.thread_time()
    template.render(USUAL)
    return time.thread_time() - started


@pytest.mark.parametrize("name", UNBOUNDED)
def test_a_template_without_bound_is_an_error_in_bounded_time(name: str, usual_s: float) -> None:
    template = ChatTemplate(UNBOUNDED[name])

    started = time.thread_time()
    with pytest.raises(Exception):  # noqa: B017, PT011 - each way to go too far has an error of its own
        template.render(as_messages(CONVERSATIONS[0]), bos_token="")
    assert time.thread_time() - started < max(3.0, 100 * usual_s)


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__.__mro__",
        "''['__class__'].__mro__",
        "(''|attr('__class__')).__mro__",
        "'{0.__class__.__mro__}'.format('').x.y",
        "raise_exception.__globals__.x",
        "cycler.__init__.__globals__",
        "self.__init__.__globals__",
        "messages.append(1)",
        "messages[0].update({'role': 'x'})",
        "messages.clear()",
    ],
)
def test_a_template_cannot_reach_python_or_change_its_input(expression: str) -> None:
    messages = as_messages(CONVERSATIONS[0])

    with pytest.raises(TemplateError):
        ChatTemplate("{{ " + expression + " }}").render(messages)
    assert messages == as_messages(CONVERSATIONS[0])


FAILURES = {
    "ZeroDivisionError": "1 / 0",
    "TypeError": "1 + 'a'",
    "ValueError": "'a'.index('b')",
    "UnicodeEncodeError": "'é'.encode('ascii')",
    "LookupError": "'a'.encode('nope')",
    "IndexError": "'{}{}'.format(1)",
    "KeyError": "'{a}'.format(b=1)",
    "OverflowError": "10.0 ** 1000",
    "RuntimeError": "cycler()",
    "is undefined": "nothing.at.all",
    "no tools here": "raise_exception('no tools here')",
    "too many steps": "range(99999)|map('string')|select('in', range(99999)|list)|list",
}


def chat_text(expression: str) -> ChatText:
    """A reader with a template that uses `expression` for conversations that begin with "Hi"."""
    shown = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
    return with_template(shown + "{% if messages[0].content[:2] == 'Hi' %}{{ " + expression + " }}{% endif %}")


def with_template(source: str) -> ChatText:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = source
    return ChatText(tokenizer, 256)


@pytest.mark.parametrize("named", FAILURES)
def test_any_exception_of_a_template_is_the_items_error_with_its_reason(named: str) -> None:
    exchange = Exchange((ChatMessage(role="user", content="Hi"),), "ok")

    with pytest.raises(ValueError, match=f"its chat template refuses this conversation .*{named}"):
        chat_text(FAILURES[named])(exchange)


def test_a_templates_reason_is_cut_so_that_an_error_does_not_repeat_the_conversation() -> None:
    exchange = Exchange((ChatMessage(role="user", content="Hi" + " word" * 10_000),), "ok")

    with pytest.raises(ValueError, match="Hi word word") as raised:
        chat_text("raise_exception(messages[0].content)")(exchange)
    assert len(str(raised.value)) < MAX_REASON_CHARS + 100


def test_a_text_that_the_tokenizer_cannot_read_is_the_items_error() -> None:
    exchange = Exchange((ChatMessage(role="user", content="Hi"),), "ok")

    with pytest.raises(ValueError, match="its tokenizer cannot read this text"):
        chat_text("'\\ud800'")(exchange)


@pytest.mark.parametrize("source", ["{% for %}", "{{ x|no_such_filter }}", "{% if x %}"])
def test_a_template_that_is_not_jinja_is_an_error_at_load(source: str) -> None:
    with pytest.raises(ValueError, match="its chat template is invalid"):
        with_template(source)


def test_threads_have_separate_bounds() -> None:
    """Four renderings in turn would exceed one rendering's steps."""
    template = ChatTemplate(
        "{% for m in messages %}{% for i in range(400) %}{% endfor %}{{ m.content }}{% endfor %}"
    )
    messages = as_messages([("user", "a")] * 400)
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(template.render(messages))) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert texts == ["a" * 400] * 4
