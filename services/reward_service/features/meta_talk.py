"""`meta_talk_penalty`: 1 − the share of the words that are in sentences about the conversation. 1 means none are.

Such a sentence talks about the answer, the question, the assistant or the service ("This is the best answer",
"What a great question!", "As an AI language model", "I hope this helps", "Please consult a professional")
instead of the subject. A sentence counts as a whole if it has one of the phrases below. If the prompt requests a
letter, a story or the like, what people say in them does not count. English only.
Everything from an invented turn of the user on ("User: …", "### Instruction") counts too, with the flag
`invented_turn`, unless the prompt asks for a dialogue. Cost: linear.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.sentences import sentences

_PHRASES = (
    r"(?:this|my|the above|no other|another) (?:\w+ )?(?:answers?|reply|questions?)"
    r"|(?:this|my|the above|no other) response"
    r"|your (?:\w+ )?questions?"
    r"|(?:best|better|perfect|helpful|detailed|complete) (?:answer|response|reply)"
    r"|as an? (?:ai|language model|(?:ai |virtual )?assistant)"
    r"|i(?:'| a)m (?:\w+ )?an? (?:ai|large|language|virtual|assistant)"
    r"|(?:cannot|can't|(?:un|not )able to) (?:\w+ )?(?:help|assist|answer|comply)|hope (?:this|that|it) helps"
    r"|(?:gladly|delighted) (?:to )?(?:help|assist|answer|explain|talk)"
    r"|(?:great|good|excellent|interesting|brilliant|wonderful|thoughtful|fantastic) (?:question|point)"
    r"|(?:professional|medical|legal|financial) advice|consult (?:a|an|your|with)|no (?:guarantee|liability)"
    r"|my (?:knowledge|guidelines|training)"
    r"|i(?:'ll| will| would| am going to) (?:now |gladly |first |then |try to |do my )*"
    r"(?:answer|explain|describe)"
)
_PERSONAL_PHRASES = (
    r"i hope (?:this|that|it|my)|let me (?:know|think)|feel free|(?:do not|don't) hesitate|at your service"
    r"|(?:happy|glad|pleased|pleasure) (?:to )?(?:help|assist|answer|explain|talk)"
    r"|thank(?:s| you) (?:for|so|very)|have a (?:great|nice|good|wonderful) day"
    r"|i (?:cannot|can't|could not|am unable|am not able|do not have|don't have|have no)|i apologi[sz]e"
    r"|i(?:'| a)m (?:so |very |truly )?(?:sorry|afraid|impressed|always|here to)"
    r"|i(?:'ll| will| would| am going to) (?:now |gladly |first |then |try to |do my )*(?:write|give|best)"
)
"""What people say to each other, too: in a letter or a story that the prompt requests it is the subject."""
_TALK_IN_LETTER = regex.compile(rf"\b(?:{_PHRASES})\b")
_TALK = regex.compile(rf"\b(?:{_PHRASES}|{_PERSONAL_PHRASES})\b")
_REQUESTS_LETTER = regex.compile(
    r"\b(?:write|compose|draft|create|prepare|continue|finish|rewrite|improve|correct|proofread|translate|invent)\b"
    r"[^.?!\n]{0,80}\b(?:e-?mail|letter|message|note|speech|toast|dialogue|conversation|scene|story|poem|song"
    r"|diary|invitation|apology|reply|card|postcard|tweet|monologue|tale)\b",
    regex.IGNORECASE,
)


_TURN = regex.compile(
    r"\n[ \t]*+(?:(?:[*#]{1,4}[ \t]*+)?+(?:user|human|instruction|(?<question>(?:next )?question|q))"
    r"[*]{0,2}[ \t]*+:"
    r"|#{2,4}[ \t]*(?:instruction|human|user|input)\b|\[INST\]|<\|?(?:im_start|user|human|start_header_id)\b)",
    regex.IGNORECASE,
)
_ASKS_FOR_TURNS = regex.compile(
    r"\b(?:dialog(?:ue)?s?|conversations?|chats?|screenplay|transcripts?|role-?play)\b", regex.IGNORECASE
)
_ASKS_FOR_QUESTIONS = regex.compile(
    r"\b(?:questions?|interviews?|faqs?|q|quiz(?:zes)?|exam|flash ?cards?|riddles?|dialog(?:ue)?s?|conversations?"
    r")\b",
    regex.IGNORECASE,
)


def meta_talk_penalty(response: str, request: str = "") -> float:
    """1 − the share of the words of `response` in sentences about the conversation; 1 without words."""
    phrases = _TALK_IN_LETTER if _REQUESTS_LETTER.search(request) else _TALK
    turn = invented_turn(response, request)
    own = response if turn is None else response[:turn]
    if turn is None and not phrases.search(_plain(response)):
        return 1.0
    lengths = [(len(sentence.split()), sentence) for sentence in sentences(own)]
    invented = len(response.split()) - len(own.split())
    total = sum(length for length, _ in lengths) + invented
    talk = sum(length for length, sentence in lengths if phrases.search(_plain(sentence))) + invented
    return 1.0 - talk / total if total else 1.0


def invented_turn(response: str, request: str) -> int | None:
    """Where an invented turn of the user starts in `response`; None if `request` asks for such text."""
    for turn in _TURN.finditer(response):
        justified = _ASKS_FOR_QUESTIONS if turn["question"] else _ASKS_FOR_TURNS
        if response[: turn.start()].strip() and not justified.search(request):
            return turn.start()
    return None


def _plain(text: str) -> str:
    return text.replace("’", "'").lower()


def _flags(inputs: ResponseText) -> Sequence[str]:
    turn = invented_turn(inputs.response, inputs.request)
    return [] if turn is None else ["invented_turn"]


META_TALK_PENALTY = Feature(
    name="meta_talk_penalty",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Meta talk penalty",
    description="1 − share of words in sentences about the conversation instead of the subject",
    log_key="meta_talk_penalty",
    compute=lambda inputs: meta_talk_penalty(inputs.response, inputs.request),
    flags=_flags,
)
