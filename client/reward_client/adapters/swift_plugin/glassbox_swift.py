"""The file for `--external_plugins` of ms-swift: registers the reward functions of `reward_client.adapters.swift`.

It has a folder of its own, because ms-swift puts the folder of a plug-in first on the import path.
"""

from swift.rewards import orms

from reward_client.adapters.swift import reward_functions

orms.update(reward_functions())
