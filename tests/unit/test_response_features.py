"""Features of the response's text: content, copying, meta talk, running text, word order, an unfinished end."""

from __future__ import annotations

from random import Random

import pytest

from reward_service.features.content import content_density, content_words
from reward_service.features.copying import copying_penalty
from reward_service.features.finished import finished
from reward_service.features.meta_talk import invented_turn, meta_talk_penalty
from reward_service.features.running_text import running_text
from reward_service.features.text import WordKind, words
from reward_service.features.word_order import word_order

PROMPT = "Why do the leaves of many trees turn red and yellow in autumn, and then fall?"
ANSWER = (
    "In autumn the tree stops making the green pigment. The yellow pigments that were there all the time can then "
    "be seen, and some trees make red ones from sugar. A layer of cork cuts the leaf off, so it falls in the wind."
)


CHINESE = "为什么很多树的叶子在秋天变红？"
PASSAGE = (
    "Herring gather in large schools before they spawn. The birds that feed on them show the boats where to go, "
    "and in the harbour the whole town smells of smoke and salt. Children earn some money by packing barrels. "
    "Today the boats are fewer, and quotas are agreed each winter by scientists."
)


def test_a_copied_prompt_has_no_new_4_grams_and_an_answer_has_no_others() -> None:
    assert copying_penalty(PROMPT, PROMPT.upper(), PROMPT) == 0.0
    assert copying_penalty(PROMPT, ANSWER, PROMPT) == 1.0
    assert copying_penalty(PROMPT, f"{PROMPT} {PROMPT}", PROMPT) < 0.15
    assert 0.5 < copying_penalty(PROMPT, f"{PROMPT} {ANSWER}", PROMPT) < 0.9


@pytest.mark.parametrize("prompt", [CHINESE, "おいしいご飯の炊き方を教えてください。", "ทำไมอาหารไทยถึงใส่พริก"])
def test_a_copied_prompt_is_seen_in_scripts_without_spaces(prompt: str) -> None:
    assert copying_penalty(prompt, prompt[:-1], prompt) < 0.1
    assert copying_penalty(prompt, "树停止制造绿色的色素，所以叶子变黄，然后落下。", prompt) > 0.8


def test_a_passage_from_a_long_prompt_is_no_copy_of_it() -> None:
    prompt = f"What happens in autumn? Answer from the text. {ANSWER} {PASSAGE}"

    assert copying_penalty(prompt, ANSWER, prompt) > 0.5


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
    return content_words(words(response), words(prompt)), content_density(words(response))


def test_rare_words_count_once_and_half_if_they_are_in_the_prompt() -> None:
    assert content("pigment sugar cork")[0] == pytest.approx(2.3)
    assert content("Pigment pigment PIGMENT cork 12 % x")[0] == 2.0
    assert content("autumn cork")[0] == 1.5
    assert content("the of there is a very good")[0] == 0.0
    assert content("")[0] == content("!!! 1 2 3 \U0001f600")[0] == 0.0


def test_a_repeated_word_counts_again_in_the_density_once_other_words_came_between() -> None:
    filler = " ".join(["and so it is"] * 5)
    stuttered = "pigment pigment pigment pigment"
    assert content_density(words(stuttered)) == pytest.approx(1 / 4)
    assert content_density(words(f"{stuttered} {filler} pigment")) == pytest.approx(2 / 25)
    assert content_density(words(f"pigment {filler[:20]} pigment")) == pytest.approx(1 / 8)


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
    "turn",
    [
        "User: Thanks, that was great. Anything else?\nAssistant: No, it is all there.",
        "**Human:** And why do they fall?",
        "Q: Which trees keep their leaves in the winter?\nA: Those with needles.",
        "### Instruction:\nDescribe a tree in the winter.",
        "<|im_start|>user\nAnd in spring?",
    ],
)
def test_everything_from_an_invented_turn_of_the_user_on_counts(turn: str) -> None:
    n, n_turn = len(ANSWER.split()), len(turn.split())

    assert meta_talk_penalty(f"{ANSWER}\n\n{turn}", PROMPT) == pytest.approx(n / (n + n_turn))
    assert invented_turn(f"{ANSWER}\n\n{turn}", PROMPT) is not None
    assert invented_turn(turn, PROMPT) is None


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("Write a dialogue between a user and a bot.", "They meet.\nUser: Hello!\nBot: Good day."),
        ("Write three exam questions about trees.", "Here they are:\nQ: What is bark?\nQ: What is a leaf?"),
        (PROMPT, "The tree saves water.\nNote: a user of the park may see it.\nQuestions: none."),
    ],
)
def test_requested_turns_and_other_labels_are_not_invented(prompt: str, response: str) -> None:
    assert invented_turn(response, prompt) is None
    assert meta_talk_penalty(response, prompt) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        PASSAGE,
        "See e.g. the map, etc. and so on. At 5 p.m. it closes.",
        "1. the first step\n2. the second step\n3. stop",
        "red,green,blue and the.",
        "i think so. it is the sugar. yes.",
        "Use `the.of` here:\n```\nfooBar(a,b)  # the of the is\n```",
        "Die Blätter fallen ab. Danach ruht der Baum, an dem sie waren.",
        "",
    ],
)
def test_ordinary_text_has_no_faults_of_word_order(text: str) -> None:
    assert word_order(text) == 1.0


@pytest.mark.parametrize("text", [ANSWER, PASSAGE])
def test_words_in_random_order_have_many(text: str) -> None:
    random, pieces = Random(3), text.split()

    assert max(word_order(" ".join(random.sample(pieces, len(pieces)))) for _ in range(20)) < 0.9


def test_a_prompt_in_another_script_wants_an_answer_in_it() -> None:
    assert running_text(CHINESE, PASSAGE) == 0.0
    assert running_text(CHINESE, "因为树停止制造叶绿素 (chlorophyll)，所以叶子变黄。") == 1.0
    assert running_text("把这句话翻译成英文：树叶落下。", "The leaves fall.") == 1.0
    assert running_text("Почему осенью листья желтеют?", "Дерево перестаёт вырабатывать зелёный пигмент.") == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ANSWER, 1.0),
        ("绿茶采摘后很快用高温杀青，叶子不发酵，所以保持绿色，味道清新，带一点苦味。", 1.0),
        ("绿茶采摘后很快用高温杀青，叶子不发酵，所以保持绿色，味道清新，带一点苦", 0.0),
        ("渥太华", 1.0),
        ("พริกทำให้เหงื่อออก ร่างกายจึงเย็นลง นอกจากนี้พริกยังช่วยเก็บรักษาอาหารได้นานขึ้น", 1.0),
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
