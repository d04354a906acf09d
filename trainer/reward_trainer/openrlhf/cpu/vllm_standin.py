"""Stand-ins for the names of `vllm` and `flash_attn` that OpenRLHF imports, on a machine without them.

Our Transformers engine implements `vllm`. The names of `flash_attn` have no implementation: OpenRLHF uses them for
packed sequences only, which the command for a CPU never enables.
"""

import uuid
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from reward_trainer.openrlhf.import_hook import Names


class SamplingParams(SimpleNamespace):
    """The parameters that OpenRLHF sets, as attributes."""


class EngineArgs(SimpleNamespace):
    """The arguments that OpenRLHF passes to `vllm.AsyncEngineArgs`, as attributes."""


def _vllm() -> Mapping[str, Any]:
    from reward_trainer.openrlhf.cpu.engine import TransformersEngine

    return {
        "__version__": "0.33.0",  # OpenRLHF refuses old releases by this number
        "SamplingParams": SamplingParams,
        "AsyncEngineArgs": EngineArgs,
        "AsyncLLMEngine": TransformersEngine,
    }


def _process_group() -> Mapping[str, Any]:
    from reward_trainer.openrlhf.cpu.engine import GlooGroup

    return {"StatelessProcessGroup": GlooGroup}


def _names(*names: str) -> Names:
    return lambda: dict.fromkeys(names)


STAND_INS: dict[str, Names] = {
    "vllm": _vllm,
    "vllm.inputs": lambda: {"TokensPrompt": dict},
    "vllm.utils": lambda: {"random_uuid": lambda: uuid.uuid4().hex},
    "vllm.distributed": _names(),
    "vllm.distributed.utils": _process_group,
    "vllm.distributed.device_communicators": _names(),
    "vllm.distributed.device_communicators.pynccl": lambda: {"PyNcclCommunicator": lambda group, device: group},
    "flash_attn": _names(),
    "flash_attn.bert_padding": _names("index_first_axis", "pad_input", "rearrange", "unpad_input"),
    "flash_attn.utils": _names(),
    "flash_attn.utils.distributed": _names("all_gather"),
}
