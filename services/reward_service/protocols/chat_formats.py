"""Chat formats as data: the markers that the chat templates of model families write around messages.

    lead          header    content   footer      header       …   generation prompt
    <|bos|>    <|im_start|>user\\nWhy?<|im_end|>\\n<|im_start|>assistant\\n

A format is recognised by the start of a prompt. `chat_templates` has the one parser for all of them. A family that
writes the system message into the first user message (Gemma 1 to 3, Mistral v1 to v3) has no marker between the
two, so both stay one user message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
    "ipython": "tool",
    "observation": "tool",
    "environment": "tool",
    "functions": "tool",
}
"""Message role by the word, in lower case, that a header contains."""


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """Markers of one family of chat templates."""

    name: str
    header: str
    """Pattern of the start of a turn; its group `role` is the role's word."""
    footers: tuple[str, ...] = ()
    """Texts that end a turn of any role. A turn without one ends at the next header."""
    assistant_footers: tuple[str, ...] = ()
    """Texts that end an assistant turn, besides `footers`."""
    start: str | None = None
    """Pattern that a prompt begins with, after BOS and padding tokens; when None, optional space and a header."""
    generation_prompt: str | None = None
    """Pattern of the end of a prompt, when it is not an assistant header."""
    ends: tuple[str, ...] = ()
    """Texts that end a response, besides the footers of assistant turns."""
    specials: str = ""
    """Pattern of the special tokens, which are removed from a response; headers and footers are added."""
    lead_role: str | None = None
    """Role of text before the first header; None when templates put their own text there."""
    unclosed: frozenset[str | None] = frozenset()
    """Roles whose turns end at the next header, if that comes before a footer."""
    continues: frozenset[str] = frozenset()
    """Footers after which a response goes on, as that of harmony's analysis."""
    roles: Mapping[str, str | None] = field(default_factory=lambda: _ROLES)
    """Message role by the header's word; None for a turn that is not a message."""
    thinking: str = r"<think>(?P<thought>.*?)(?:</think>|\Z)"
    """Pattern of the reasoning in a response, with a group `thought`."""
    thinking_opened: str = r"<think>\s*\Z"
    """Pattern of a generation prompt's end that opens the reasoning."""
    answer_header: str | None = None
    """Pattern of what the policy writes before its answer, besides reasoning."""
    strip: bool = False
    """Whether white space around a message belongs to the template."""


_BRACKETED = (
    r"<\|(?:im_start|im_end|endoftext|begin_of_text|end_of_text|start_header_id|end_header_id|eot_id|eom_id"
    r"|finetune_right_pad_id|pad|endofprompt)\|>"
)
_PAD = r"<pad>|<unk>"
_INSTRUCTIONS: dict[str, str | None] = {
    "INST": "user",
    "/INST": "assistant",
    "SYSTEM_PROMPT": "system",
    "TOOL_RESULTS": "tool",
    "AVAILABLE_TOOLS": None,
    "MODEL_SETTINGS": None,
}

_ALL_BUT_TOOL = frozenset({"system", "developer", "user", "assistant", None})

