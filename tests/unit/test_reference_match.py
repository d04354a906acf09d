"""Whether the answer that a response commits to is the reference: kinds, hostile texts, what is not judged."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from calendar import month_name
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_service.features.reference_match import reference_flags, reference_match
from tests.cost import assert_at_most, assert_in_proportion

ROWS = Path(__file__).parent.parent / "fixtures" / "reference_match.jsonl"
"""Prompts, references and responses with a verdict; `held_back` rows were not looked at during development."""

PRODUCT = "What is 17 × 23?"
CITIES = "Which city is the capital of France?\nA. Lyon\nB. Paris\nC. Nice"
TINY = 1e-9


@cache
def rows(held_back: bool) -> list[dict[str, Any]]:
    every = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    return [row for row in every if row["held_back"] is held_back]


def is_judged_well(row: dict[str, Any]) -> bool:
    value = reference_match(row["prompt"], row["response"], row["reference"])
    assert value is not None, row
    return value >= 0.9 if row["verdict"] == "right" else value < (0.9 if row["kind"] == "list" else TINY)


@pytest.mark.parametrize("held_back", [False, True])
def test_verdicts_are_those_of_a_person(held_back: bool) -> None:
    found = [(row["kind"], is_judged_well(row)) for row in rows(held_back)]
    kinds = {kind for kind, _ in found}

    shares = {
        kind: sum(good for k, good in found if k == kind) / sum(k == kind for k, _ in found) for kind in kinds
    }
    assert kinds == {"number", "option", "yes_no", "date", "list", "exact", "math"}
    assert sum(good for _, good in found) / len(found) >= 0.98
    assert min(shares.values()) >= 0.93, shares


@pytest.mark.parametrize("held_back", [False, True])
def test_the_flag_names_the_kind_of_reference(held_back: bool) -> None:
    wrong = [
        row["reference"]
        for row in rows(held_back)
        if reference_flags(row["prompt"], row["reference"]) != [f"reference_{row['kind']}"]
    ]

    assert wrong == []


def test_at_least_a_fifth_of_the_rows_is_held_back() -> None:
    assert len(rows(True)) * 5 >= len(rows(True)) + len(rows(False)) >= 250


@pytest.mark.parametrize(
    ("prompt", "reference", "right", "wrong"),
    [
        ("Which city is the largest?\nA. Istanbul\nB. Izmir", "A", "İstanbul", "İzmir"),
        ("How many people live there?", "2 million", "2 mıllion", "3 MİLLİON"),
        ("Is the sum correct?", "no", "Incorrect.", "The sum is not ıncorrect."),
        ("Is the sum correct?", "no", r"\boxed{ıncorrect}", r"\boxed{CORRECT}"),
        ("When was it?", "3 April 1990", "3 Aprıl 1990", "4 APRİL 1990"),
        ("Where is it?", "Diyarbakır", "Diyarbakir", "Adana"),
    ],
)
def test_turkish_letters_are_read_as_the_i_that_they_are_matched_with(
    prompt: str, reference: str, right: str, wrong: str
) -> None:
    assert reference_match(prompt, right, reference) == 1.0
    assert reference_match(prompt, wrong, reference) == 0.0


CAPITAL, EQUATION = "What is the capital of Australia?", "Solve x^2 - 8x + 15 = 0."


@pytest.mark.parametrize(
    ("prompt", "reference", "responses"),
    [
        (EQUATION, "x = 3 or x = 5", ["x = 3 or x = 5", "x=5 or x=3", "3 and 5", "x = 3, x = 5"]),
        (EQUATION, "x = 3 and x = 5", ["x = 3 and x = 5", "The solutions are $x = 3$ and $x = 5$."]),
        (EQUATION, "x = 3, x = 5", ["x = 3, x = 5", "x = 5 and x = 3"]),
        ("When was it founded?", "1886", ["It was founded on May 8, 1886.", "May 8, 1886", "8 May 1886"]),
        ("How many seconds has an hour?", "3600", ["An hour has 3,600 seconds (60 × 60)."]),
        ("Is the Earth flat?", "no", ["Absolutely not.", "It is not.", "Definitely not, it is round."]),
        ("Is 7 prime?", "yes", ["Of course!", "Absolutely."]),
        (
            CAPITAL,
            "Canberra",
            ["The capital is Canberra, which lies between Sydney and Melbourne.", "Sure! Canberra."],
        ),
        (CAPITAL, "Canberra", ["Canberra\n\nKey facts:\n- Founded in 1913\n- Inland city", "Canberra (ACT)"]),
    ],
)
def test_right_answers_as_people_write_them(prompt: str, reference: str, responses: list[str]) -> None:
    assert [reference_match(prompt, response, reference) for response in responses] == [1.0] * len(responses)


@pytest.mark.parametrize(
    ("prompt", "reference", "responses"),
    [
        (EQUATION, "x = 3 or x = 5", ["5", "x = 5", "x = 2 or x = 5", "x = 1"]),
        (EQUATION, "x = 3 and x = 5", ["x = 5", "x = 2 and x = 5"]),
        ("When was it founded?", "1886", ["May 8, 1887", "1885, 1886", "1885 or 1886"]),
        (CAPITAL, "Canberra", ["Canberra\nSydney\nPerth", "- Canberra\n- Sydney", "Canberra. Sydney. Hobart."]),
        (CAPITAL, "Canberra", ["Canberra Sydney Perth Hobart", "1. Canberra\n2. Sydney"]),
        (CAPITAL, "Canberra", ["Some say Canberra, but it is Sydney."]),
        ("What color is the sky?", "blue", ["blue\nred\ngreen", "blue red green"]),
        ("What is 17 × 23?", "391", ["The answer is 391. No, it's 381."]),
    ],
)
def test_wrong_and_listed_answers(prompt: str, reference: str, responses: list[str]) -> None:
    found = [reference_match(prompt, response, reference) for response in responses]

    assert None not in found
    assert max(value or 0.0 for value in found) < 0.9


@pytest.mark.parametrize(
    "reference",
    [
        "Because air scatters short wavelengths of sunlight more strongly than long ones.",
        "Water evaporates. Then it condenses into clouds.",
        "It depends on the size of the pot, and on how much water there is in it.",
        "x" * 3000,
    ],
)
def test_free_text_is_not_judged(reference: str) -> None:
    assert reference_match("Why?", reference, reference) is None
    assert reference_flags("Why?", reference) == []


# Numbers ------------------------------------------------------------------------------------------------------

WORDS = """
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
"""
ONES, TENS = ["", *WORDS.split()[:19]], ["", "", *WORDS.split()[19:]]


def in_words(number: int) -> str:
    for size, name in ((10**6, "million"), (10**3, "thousand"), (100, "hundred")):
        if number >= size:
            rest = f" {in_words(number % size)}" if number % size else ""
            return f"{in_words(number // size)} {name}{rest}"
    return ONES[number] if number < 20 else "-".join(filter(None, (TENS[number // 10], ONES[number % 10])))


NUMBERS = st.integers(min_value=2, max_value=999_999_999)
SPELLINGS = st.sampled_from(
    [str, "{:,}".format, lambda n: f"{n:,}".replace(",", " "), in_words, "{}.0".format, "+{}".format, "{}.".format]
)
SENTENCES = st.sampled_from(
    [
        "{}",
        "The answer is {}.",
        "It is {}",
        "\\boxed{{{}}}",
        "**{}**",
        "Answer: {}",
        "First 4, then 9. So it is {}.",
    ]
)


@given(number=NUMBERS, spelling=SPELLINGS, sentence=SENTENCES)
def test_a_number_is_right_in_any_spelling(number: int, spelling: Any, sentence: str) -> None:
    assert reference_match("How many?", sentence.format(spelling(number)), str(number)) == 1


@given(number=NUMBERS, off=st.sampled_from([-1, 1, 10]), spelling=SPELLINGS, sentence=SENTENCES)
def test_another_number_is_wrong_in_any_spelling(number: int, off: int, spelling: Any, sentence: str) -> None:
    assert reference_match("How many?", sentence.format(spelling(number + off)), str(number)) == 0


@given(number=NUMBERS, other=NUMBERS, joiner=st.sampled_from([" or ", ", ", "/", " and ", ", maybe ", "\n", " "]))
def test_a_right_number_beside_another_is_wrong(number: int, other: int, joiner: str) -> None:
    if number != other:
        assert reference_match("How many?", f"{number}{joiner}{other}", str(number)) == 0
        assert reference_match("How many?", f"The answer is {other}{joiner}{number}.", str(number)) == 0


@pytest.mark.parametrize(
    ("reference", "response", "value"),
    [
        ("3,5", "3.5", 1),  # a decimal comma in the reference
        ("3,5", "35", 0),
        ("1.250.000", "1,250,000", 1),
        ("0.5", "50%", 1),
        ("50%", "0.5", 1),
        ("50%", "5%", 0),
        ("2/3", "0.667", 0),  # less precise than the reference
        ("0.667", "2/3", 1),
        ("4", "3.75", 0),  # a whole number is not a rounded one
        ("5 km", "5000 m", 1),
        ("5 km", "5 kg", 0),
        ("1 h", "60 minutes", 1),
        ("37 °C", "98.6 °F", 1),
        ("$5", "€5", 0),
        ("10 m^2", "10 square metres", 1),
        ("6.02e23", "6.02 × 10^23", 1),
        ("6.02e23", "6.02 × 10^22", 0),
        ("2.5 million", "2,500,000", 1),
        ("1e9999", "1e9999", None),  # outside of what is read
    ],
)
def test_numbers_with_separators_units_and_exponents(reference: str, response: str, value: float | None) -> None:
    assert reference_match("How much?", response, reference) == value or value is None


# Options, dates, lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["B", "(B)", "b", "B.", "B. Paris", "(B) Paris", "Paris"])
def test_an_option_is_its_letter_or_its_text(reference: str) -> None:
    right = ["B", "(b)", "Paris", "B) Paris", "The answer is b", "I think it is Paris."]
    wrong = ["A", "Lyon", "B. Lyon", "A or B", "A. Lyon\nB. Paris\nC. Nice", "Not B.", "Paris or Nice"]

    assert [reference_match(CITIES, response, reference) for response in right] == [1] * len(right)
    assert [reference_match(CITIES, response, reference) for response in wrong] == [0] * len(wrong)


DATES = st.dates(min_value=date(1000, 1, 1), max_value=date(2199, 12, 31))


@given(day=DATES, other=DATES)
def test_a_date_is_right_in_any_spelling(day: date, other: date) -> None:
    month = month_name[day.month]
    spellings = [
        day.isoformat(),
        f"{day.day} {month} {day.year}",
        f"{month} {day.day}, {day.year}",
        f"It was on the {day.day}th of {month} {day.year}.",
        f"{month[:3]} {day.day} {day.year}",
        f"{day.day}.{day.month}.{day.year}",
    ]

    for spelling in spellings:
        assert reference_match("When?", spelling, day.isoformat()) == 1
        assert reference_match("When?", day.isoformat(), spellings[1]) == 1
        if day != other:
            assert reference_match("When?", spelling, other.isoformat()) == 0


@given(items=st.permutations(["red", "green", "blue", "dark grey"]))
def test_a_list_has_no_order(items: list[str]) -> None:
    reference = "red, green, blue, dark grey"

    for response in (
        ", ".join(items),
        "\n".join(f"- {item}" for item in items),
        f"They are {' and '.join(items)}.",
    ):
        assert reference_match("Name the colours.", response, reference) == 1


@pytest.mark.parametrize(
    ("response", "value"),
    [("red, green", 2 / 3), ("red, green, blue, black", 3 / 4), ("red", 0), ("red, green, blue or black", 0)],
)
def test_items_that_are_missing_or_too_many_cost_a_share_of_a_list(response: str, value: float) -> None:
    assert reference_match("Name the colours.", response, "red, green, blue") == pytest.approx(value)


# Formulas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response", ["$(x+1)(x-1)$", "\\boxed{x^2-1}", "The answer is $-(1-x^2)$.", "= (x - 1)(1 + x)", "x² − 1"]
)
def test_equal_formulas_are_right(response: str) -> None:
    assert reference_match("Multiply out.", response, "$(x-1)(x+1)$") == 1


def test_formulas_are_judged_in_any_thread() -> None:
    with ThreadPoolExecutor(4) as pool:
        verdicts = pool.map(lambda n: reference_match("q", f"$\\sqrt{{{n}}}$", "$\\sqrt{2}$"), [2, 3, 4, 8] * 4)

    assert list(verdicts) == [1, 0, 0, 0] * 4


@pytest.mark.parametrize(
    "formula",
    [
        "9^{9^{9^{9}}}",
        "9^9^9",
        "((2^{99})^{99})^{99}",
        "99999999!",
        "(a+b+c+d+f+g)^{60}",
        "((a+b)^{20}+(c+d)^{20})^{20}",
        "\\sum_{k=1}^{10000000} k",
        "\\binom{100000}{50000}",
        "\\sqrt{" * 40 + "x" + "}" * 40,
        "(" * 90 + "x" + ")" * 90,
        "\\frac" * 60,
        "x+" * 5000 + "x",
    ],
)
def test_an_expensive_formula_is_wrong_in_bounded_time(formula: str) -> None:
    reference_match("q", "$x$", "$\\sqrt{2}$")  # loads the library
    start = time.thread_time()

    assert reference_match("q", f"\\boxed{{{formula}}}", "$\\sqrt{2}+x$") == 0
    assert time.thread_time() - start < 4


def test_a_formula_without_the_library_is_flagged_and_not_judged() -> None:
    code = (
        "import sys; sys.modules['math_verify'] = None\n"
        "from reward_service.features.reference_match import reference_flags, reference_match\n"
        "print(reference_match('q', '$x$', '$x^2$'), reference_flags('q', '$x^2$'))\n"
        "print(reference_match('q', '0.25', '$\\\\frac{1}{4}$'), reference_flags('q', '\\\\boxed{4}'))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert output.splitlines() == ["None ['reference_math_not_installed']", "1.0 ['reference_number']"]


# Names in sentences of other languages --------------------------------------------------------------------------

NAMED = [
    ("Wie heißt die Hauptstadt von Peru?", "Die Hauptstadt von Peru {} Lima.", "ist", "ist nicht", "oder"),
    ("What is the capital of Peru?", "Die Hauptstadt von Peru {} die Stadt Lima.", "ist", "war niemals", "oder"),
    ("Quelle est la capitale du Pérou ?", "La capitale du Pérou {} Lima.", "est", "n'est pas", "ou"),
    ("¿Cuál es la capital de Perú?", "La capital de Perú {} Lima.", "es", "no es", "o"),
    ("Qual è la capitale del Perù?", "La capitale del Perù {} Lima.", "è", "non è", "o"),
    ("Qual é a capital do Peru?", "A capital do Peru {} Lima.", "é", "não é", "ou"),
    ("Wat is de hoofdstad van Peru?", "De hoofdstad van Peru {} Lima.", "is", "is niet", "of"),
]


@pytest.mark.parametrize(("prompt", "sentence", "verb", "negated", "alternative"), NAMED)
def test_a_name_is_found_in_a_sentence_of_another_language(
    prompt: str, sentence: str, verb: str, negated: str, alternative: str
) -> None:
    assert reference_match(prompt, sentence.format(verb), "Lima") == 1
    assert reference_match(prompt, sentence.format(negated), "Lima") == 0
    assert reference_match(prompt, sentence.format(verb), "Cusco") == 0
    assert reference_match(prompt, f"Lima {alternative} Cusco", "Lima") == 0


@pytest.mark.parametrize(
    ("right", "wrong", "reference"),
    [
        ("秘鲁的首都是利马。", "秘鲁的首都不是利马。", "利马"),
        ("ペルーの首都はリマです。", "ペルーの首都はリマではありません。", "リマ"),
        ("เมืองหลวงของเปรูคือลิมา", "เมืองหลวงของเปรูไม่ใช่ลิมา", "ลิมา"),
    ],
)
def test_a_name_is_found_in_a_sentence_without_spaces(right: str, wrong: str, reference: str) -> None:
    assert reference_match("What is the capital of Peru?", right, reference) == 1
    assert reference_match("What is the capital of Peru?", wrong, reference) == 0


@pytest.mark.parametrize(
    "denial",
    ["It is not true that {}.", "{} would be wrong.", "The claim that {} is false.", "{}? That isn't so."],
)
def test_free_text_that_is_denied_is_wrong_and_otherwise_not_judged(denial: str) -> None:
    text = "air scatters short wavelengths of sunlight more strongly than long ones"

    assert reference_match("Why is the sky blue?", denial.format(text), text.capitalize()) == 0
    assert reference_match("Why is the sky blue?", f"Because {text}.", text) is None
    assert (
        reference_match("Why is the sky blue?", f"Because {text}. " + "It is not only so at noon. " * 9, text)
        is None
    )


# Hostile texts ------------------------------------------------------------------------------------------------

REFERENCES = [
    (PRODUCT, "391"),
    ("When?", "March 5, 1990"),
    ("Is it?", "yes"),
    (CITIES, "B"),
    ("Name them.", "red, green, blue"),
    ("Capital?", "Tokyo"),
    ("Solve.", "$\\sqrt{2}$"),
]
PATTERNS = [
    *(
        "1 ",
        "1,",
        "1.",
        "is 1 ",
        "391 or ",
        "the answer is ",
        "answer ",
        "\\boxed{",
        "\\boxed{1}",
        "$",
        "$1",
        "B ",
        "B. ",
    ),
    *(
        "yes ",
        "not ",
        "March ",
        "1/1/",
        "1990-",
        "red, ",
        "Tokyo ",
        "Tokyo is ",
        "so ",
        "= ",
        "1 = ",
        "one hundred ",
    ),
    *(
        "\n",
        "1.\n",
        "- ",
        "*",
        "**",
        "\\frac{1}{2}",
        "(",
        "10^",
        "wait ",
        "because ",
        "ab",
        "\u200b",
        "東京",
        "? ",
        ". ",
    ),
]


@pytest.mark.parametrize(("prompt", "reference"), REFERENCES)
def test_a_hostile_response_takes_time_in_proportion_to_what_is_read_of_it(prompt: str, reference: str) -> None:
    def match(response: str) -> object:
        return reference_match(prompt, response, reference)

    for pattern in PATTERNS:
        response = (pattern * 200_000)[:200_000]
        read = response[:5_000]  # as much is read of it, from its start and its end
        assert_at_most(4, partial(match, response), partial(match, read), pattern)
        assert_in_proportion(match, read)


@settings(max_examples=300)
@given(response=st.text(max_size=300), case=st.sampled_from(REFERENCES[:-1]))
def test_any_response_gets_a_value(response: str, case: tuple[str, str]) -> None:
    value = reference_match(case[0], response, case[1])

    assert value is not None
    assert 0 <= value <= 1


@settings(max_examples=300)
@given(reference=st.text(max_size=60), prompt=st.text(max_size=60))
def test_any_reference_is_taken_for_some_kind_or_none(reference: str, prompt: str) -> None:
    value = reference_match(prompt, reference, reference)

    assert value is None or 0 <= value <= 1
    assert len(reference_flags(prompt, reference)) == (value is not None)
