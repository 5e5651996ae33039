"""Runs the zoo: `python experiments/zoo`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # so that imports are those of the other scripts

from support.early import check_command_line  # noqa: E402

if __name__ == "__main__":
    check_command_line(str(Path(__file__).with_name("compare.py")))  # before the imports below, which take seconds

from support.clock import process_start  # noqa: E402

from zoo.compare import run_zoo  # noqa: E402

if __name__ == "__main__":
    run_zoo(started=process_start())