FORMATS: tuple[ChatFormat, ...] = (
    ChatFormat(
        "chatml",  # Qwen, SmolLM, Yi, Hermes …; SmolLM3 does not close its system turn
        header=r"<\|im_start\|>(?P<role>\w+)\n",
        footers=("<|im_end|>",),
        ends=("<|endoftext|>",),
        specials=_BRACKETED,
        unclosed=frozenset({"system"}),
    ),
    ChatFormat(
        "phi-4",
        header=r"<\|im_start\|>(?P<role>\w+)<\|im_sep\|>",
        footers=("<|im_end|>",),
        ends=("<|endoftext|>",),
        specials=rf"{_BRACKETED}|<\|im_sep\|>",
    ),
    ChatFormat(
        "llama-3",
        header=r"<\|start_header_id\|>(?P<role>\w+)<\|end_header_id\|>\n\n",
        footers=("<|eot_id|>", "<|eom_id|>"),
        ends=("<|end_of_text|>",),
        specials=_BRACKETED,
    ),
    ChatFormat(
        "llama-4",
        header=r"<\|header_start\|>(?P<role>\w+)<\|header_end\|>\n\n",
        footers=("<|eot|>", "<|eom|>"),
        ends=("<|end_of_text|>",),
        specials=rf"{_BRACKETED}|<\|(?:header_start|header_end|eot|eom|finetune_right_pad)\|>",
    ),
    ChatFormat(
        "mistral",  # Llama 2 too: its `<<SYS>>` is inside the first user turn
        header=r"\[(?P<role>/?INST|SYSTEM_PROMPT|TOOL_RESULTS|AVAILABLE_TOOLS|MODEL_SETTINGS)\]",
        footers=("[/SYSTEM_PROMPT]", "[/TOOL_RESULTS]", "[/AVAILABLE_TOOLS]", "[/MODEL_SETTINGS]"),
        assistant_footers=("</s>",),
        specials=rf"</?s>|\[/?(?:INST|SYSTEM_PROMPT|TOOL_RESULTS|AVAILABLE_TOOLS|MODEL_SETTINGS)\]|{_PAD}",
        unclosed=_ALL_BUT_TOOL,
        roles=_INSTRUCTIONS,
        thinking=r"(?:\[THINK\]|<think>)(?P<thought>.*?)(?:\[/THINK\]|</think>|\Z)",
        strip=True,
    ),
    ChatFormat(
        "gemma",  # 1 to 3
        header=r"<start_of_turn>(?P<role>\w+)\n",
        footers=("<end_of_turn>",),
        ends=("<eos>",),
        specials=rf"<(?:start_of_turn|end_of_turn|bos|eos)>|{_PAD}",
    ),
    ChatFormat(
        "gemma-4",
        header=r"<\|turn>(?P<role>\w+)\n",
        footers=("<turn|>",),
        ends=("<eos>",),
        specials=rf"<\|turn>|<turn\|>|<\|channel>|<channel\|>|<\|think\|>|<(?:bos|eos)>|{_PAD}",
        thinking=r"<\|channel>thought\n(?P<thought>.*?)(?:<channel\|>|\Z)",
        thinking_opened=r"<\|channel>thought\n\s*\Z",
    ),
    ChatFormat(
        "command-r",
        header=r"<\|START_OF_TURN_TOKEN\|><\|(?P<role>SYSTEM|USER|CHATBOT)_TOKEN\|>",
        footers=("<|END_OF_TURN_TOKEN|>",),
        ends=("<EOS_TOKEN>",),
        specials=r"<\|(?:START_OF_TURN|END_OF_TURN|SYSTEM|USER|CHATBOT)_TOKEN\|>|<\|(?:START|END)_RESPONSE\|>"
        r"|<(?:BOS_TOKEN|EOS_TOKEN|PAD|UNK)>",
        thinking=r"<\|START_THINKING\|>(?P<thought>.*?)(?:<\|END_THINKING\|>|\Z)",
        thinking_opened=r"<\|START_THINKING\|>\s*\Z",
    ),
    ChatFormat(
        "harmony",  # gpt-oss; the analysis channel is reasoning
        header=r"<\|start\|>(?P<role>\w++)[^<]*+(?:<\|channel\|>[^<]*+)?<\|message\|>",
        footers=("<|end|>", "<|return|>", "<|call|>"),
        continues=frozenset({"<|end|>"}),
        start=r"\s*<\|start\|>\w+",
        generation_prompt=r"<\|start\|>assistant\s*\Z",
        specials=r"<\|(?:start|end|return|call|message|channel|constrain|startoftext|endoftext)\|>",
        thinking=r"(?:<\|start\|>assistant)?\s*<\|channel\|>(?:analysis|commentary)[^<]*<\|message\|>"
        r"(?P<thought>.*?)(?:<\|end\|>|\Z)",
        answer_header=r"\s*+(?:<\|start\|>assistant\s*+)?<\|channel\|>final[^<]*+<\|message\|>",
        strip=True,
    ),
    ChatFormat(
        "deepseek",  # V2.5, V3, R1: the system message has no header
        header="<｜(?P<role>User|Assistant|tool▁outputs▁begin)｜>",
        assistant_footers=("<｜end▁of▁sentence｜>",),
        start="(?s:.*?)<｜User｜>",
        specials="<｜[^｜<>]{1,32}｜>",
        lead_role="system",
        roles={"User": "user", "Assistant": "assistant", "tool▁outputs▁begin": "tool"},
        strip=True,
    ),
    ChatFormat(
        "role-tags",  # Phi-3, Zephyr, Tulu, GLM-4
        header=r"<\|(?P<role>system|user|assistant|tool|observation)\|>\n?",
        footers=("<|end|>", "</s>"),
        unclosed=_ALL_BUT_TOOL,
        assistant_footers=("<|endoftext|>",),
        ends=("<|user|>", "<|observation|>"),
        specials=rf"</?s>|<\|(?:system|user|assistant|observation|end)\|>|{_PAD}|{_BRACKETED}",
        strip=True,
    ),
    ChatFormat(
        "alpaca",
        header=r"### (?P<role>Instruction|Response):[ \n]?",
        start=r"(?:.*\n)*?### Instruction:\n",
        assistant_footers=("</s>", "<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<eos>"),
        specials=rf"</?s>|{_BRACKETED}|{_PAD}",
        roles={"Instruction": "user", "Response": "assistant"},
        strip=True,
    ),
    ChatFormat(
        "vicuna",
        header=r"(?:(?<=\s)|(?<=</s>)|\A)(?P<role>USER|ASSISTANT):[ \n]?",
        start=r"(?=(?>(?s:.*)ASSISTANT:)\s*\Z)(?s:.*?)(?:\A|(?<=\s))USER: ",
        assistant_footers=("</s>",),
        specials=rf"</?s>|{_PAD}",
        lead_role="system",
        strip=True,
    ),
)
"""The known formats; the first whose start matches applies."""

