"""Runs the benchmark: `python experiments/benchmark`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # so that imports are those of the other scripts

from support.command_line import launch  # noqa: E402

from benchmark.suites import Options, main  # noqa: E402

if __name__ == "__main__":
    launch(main, Options)
