"""Write closed-ended prompts with references, by rule and from short lists.

    python -m tools.closed_prompts OUT.jsonl

`glassbox fit-gold --closed-ended OUT.jsonl` makes wrong answers to them. Origin: written for this project. No
prompt of the probe's battery or of the embedded prompts is among them, and the output is always the same.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from reward_client.probe.case import embedded_cases
from reward_runs.prompts import load_embedded

_THINGS = ("pencils", "apples", "chairs", "books", "coins", "stamps")
_CAPITALS = (
    "France Paris, Italy Rome, Spain Madrid, Portugal Lisbon, Greece Athens, Austria Vienna, Poland Warsaw, "
    "Hungary Budapest, Norway Oslo, Sweden Stockholm, Denmark Copenhagen, Finland Helsinki, Ireland Dublin, "
    "Belgium Brussels, Russia Moscow, Japan Tokyo, Egypt Cairo, Kenya Nairobi, Peru Lima, Chile Santiago, "
    "Cuba Havana, Turkey Ankara, Iran Tehran, Iraq Baghdad, Thailand Bangkok, Germany Berlin, India New Delhi, "
    "Argentina Buenos Aires, Mexico Mexico City, China Beijing"
)
_FACTS = """\
Which planet is closest to the sun?|Mercury
Which planet is known as the red planet?|Mars
What is the largest planet of the solar system?|Jupiter
Which gas do people need to breathe?|oxygen
What is frozen water called?|ice
How many legs does a spider have?|8
How many legs does an insect have?|6
How many days has a leap year?|366
How many hours has a day?|24
How many minutes has an hour?|60
How many letters has the English alphabet?|26
How many sides has a hexagon?|6
What is the chemical symbol of gold?|Au
What is the chemical symbol of iron?|Fe
What is the chemical symbol of silver?|Ag
Which animal gives us wool?|the sheep
Which insect makes honey?|the bee
What do we call a young dog?|a puppy
What do we call a young cat?|a kitten
Which language is spoken in Brazil?|Portuguese
Which language is spoken in Egypt?|Arabic
Who wrote Hamlet?|William Shakespeare
Who painted the Mona Lisa?|Leonardo da Vinci
Who developed the theory of relativity?|Albert Einstein
Which river flows through London?|the Thames
Which river flows through Paris?|the Seine
Which is the highest mountain of the earth?|Mount Everest
Which is the longest river of South America?|the Amazon
On which continent is Kenya?|Africa
On which continent is Japan?|Asia
In which year did the Second World War end?|1945
In which year did the First World War begin?|1914
At how many degrees Celsius does water boil at sea level?|100
What colour has a ripe banana?|yellow
Which colour do blue and yellow give when mixed?|green
What is the plural of child?|children
What is the past tense of go?|went
What is the opposite of hot?|cold
What is the opposite of early?|late
Which month follows April?|May
Which day comes before Friday?|Thursday
Is the sun a star?|Yes
Is a tomato a mineral?|No
Is ice lighter than water?|Yes
Is a spider an insect?|No
Can penguins fly?|No
Do plants need light to grow?|Yes
Is glass made from sand?|Yes
Is the moon larger than the earth?|No
Is Spanish spoken in Mexico?|Yes"""

Question = tuple[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file and print the number of prompts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.jsonl")
    options = parser.parse_args(argv)
    rows = [
        {"id": f"closed-{number}", "prompt": prompt, "reference": answer, "query_type": "closed_ended"}
        for number, (prompt, answer) in enumerate(questions().items())
    ]
    options.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} prompts")
    return 0


def questions() -> dict[str, str]:
    """The answer to each prompt."""
    random = Random(7)
    used = {case.prompt for case in embedded_cases()}
    used |= {prompt.prompt for part in ("train", "heldout") for prompt in load_embedded(part)}
    single = [*_sums(random), *_word_problems(random), *_facts()]
    found = (*single, *_choices(single, random))
    return {prompt: answer for prompt, answer in found if prompt.split("\n")[0] not in used}


def _sums(random: Random) -> Iterator[Question]:
    for _ in range(260):
        a, b, c, d = (random.randint(low, high) for low, high in ((2, 60), (2, 60), (2, 12), (2, 12)))
        yield random.choice(("What is {} + {}?", "Add {} and {}.")).format(a, b), str(a + b)
        yield random.choice(("What is {} - {}?", "Subtract {1} from {0}.")).format(a + b, b), str(a)
        yield random.choice(("What is {} × {}?", "Multiply {} by {}.")).format(c, d), str(c * d)
        yield random.choice(("What is {} divided by {}?", "What is {} / {}?")).format(c * d, d), str(c)


def _word_problems(random: Random) -> Iterator[Question]:
    for _ in range(120):
        n, k, things = random.randint(2, 20), random.randint(2, 9), random.choice(_THINGS)
        percent, whole = random.choice((10, 20, 25, 50)), random.choice((20, 40, 60, 120, 200, 300))
        yield f"A box holds {n} {things}. How many {things} are in {k} boxes?", f"{n * k} {things}"
        yield f"Lena has {n + k} {things} and gives away {k}. How many are left?", f"{n} {things}"
        yield f"Is {n * k} larger than {n + k}? Answer yes or no.", "Yes" if n * k > n + k else "No"
        yield f"Is {n} an even number?", "No" if n % 2 else "Yes"
        yield f"What is {percent} percent of {whole}?", str(percent * whole // 100)


def _facts() -> Iterator[Question]:
    for pair in _CAPITALS.split(", "):
        country, city = pair.split(" ", 1)
        yield f"What is the capital of {country}?", city
        yield f"Of which country is {city} the capital?", country
    for line in _FACTS.splitlines():
        prompt, answer = line.split("|")
        yield prompt, answer


def _choices(single: Sequence[Question], random: Random) -> Iterator[Question]:
    """Multiple-choice forms of the prompts whose answer is a word."""
    words = [(prompt, answer) for prompt, answer in single if not re.search(r"\d|^Yes$|^No$", answer)]
    for prompt, answer in words:
        options = random.sample(sorted({other for _, other in words if other != answer}), 3)
        place = random.randrange(4)
        options.insert(place, answer)
        mark = random.choice(("{}) {}", "{}. {}", "({}) {}"))
        lines = [mark.format(letter, text) for letter, text in zip("ABCD", options, strict=True)]
        yield "\n".join([prompt, *lines]), "ABCD"[place]


if __name__ == "__main__":
    sys.exit(main())