PLAIN = ChatFormat(
    "plain",
    header=r"(?!)(?P<role>)",
    start="",
    assistant_footers=(
        *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>", "<eos>", "<end_of_turn>"),
        "<｜end▁of▁sentence｜>",
    ),
    specials=_BRACKETED,
)
"""Text without markers: one user message."""

LEADING = re.compile(
    r"\A(?:</?s>|<bos>|<eos>|<pad>|<unk>|<\|(?:begin_of_text|endoftext|end_of_text|im_end|startoftext|pad"
    r"|finetune_right_pad(?:_id)?)\|>|<(?:BOS_TOKEN|PAD)>|<｜(?:begin|end)▁of▁sentence｜>|<｜▁pad▁｜>|\[PAD\]|\[gMASK\]"
    r"|<sop>|\ufffd|\s)+"
)
"""BOS and padding tokens, replacement characters of a cut character, and white space at the start of a text."""

MARKER = re.compile(r"<\|[A-Za-z][\w]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|<(?:start|end)_of_\w{1,20}>")
"""What looks like a special token of a chat template."""

PADDING = re.compile(r"(?:<[^<>\s]{1,40}>|\[[A-Z_]{2,20}\]|\s)*")
"""Special tokens of any tokenizer, as they stand before a padded prompt or after a padded response."""

TEMPLATE_TEXT = re.compile(
    r"\A(?:Cutting Knowledge Date: .*\n)?Today Date: .*(?:\n\n)?"
    r"|\A## Metadata\n\nKnowledge Cutoff Date: .*\nToday Date: .*\nReasoning Mode: .*\n\n"
    r"## Custom Instructions\n\n"
    r"|\A# Instructions\n\n"
)
"""What templates put before a system message: Llama 3, SmolLM3, harmony."""

DEFAULT_SYSTEMS = (
    re.compile(r"You are a helpful(?:,? and harmless)?(?: AI)? assistant\.?"),
    re.compile(r"You are a helpful AI assistant named SmolLM, trained by Hugging Face\.?"),
    re.compile(r"You are Qwen, created by Alibaba Cloud\. You are a helpful assistant\.?"),
    re.compile(r"You are ChatGPT, a large language model trained by OpenAI\..*", re.DOTALL),
    re.compile(r"A chat between a curious (?:user|human) and an artificial intelligence assistant\..*", re.DOTALL),
    re.compile(r"Below is an instruction that describes a task.*", re.DOTALL),
)
"""Default system prompts of SmolLM, Qwen, gpt-oss, Vicuna and Alpaca, for conversations without one."""
