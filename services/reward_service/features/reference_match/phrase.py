"""Short answers of a few words, such as names: the response has to present exactly these words as its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain, dropwhile

from reward_service.features.reference_match.languages import with_english_verbs
from reward_service.features.reference_match.plain import boxed, key, plain, unboxed, window, words_of
from reward_service.features.reference_match.statements import CONTRAST, announced, asserted, last_correction

_MAX_WORDS, _MAX_CHARACTERS = 5, 60
_LEADS_IN = frozenset(
    words_of(
        "s is are was were be been by in at to as from on for called named titled say says said it its means "
        "become became appears looks wrote and so answer i think would choose 是 为 は"
    )
)
_RELATION = frozenset(
    words_of(
        "near beside before after over under between against about without like behind above below since until "
        "during followed"
    )
)
"""Words that put another thing beside the answer."""
_FUNCTION = (
    _LEADS_IN
    | _RELATION
    | frozenset(
        words_of(
            "of that this which who what where when how we you they he she them with such do does did has have "
            "had or not there then therefore thus hence also only one can could will would call calls known use "
            "used"
        )
    )
)
_REJECTS_BEFORE = frozenset(words_of("not never neither nor than unlike instead rather cannot t"))
_REJECTS_AFTER = frozenset(words_of("not wrong incorrect false t"))
"""The "t" is that of "isn't"."""
_AUXILIARY = frozenset(words_of("is was are were isn wasn aren weren would cannot can be do does did has have"))
_HEADINGS = frozenset(
    words_of(
        "sure certainly okay ok explanation reasoning details facts overview summary conclusion note great thanks"
    )
)
_NEGATION = re.compile(r"\b(?:not|never|no|neither|nor)\b|n't\b", re.IGNORECASE)
_STRONG = frozenset({"is", "was", "are", "were", "by", "called", "は"})
_HEDGE = frozenset({"or", "maybe", "perhaps", "possibly", "either"})
_COPULA = re.compile(r"\s(?:is|are|was|were)\s", re.IGNORECASE)
_PIECES = re.compile(r",|/|\bor\b|\band\b|\n", re.IGNORECASE)
_BETWEEN = re.compile(r"(\bbetween\s[^,;.\n]{1,60}?)\sand\s", re.IGNORECASE)
_ASIDE = re.compile(r"\([^()]{0,200}\)")
_OTHER = re.compile(r"\b(?:but|however),?\s(?:actually\s|in fact\s)?(?:it|that)(?:'s|\s(?:is|was))\s([A-Z]\w+)")
_ARTICLE = re.compile(r"\s*(?:an?|the)\s", re.IGNORECASE)


def read_phrase(reference: str, prompt: str) -> Callable[[str], bool] | None:
    """The judge of responses to a reference of at most five words; None for sentences and longer ones."""
    text = plain(unboxed(reference)).strip().strip("\"'")
    wanted = key(text).split()
    is_sentence = re.search(r"[.!?;:]\s|\n", text) or (text.endswith((".", "!", "?")) and len(wanted) > 3)
    if (
        is_sentence
        or not text
        or len(text.split()) > _MAX_WORDS
        or len(wanted) > _MAX_CHARACTERS // 5
        or len(text) > _MAX_CHARACTERS
    ):
        return None
    if not wanted:  # signs alone
        return lambda response: "".join(plain(response).split()) == "".join(text.split())
    asked = plain(prompt)
    given = frozenset(key(asked).split())
    new = _without_edges(wanted, given)
    return lambda response: _answers(window(response), asked, new, given)


def _without_edges(words: Sequence[str], given: frozenset[str]) -> Sequence[str]:
    """`words` without those of the prompt at both ends: "Pacific" answers "Which ocean?" well."""
    new = [place for place, word in enumerate(words) if word not in given | _FUNCTION]
    return words[new[0] : new[-1] + 1] if new else words


def _answers(response: str, prompt: str, wanted: Sequence[str], given: frozenset[str]) -> bool:
    in_boxes = boxed(response)
    if in_boxes:
        return all(_without_edges(key(plain(content)).split(), given) == wanted for content in in_boxes)
    text = with_english_verbs(plain(response), prompt, wanted)
    said = asserted(last_correction(text, lambda part: _names(part, wanted)), prompt)
    tails = [tail for sentence in said for tail in announced(sentence)]
    if tails:
        return all(_presents(tail, wanted, given) for tail in tails)
    naming = [sentence for sentence in said if _names(sentence, wanted)]
    bare = [_names(sentence, wanted) for sentence in said if _is_bare(sentence, given, like=naming)]
    if any(bare) and not all(bare):  # one line or sentence for each of several answers
        return False
    if any(_rejects(sentence, wanted, given) for sentence in naming) or any(
        _claims_other(s, wanted, given) for s in said
    ):
        return False
    return any(_presents(sentence, wanted, given) for sentence in naming)


def _is_bare(sentence: str, given: frozenset[str], like: Sequence[str]) -> bool:
    """Whether `sentence` is up to three words that could be an answer, written `like` the right one."""
    words = key(sentence).split()
    if not 0 < len(words) <= 3 or set(words) & (_FUNCTION | _HEADINGS | given) or sentence.endswith(":"):
        return False
    are_names = any(map(str.isupper, "".join(like)))
    return sentence.replace(" ", "").strip(".!?\"'()").isalpha() and (
        not are_names or all(word[:1].isupper() for word in sentence.split())
    )


def _place(words: Sequence[str], wanted: Sequence[str]) -> int | None:
    """The position of `wanted` in `words`, its last word perhaps in the plural; None if absent."""
    size = len(wanted)
    endings = {wanted[-1], f"{wanted[-1]}s", f"{wanted[-1]}es"}
    places = range(len(words) - size + 1)
    return next(
        (i for i in places if words[i + size - 1] in endings and words[i : i + size - 1] == wanted[:-1]), None
    )


def _names(text: str, wanted: Sequence[str]) -> bool:
    return _place(key(text).split(), wanted) is not None


def _rejects(sentence: str, wanted: Sequence[str], given: frozenset[str]) -> bool:
    """Whether the clause of `sentence` that holds the words negates them, or compares something with them."""
    for clause in re.split(r"[,;:]|\bbut\b", sentence):
        words = key(clause).split()
        place = _place(words, wanted)
        if place is None:
            continue
        rest = words[place + len(wanted) :]
        after = list(dropwhile(lambda word: word in given and word not in _AUXILIARY, rest))[:5]
        if set(words[:place]) & _REJECTS_BEFORE or words[:place][-1:] == ["no"]:
            return True
        if set(after[:2]) & _AUXILIARY and set(after) & _REJECTS_AFTER:
            return True
    return False


def _presents(sentence: str, wanted: Sequence[str], given: frozenset[str]) -> bool:
    """Whether `sentence` gives the words as its answer: alone, first, or after words such as "is" and "by"."""
    last = CONTRAST.split(sentence)[-1]
    clause = last if _names(last, wanted) else sentence
    words = key(clause).split()
    place = _place(words, wanted)
    if place is None or _rejects(clause, wanted, given) or _lists_others(clause, wanted, given):
        return False
    other = _OTHER.search(sentence)
    if other and key(other[1]) not in {*given, *wanted}:
        return False
    before, after = words[:place], words[place + len(wanted) :]
    if not before:
        others = key(_ASIDE.sub(" ", clause)).split()[len(wanted) :]
        is_list = len(others) > len(wanted) and not set(others) & (_FUNCTION | given)
        return not is_list or any(map(str.isdigit, others))
    if _HEDGE & {*before[-2:], *after[:1]}:
        return False
    if _leads_in(before, given) or (len(before) == 1 and len(words) <= 4 and before[0] not in _FUNCTION):
        return True
    about = given & {*before, *after[:8]} or {"is", "was"} & set(after[:1])
    return len(before) <= 3 and not set(before) & _FUNCTION and bool(about)


def _leads_in(before: Sequence[str], given: frozenset[str]) -> bool:
    """Whether the words before end in one that introduces an answer, up to two describing words apart."""
    if set(before[-2:]) & _RELATION:
        return False
    if before[-1].isdigit() or before[-1] in _LEADS_IN | given:
        strange = [word for word in before if word not in _FUNCTION | given]
        return len(strange) <= 3 or before[-1] in _STRONG
    described = next((n for n, word in enumerate(reversed(before)) if word in _FUNCTION), None)
    return described in {1, 2} and before[-1 - described] in _STRONG


def _lists_others(clause: str, wanted: Sequence[str], given: frozenset[str]) -> bool:
    """Whether the words are joined to others like them by "or", "and" or a comma."""
    pieces = [piece for piece in _PIECES.split(_BETWEEN.sub(r"\1 ", clause)) if piece.strip()]
    place = next((i for i, piece in enumerate(pieces) if _names(piece, wanted)), None)
    if place is None or len(pieces) == 1:
        return False
    sizes = [len(key(piece).split()) for piece in pieces]
    if len(pieces) > 2 and max(sizes) <= len(wanted) + 1 and not _COPULA.search(clause):
        return True
    said = set(chain.from_iterable(key(piece).split() for piece in pieces))
    if re.search(r"\bor\b|/", clause) and not said <= given | set(wanted) | _FUNCTION:
        return True
    here = key(pieces[place]).split()
    before = [words for piece in pieces[:place] if len(words := key(piece).split()) <= len(wanted) + 1]
    is_listed = any(not set(words) & (_FUNCTION | given) for words in before)
    ends_here = _place(here[-len(wanted) :], wanted) is not None
    return is_listed or (ends_here and not all(_describes(piece, given) for piece in pieces[place + 1 :]))


def _describes(piece: str, given: frozenset[str]) -> bool:
    """Whether a piece after a comma describes the words before it and names no other answer."""
    words = key(piece).split()
    return len(words) > 3 or bool(_ARTICLE.match(piece)) or bool(set(words) & (_FUNCTION | given))


def _claims_other(sentence: str, wanted: Sequence[str], given: frozenset[str]) -> bool:
    """Whether `sentence` gives another answer to the prompt, of up to three words."""
    copula = _COPULA.search(sentence)
    if copula is None or _NEGATION.search(sentence) or _names(sentence, wanted):
        return False
    subject, rest = key(sentence[: copula.start()]).split(), sentence[copula.end() :]
    asked = [word for word in subject if word in given and word not in _FUNCTION]
    is_short = len(key(rest).split()) <= 3 and not _ARTICLE.match(rest)
    return bool(asked) and set(subject) <= given | _FUNCTION and is_short and not set(key(rest).split()) <= given
