"""Chat templates of models, rendered with a bound on steps and on text.

    tokenizer.chat_template ─▶ ChatTemplate ─▶ render(messages) ─▶ text          as Transformers renders it
                                          └─▶ any exception: the template cannot render this conversation

A template is a program that comes with the model's files. Jinja's sandbox keeps it away from Python's internals.
The bound is this module's: each iteration, call, filter, test and operator is a step, and a step on a long value
counts as several; no value, with all its parts, and no output is longer than a multiple of the conversation. An
operation that could build a long text at once is checked before it runs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import wraps
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, operators
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from reward_service.models.template_budget import Budget, check_growth, check_operator

CHARS_PER_MESSAGE = 100
"""Characters that a message counts at least, for its role and its part of the template."""
CHARS_PER_CALL = 192
"""Characters that a call counts as, because it takes as long as four iterations."""
_LACKING_FILTERS = ("pprint", "urlize", "wordwrap", "xmlattr")
_GROWING_FILTERS = frozenset(
    {"batch", "center", "format", "indent", "join", "replace", "round", "slice", "sum", "tojson"}
)
"""Filters whose result may be much longer than their value."""

_Visit = Callable[[Any, Frame], None]


class _Thread(threading.local):
    """What each thread renders."""

    def __init__(self) -> None:
        self.budget = Budget(0)


class _BoundedCode(CodeGenerator):
    """Jinja's compiler, with a step at each iteration and a check of values that operators compute."""

    def visit_EnvironmentAttribute(self, node: nodes.EnvironmentAttribute, _: Frame) -> None:  # noqa: N802
        """Only `visit_For` uses this node: a call of the environment's method."""
        self.write(f"environment.{node.name}()")

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802
        step = nodes.EnvironmentAttribute("step", lineno=node.lineno)
        node.body = [nodes.ExprStmt(step, lineno=node.lineno), *node.body]
        if node.test is not None:
            node.test = nodes.And(step, node.test, lineno=node.lineno)
        super().visit_For(node, frame)

    def visit_Operand(self, node: nodes.Operand, frame: Frame) -> None:  # noqa: N802
        self.write(f" {operators[node.op]} ")
        self._used(self.visit, node.expr, frame, needed=not isinstance(node.expr, nodes.Literal))

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        self._used(super().visit_Getitem, node, frame, needed=isinstance(node.arg, nodes.Slice))

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self._used(super().visit_Concat, node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self._used(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._used(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        self._used(super().visit_Tuple, node, frame, needed=node.ctx == "load")

    def _used(
        self, visit: Callable[[Any, Frame], None], node: nodes.Expr, frame: Frame, needed: bool = True
    ) -> None:
        """Write the expression of `node`, as an argument of the environment's `used`."""
        parts = node.iter_child_nodes()
        is_constant = isinstance(node, nodes.Literal) and all(isinstance(part, nodes.Const) for part in parts)
        needed = needed and not is_constant
        self.write("environment.used(" if needed else "")
        visit(node, frame)
        self.write(")" if needed else "")


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`, with which Transformers marks the text of the assistant."""

    tags = {"generation"}  # noqa: RUF012 - as in Jinja

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller: Callable[[], str]) -> str:
        return caller()


class _BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The environment of Transformers' chat templates, with the bound."""

    code_generator_class = _BoundedCode
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.globals |= {"raise_exception": _raise, "strftime_now": _strftime_now}
        del self.globals["lipsum"]
        for name in _LACKING_FILTERS:
            del self.filters[name]
        self.filters["tojson"] = _tojson
        self.filters = {name: self._bounded(name, one) for name, one in self.filters.items()}
        self.tests = {name: self._bounded("", one) for name, one in self.tests.items()}
        self.thread = _Thread()

    def step(self) -> bool:
        self.thread.budget.step()
        return True

    def used(self, value: Any) -> Any:
        self.thread.budget.use(value)
        return value

    def concat(self, parts: Iterable[str]) -> str:
        found, n_chars, budget = [], 0, self.thread.budget
        for part in parts:
            n_chars += len(part)
            budget.check_chars(n_chars)
            found.append(part)
        budget.step(n_chars)
        return "".join(found)

    def call(self, context: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        method = getattr(called, "__wrapped__", called)  # the sandbox's str.format
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str | bytes | int):
            args = (list(args[0]),) if method.__name__ == "join" and args else args
            check_growth(self.thread.budget, method.__name__, owner, [*args, *kwargs.values()])
        self.thread.budget.step(CHARS_PER_CALL)
        return self.used(super().call(context, called, *args, **kwargs))

    def call_binop(self, _: Any, operator: str, left: Any, right: Any) -> Any:
        if operator in {"%", "*", "**"}:
            check_operator(self.thread.budget, operator, left, right)
        return self.used(self.binop_table[operator](left, right))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr != "translate" and super().is_safe_attribute(obj, attr, value)

    def _bounded(self, name: str, function: Any) -> Any:
        """A filter or test that counts as a step and is checked."""
        first = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            value, rest = args[first], args[first + 1 :]
            if name in _GROWING_FILTERS:
                value = list(value) if name == "join" else value
                check_growth(self.thread.budget, name, value, [*rest, *kwargs.values()])
            else:
                for one in rest:
                    self.thread.budget.use(one)
            self.thread.budget.step(len(value) if isinstance(value, str | bytes) else 0)
            return self.used(function(*args[:first], value, *rest, **kwargs))

        return bounded


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as chat templates need it: Jinja's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(format: str) -> str:  # noqa: A002 - the templates' name
    return datetime.now().strftime(format)  # noqa: DTZ005 - as in Transformers


class ChatTemplate:
    """A chat template, compiled once; `render` may be called in several threads.

    Raises:
        TemplateSyntaxError: `source` is not a Jinja template.
    """

    def __init__(self, source: str) -> None:
        self._environment = _BoundedEnvironment()
        self._template = self._environment.from_string(source)

    def render(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The text of `messages`. Raises any exception: a template is a program."""
        texts = (text for message in messages for text in message.values() if isinstance(text, str))
        n_chars = sum(map(len, texts)) + CHARS_PER_MESSAGE * len(messages)
        self._environment.thread.budget = Budget(n_chars)
        return self._template.render(
            messages=messages, tools=None, documents=None, add_generation_prompt=False, **variables
        )
