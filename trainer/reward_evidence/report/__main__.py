"""python -m reward_evidence.report: write the report of an evaluation again."""

import sys

from reward_evidence.report.write import main

sys.exit(main())
