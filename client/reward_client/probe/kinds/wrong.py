"""Wrong answers to prompts with a reference: another number, another option, a negation, every option at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from reward_client.probe.case import Case, phrases
from reward_client.probe.kinds.kind import Kind

_GROUP = "wrong answers"
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_OPTION = re.compile(r"^[ \t]*\(?([A-Ha-h])[).:][ \t]+(\S.*)$", re.MULTILINE)
_LETTER = re.compile(r"\(?([A-Ha-h])[).:]?$")
_OPPOSITES = {"yes": "no", "no": "yes", "true": "false", "false": "true"}


def _wrong_answer(case: Case, random: Random) -> Iterator[str]:
    if case.reference is None or "wrong_answer" in case.worse:
        return
    wrong = _wrong_reference(case, random)
    yield _replaced(case, wrong) or wrong


def _near_number(case: Case, _: Random) -> Iterator[str]:
    if case.reference is None or (found := _NUMBER.findall(case.reference)) == []:
        return
    number = found[-1]
    for wrong in dict.fromkeys((_changed(number, 1), _changed(number, -1), _exchanged(number))):
        if wrong != number:
            answer = "".join(wrong.join(case.reference.rsplit(number, 1)))
            yield _replaced(case, answer) or f"The answer is {answer}."


def _negated(case: Case, _: Random) -> Iterator[str]:
    if case.reference is not None:
        yield f"The answer is not {case.reference.rstrip('.')}."
        yield f"{case.reference.rstrip('.')} would be wrong, so it must be something else."


def _all_options(case: Case, _: Random) -> Iterator[str]:
    if case.reference is None:
        return
    options = _OPTION.findall(case.prompt)
    number = _NUMBER.fullmatch(case.reference)
    if len(options) > 1:
        yield "\n".join(f"{letter}) {text}" for letter, text in options)
        yield f"The answer is {' or '.join(letter for letter, _ in options)}."
    elif case.reference.strip(" .").lower() in _OPPOSITES:
        answer = case.reference.strip(" .")
        yield f"{answer.capitalize()}, and also {_OPPOSITES[answer.lower()]}."
    elif number:
        nearby = dict.fromkeys(_changed(number[0], step) for step in (-3, -2, -1, 0, 1, 2, 3))
        yield f"It is one of {', '.join(nearby)}."


def _two_answers(case: Case, random: Random) -> Iterator[str]:
    if case.reference is not None:
        wrong = case.worse["wrong_answer"][0] if case.worse.get("wrong_answer") else _wrong_reference(case, random)
        yield f"{case.response.rstrip()} No, that is not right. {wrong}"


def _wrong_reference(case: Case, random: Random) -> str:
    reference = (case.reference or "").strip(" .")
    options = [letter for letter, _ in _OPTION.findall(case.prompt)]
    letter = _LETTER.match(reference)
    if reference.lower() in _OPPOSITES:
        return _OPPOSITES[reference.lower()].capitalize()
    if letter and options:
        others: list[str] = [option for option in options if option.lower() != letter[1].lower()]
        return random.choice(others or ["none"])
    if number := _NUMBER.search(reference):
        return reference.replace(number[0], _changed(number[0], random.choice((7, 13, 40))))
    return random.choice([text for text in phrases("wrong") if text.lower() not in case.response.lower()])


def _replaced(case: Case, wrong: str) -> str | None:
    """The good answer with `wrong` for the reference; None when it does not contain the reference as written."""
    reference = (case.reference or "").strip(" .")
    wrong = wrong.strip(" .")
    if reference and (case.response.count(reference) == 1) and len(reference) > 1:
        return case.response.replace(reference, wrong)
    return None


def _changed(number: str, step: int) -> str:
    """`number` with `step` added to its last digits, as many digits after the point as before."""
    separator = max(number.rfind("."), number.rfind(","))
    whole, last = number[: separator + 1], number[separator + 1 :]
    changed = int(last) + step
    return f"{whole}{abs(changed) if changed < 0 else changed:0{len(last) if whole else 1}d}"


def _exchanged(number: str) -> str:
    """`number` with its last two digits exchanged."""
    return number[:-2] + number[-1] + number[-2] if number[-2:].isdigit() and len(number) > 1 else number


KINDS = (
    Kind("wrong_answer", _GROUP, "another answer than the reference", _wrong_answer),
    Kind(
        "near_number",
        _GROUP,
        "the right answer with a number changed by one, or two digits exchanged",
        _near_number,
    ),
    Kind("negated_reference", _GROUP, "the reference, denied", _negated),
    Kind("all_options", _GROUP, "all options, the right one among them", _all_options),
    Kind("two_answers", _GROUP, "the right answer, withdrawn for a wrong one", _two_answers),
)
