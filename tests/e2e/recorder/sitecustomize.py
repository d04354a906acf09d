"""Records OpenRLHF's batches after it has computed the advantages, for the tests.

Python imports this in OpenRLHF's processes because its folder is on their PYTHONPATH.
"""

import json
import os
from pathlib import Path
from typing import Any

from reward_trainer.openrlhf import import_hook


def _record(experience_maker: Any) -> None:
    maker = experience_maker.RemoteExperienceMaker
    real = maker.make_experience_batch

    def make_experience_batch(self: Any, rollout_samples: Any) -> Any:
        batch = real(self, rollout_samples)
        with Path(os.environ["RECORDED_BATCHES"]).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for experience in batch for row in _rows(experience))
        return batch

    maker.make_experience_batch = make_experience_batch


def _rows(experience: Any) -> list[dict[str, Any]]:
    responses = [
        tokens[1:][mask.bool()].tolist()
        for tokens, mask in zip(experience.sequences, experience.action_mask, strict=True)
    ]
    rewards = experience.info["reward"].flatten().tolist()
    return [
        {"label": json.loads(label), "response_ids": response, "reward": reward}
        for label, response, reward in zip(experience.labels, responses, rewards, strict=True)
    ]


import_hook.install(stand_ins={}, patches={"openrlhf.trainer.ppo_utils.experience_maker": _record})
