"""`meta_talk_penalty`: 1 − the share of the words that are in sentences about the conversation. 1 means none are.

Such a sentence talks about the answer, the question, the assistant or the service ("This is the best answer",
"What a great question!", "As an AI language model", "I hope this helps", "Please consult a professional")
instead of the subject. A sentence counts as a whole if it has one of the phrases below. If the prompt requests a
letter, a story or the like, what people say in them does not count. English only. Cost: linear.
"""

from __future__ import annotations

import regex

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.requests import last_request
from reward_service.features.sentences import sentences

_PHRASES = (
    r"(?:this|my|the above|no other|another) (?:\w+ )?(?:answers?|reply|questions?)|(?:this|my|the above) response"
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


def meta_talk_penalty(response: str, request: str = "") -> float:
    """1 − the share of the words of `response` in sentences about the conversation; 1 without words."""
    phrases = _TALK_IN_LETTER if _REQUESTS_LETTER.search(request) else _TALK
    if not phrases.search(_plain(response)):
        return 1.0
    lengths = [(len(sentence.split()), sentence) for sentence in sentences(response)]
    total = sum(length for length, _ in lengths)
    talk = sum(length for length, sentence in lengths if phrases.search(_plain(sentence)))
    return 1.0 - talk / total if total else 1.0


def _plain(text: str) -> str:
    return text.replace("’", "'").lower()


META_TALK_PENALTY = Feature(
    name="meta_talk_penalty",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Meta talk penalty",
    description="1 − share of words in sentences about the conversation instead of the subject",
    log_key="meta_talk_penalty",
    compute=lambda inputs: meta_talk_penalty(inputs.response, last_request(inputs.messages)),
)
