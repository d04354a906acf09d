"""python trainer/run.py …: the command `glassbox train …` under its first name."""

import sys

from reward_trainer.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python trainer/run.py"))
