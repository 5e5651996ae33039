"""Runs the benchmark: `python experiments/benchmark`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # so that imports are those of the other scripts

from support.early import check_command_line  # noqa: E402

if __name__ == "__main__":
    check_command_line(str(Path(__file__).with_name("suites.py")))  # before the imports below, which take seconds

from benchmark.suites import run_benchmark  # noqa: E402

if __name__ == "__main__":
    run_benchmark()
