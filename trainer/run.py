"""python trainer/run.py …: the same as `glassbox train …`."""

import sys

from reward_trainer.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python trainer/run.py"))
