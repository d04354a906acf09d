"""Pairs of a good response and a degraded one, so that a model learns what a bad response is.

    preference pairs        chosen ──▶ doubled, cut, shuffled, padded, off topic, the prompt again, a refusal
    closed-ended prompts    "The answer is <reference>." ──▶ the same with another answer

Every pair has the source `degraded_<kind>`. `reward_client.probe` makes more kinds; those that are not in KINDS
show whether the model generalises. No text of the probe's battery is used here.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence

from reward_client.probe.case import Case
from reward_client.probe.kinds import KINDS as PROBE_KINDS
from reward_client.wire import Item, QueryType, usable_references
from reward_runs.errors import DataError
from reward_runs.prompts import Prompt
from reward_trainer.gold.preferences import Pair, n_words

SOURCE = "degraded_"
"""Start of the source of every degraded pair; the kind follows."""

MIN_WORDS = 12
"""Words of a response that is degraded: a shorter one may remain acceptable."""

_PROBE = ("doubled", "words_shuffled", "prompt_copied", "cut")
"""Kinds that are made as the probe makes them: they have no texts of their own."""

WRONG = "wrong_answer"

_PADDING = (
    "This is something that many people think about from time to time.",
    "Of course there is always more that one could say.",
    "Every situation is a little different from every other situation.",
    "It depends on what exactly is meant, and on who is asking.",
    "One should keep an open mind about all of this.",
    "As mentioned before, this is the case in general.",
    "With this in mind, it is good to look at the whole picture.",
    "Some would agree with this, and some would see it in another way.",
    "In the end, everything is connected with everything else.",
    "That said, the points above remain the points above.",
    "Naturally, the details can be looked at in more detail.",
    "All in all, this is a broad field with a long history.",
)
_REFUSALS = (
    "I can't do that.",
    "Sorry, I am unable to answer this question.",
    "I'm afraid this is not something I can assist with. Please ask someone else.",
    "I don't have an answer to this. As a language model I cannot respond to such requests.",
    "Unfortunately I must decline to respond here, because I am only a computer program.",
    "I would rather not talk about this. Is there another topic that you would like to discuss?",
)
_FORMS = ("{}", "{}.", "The answer is {}.", "It is {}.", "The correct answer is {}.")
_OPTIONS = ("A", "B", "C", "D")
_CHANGES = (-3, -2, -1, 1, 2, 3, 5, 10)
"""What is added to a number."""
_OPPOSITES = {"yes": "no", "no": "yes", "true": "false", "false": "true"}


def kinds() -> list[str]:
    """Return the names of all kinds that models can be fitted on: the names of the probe, where it has them."""
    return [*_PROBE, "off_topic", "padded", "refusal", WRONG]


def degraded_pairs(pairs: Sequence[Pair], n: int, rng: random.Random) -> list[Pair]:
    """Return `n` pairs of a chosen response of `pairs` and a degraded form of it, as many of each kind.

    Raises DataError when too few chosen responses are long enough.
    """
    usable = [pair for pair in pairs if n_words(pair.chosen) >= MIN_WORDS]
    makers: dict[str, Callable[[Pair], str | None]] = {name: _probe_maker(name, rng) for name in _PROBE}
    makers |= {
        "off_topic": lambda pair: _other(usable, pair, rng),
        "padded": lambda pair: " ".join([pair.chosen, *rng.sample(_PADDING, rng.randint(3, len(_PADDING)))]),
        "refusal": lambda _: rng.choice(_REFUSALS),
    }
    made: list[Pair] = []
    counts = dict.fromkeys(makers, 0)
    for pair in rng.sample(usable, len(usable)):
        if len(made) == n:
            break
        for name in sorted(makers, key=counts.__getitem__):
            worse = makers[name](pair)
            if worse and worse != pair.chosen:
                made.append(Pair(pair.prompt, pair.chosen, worse, SOURCE + name))
                counts[name] += 1
                break
    if len(made) < n:
        raise DataError(
            f"{n} degraded pairs were asked for, and {len(made)} can be made: too few chosen responses have "
            f"{MIN_WORDS} words; ask for fewer"
        )
    return made


def wrong_answers(prompts: Sequence[Prompt], rng: random.Random) -> list[Pair]:
    """Return a pair for each closed-ended prompt with a short reference: the right answer before a wrong one."""
    known = {
        prompt.prompt: usable_references(prompt.reference)[0][1].strip(" .")
        for prompt in prompts
        if prompt.query_type is QueryType.CLOSED_ENDED
    }
    short = {prompt: answer for prompt, answer in known.items() if n_words(answer) <= 6}
    found = []
    for prompt, answer in short.items():
        form = rng.choice(_FORMS)
        if wrong := wrong_answer(answer, short, rng):
            found.append(Pair(prompt, form.format(answer), form.format(wrong), SOURCE + WRONG))
    return found


def wrong_answer(answer: str, answers: Mapping[str, str], rng: random.Random) -> str | None:
    """Return the opposite of yes or no, another option, another number, or the answer to another prompt."""
    if opposite := _OPPOSITES.get(answer.lower()):
        return opposite.capitalize() if answer[0].isupper() else opposite
    if answer in _OPTIONS:
        return rng.choice([option for option in _OPTIONS if option != answer])
    if number := re.search(r"\d+", answer):
        right = int(number[0])
        changed = rng.choice([abs(right + change) for change in _CHANGES if abs(right + change) != right])
        return answer[: number.start()] + str(changed) + answer[number.end() :]
    texts = [text for text in answers.values() if text.lower() not in (answer.lower(), *_OPPOSITES)]
    others = [text for text in texts if text not in _OPTIONS and not re.search(r"\d", text)]
    return rng.choice(others) if others else None


def _probe_maker(name: str, rng: random.Random) -> Callable[[Pair], str | None]:
    def make(pair: Pair) -> str | None:
        item = Item(prompt=pair.prompt, response=pair.chosen)
        return next(iter(PROBE_KINDS[name].make(Case(item, QueryType.OPEN_ENDED), rng)), None)

    return make


def _other(pairs: Sequence[Pair], pair: Pair, rng: random.Random) -> str | None:
    """Return a chosen response to another prompt."""
    other = rng.choice(pairs)
    return other.chosen if other.prompt != pair.prompt else None
