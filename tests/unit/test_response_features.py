"""Features of the response's text: content, copying, meta talk, running text, an unfinished end."""

from __future__ import annotations

import pytest

from reward_service.features.content import content_density, content_words
from reward_service.features.copying import copying_penalty
from reward_service.features.finished import finished
from reward_service.features.meta_talk import meta_talk_penalty
from reward_service.features.running_text import running_text
from reward_service.features.text import WordKind, words

PROMPT = "Why do the leaves of many trees turn red and yellow in autumn, and then fall?"
ANSWER = (
    "In autumn the tree stops making the green pigment. The yellow pigments that were there all the time can then "
    "be seen, and some trees make red ones from sugar. A layer of cork cuts the leaf off, so it falls in the wind."
)


def test_a_copied_prompt_has_no_new_4_grams_and_an_answer_has_no_others() -> None:
    assert copying_penalty(PROMPT, PROMPT.upper(), PROMPT) == 0.0
    assert copying_penalty(PROMPT, ANSWER, PROMPT) == 1.0
    assert copying_penalty(PROMPT, f"{PROMPT} {PROMPT}", PROMPT) < 0.15
    assert 0.5 < copying_penalty(PROMPT, f"{PROMPT} {ANSWER}", PROMPT) < 0.9


@pytest.mark.parametrize("response", ["", "the leaves", "autumn"])
def test_a_response_without_4_grams_copies_nothing(response: str) -> None:
    assert copying_penalty(PROMPT, response, PROMPT) == 1.0


def test_a_prompt_that_wants_work_on_its_text_justifies_a_copy() -> None:
    prompt = "Correct this sentence: the trees in our street is very old and tall"

    assert copying_penalty(prompt, "The trees in our street are very old and tall", prompt) == 1.0


@pytest.mark.parametrize(
    "response",
    [
        " ".join(map(str, range(200))),
        "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 4,
        "leaves trees red yellow autumn fall pigment sugar cork wind light cold " * 5,
        "Die Blätter verlieren ihren grünen Farbstoff, weil die Bäume im Winter kein Wasser bekommen, und fallen "
        "ab. Danach ruhen die Bäume bis zum Frühling, und dann wachsen neue Blätter an den Zweigen.",
        "Les feuilles perdent leur couleur verte parce que les arbres n'ont plus assez de lumière pour la "
        "produire, et puis elles tombent sur le sol quand le vent souffle dans les branches.",
        "blorp fizzle " * 40,
    ],
)
def test_numbers_letters_keywords_and_other_languages_are_not_running_text(response: str) -> None:
    assert running_text(PROMPT, ANSWER) == 1.0
    assert running_text(PROMPT, response) <= 0.6


@pytest.mark.parametrize(
    ("request_text", "response"),
    [
        (PROMPT, "Less light, less green pigment."),
        (
            "Translate into German: the house is old and the garden is big",
            "Das Haus ist alt, und der Garten ist groß.",
        ),
        (
            "Wie kann ich im Winter beim Heizen sparen?",
            "Dreh die Heizung ab, wenn du nicht im Raum bist, und lüfte kurz.",
        ),
        (
            "Why does this loop not end? Show the code.",
            "The step is missing:\n```\n" + "x = f(y); z = g(x)\n" * 30 + "```",
        ),
        ("绿茶和红茶有什么区别？", "绿茶不发酵，红茶完全发酵。"),
    ],
)
def test_short_answers_requested_languages_and_code_count_as_running_text(
    request_text: str, response: str
) -> None:
    assert running_text(request_text, response) == 1.0


def content(response: str, prompt: str = PROMPT) -> tuple[float, float]:
    return content_words(words(response), words(prompt)), content_density(words(response), words(prompt))


def test_rare_words_count_once_and_half_if_they_are_in_the_prompt() -> None:
    assert content("pigment sugar cork")[0] == pytest.approx(2.3)
    assert content("Pigment pigment PIGMENT cork 12 % x")[0] == 2.0
    assert content("autumn cork")[0] == 1.5
    assert content("the of there is a very good")[0] == 0.0
    assert content("")[0] == content("!!! 1 2 3 \U0001f600")[0] == 0.0


def test_padding_that_fits_any_subject_adds_little_content_and_lowers_its_density() -> None:
    padding = " It is important to note that there are many things to consider, and that each of them matters." * 3
    n, density = content(ANSWER)
    n_padded, density_padded = content(ANSWER + padding)

    assert n_padded < 1.2 * n
    assert density_padded < 0.65 * density


@pytest.mark.parametrize(
    "talk",
    [
        "This is the best answer that you can get.",
        "What a great question!",
        "As an AI language model, I have no opinions.",
        "I hope this helps you with your garden.",
        "Please consult a qualified gardener first.",
        "I’m sorry, but that is not possible.",
    ],
)
def test_sentences_about_the_conversation_count_by_their_words(talk: str) -> None:
    n, n_talk = len(ANSWER.split()), len(talk.split())

    assert meta_talk_penalty(f"{ANSWER} {talk}") == pytest.approx(n / (n + n_talk))
    assert meta_talk_penalty(ANSWER) == meta_talk_penalty("") == 1.0
    assert meta_talk_penalty(talk) == 0.0


LETTER = (
    "Dear Ms Lee, I am sorry that I was late this morning. My train was cancelled. I apologise for the trouble. "
    "Please let me know if I can make up for it. Thank you for your patience."
)


@pytest.mark.parametrize(
    ("request_text", "response"),
    [
        ("Write an email to my boss in which I apologise for being late.", LETTER),
        ("Write a short story about a fox.", "I can't see the moon, said the fox. I have no lamp. I am afraid."),
        (
            "How does a vaccine work?",
            "It trains your immune response, and this stress response fades in a few days.",
        ),
    ],
)
def test_what_people_say_in_a_requested_letter_or_story_is_no_meta_talk(request_text: str, response: str) -> None:
    assert meta_talk_penalty(response, request_text) == 1.0


@pytest.mark.parametrize(
    "talk",
    [
        "As an AI language model, I have no train.",
        "I am sorry, but I cannot help with that.",
        "I hope this helps!",
    ],
)
def test_an_assistant_that_talks_about_itself_in_a_letter_is_meta_talk(talk: str) -> None:
    assert meta_talk_penalty(talk, "Write an email to my boss in which I apologise.") == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ANSWER, 1.0),
        (ANSWER[:-20], 0.0),
        (f"{ANSWER[:60].rstrip()},", 0.0),
        ("Paris", 1.0),
        ("Three things help against the cold in an old house:\n- curtains\n- carpets", 1.0),
        ("Three things help against the cold in an old house:\n- curtains\n-", 0.0),
        ("the sea is grey today\nthe sky is low and wide\nand I am here", 1.0),
        ("Run this to see all of the files in the folder:\n```\nls -la", 0.0),
        ("Run this to see all of the files in the folder:\n```\nls -la\n```", 1.0),
        ('She asked me to come to the party with all my friends ("and cake!")', 1.0),
        ("", 1.0),
    ],
)
def test_a_cut_text_is_not_finished(text: str, expected: float) -> None:
    assert finished(text) == expected


@pytest.mark.parametrize("kind", ["unicode", "wordpunct"])
def test_a_contraction_has_no_more_content_than_its_words(kind: WordKind) -> None:
    assert content_words(words("don't can’t isn't we've", kind), []) == content_words(
        words("don t can isn we ve", kind), []
    )
