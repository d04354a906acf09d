"""python -m reward_evidence.report: draw the report of an evaluated run again."""

import sys

from reward_evidence.report.write import main

sys.exit(main())
