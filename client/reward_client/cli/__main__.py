"""`python -m reward_client.cli`: the same as `glassbox`."""

import sys

from reward_client.cli.main import main

sys.exit(main())
