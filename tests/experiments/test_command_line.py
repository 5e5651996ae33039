"""Every script: --help fits a terminal, and a wrong option is reported, both before the slow imports."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest
from support.command_line import launch
from support.early import check_command_line
from support.options import OptionGroup
from support.parsing import from_command_line

from tests.support.scripts import EXPERIMENTS, error_line

OPTIONS_OF = {"zoo": "zoo/compare.py", "benchmark": "benchmark/suites.py"}
SCRIPTS = {path.stem: path for path in EXPERIMENTS.glob("*.py")} | {k: EXPERIMENTS / v for k, v in OPTIONS_OF.items()}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_help(monkeypatch, capsys, name):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        check_command_line(str(SCRIPTS[name]))
    assert not end.value.code
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 60
    description = ast.get_docstring(ast.parse(SCRIPTS[name].read_bytes()))
    assert out.partition("[OPTIONS]")[2].split()[: len(description.split())] == description.split()
    assert "default: )" not in out


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_wrong_option(monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "argv", [name, "--no-such-option", "3"])
    with pytest.raises(SystemExit) as end:
        check_command_line(str(SCRIPTS[name]))
    assert end.value.code == 2
    assert "Unrecognized options: --no-such-option, 3; --help lists the options" in error_line(capsys)


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 9 TiB"), RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nat node 1")]
)
def test_memory_that_is_exhausted_is_reported_in_one_line(monkeypatch, capsys, error):
    def experiment():
        raise error

    monkeypatch.setattr(sys, "argv", ["script"])
    with pytest.raises(SystemExit) as end:
        launch(experiment)
    assert end.value.code == 2
    assert error_line(capsys) == "error: out of memory: choose smaller sizes, for example a smaller --batch"


@dataclass(frozen=True)
class Flags(OptionGroup):
    new: bool = False
    old: bool = True


def test_a_flag_can_be_given_whatever_its_default_is(monkeypatch):
    """A resumed run has the saved options as its defaults, and the same command must resume it."""
    for saved in (None, [Flags()], [Flags(new=True, old=False)]):
        for words, expected in ((["--new", "--no-old"], Flags(True, False)), (["--no-new", "--old"], Flags())):
            monkeypatch.setattr(sys, "argv", ["script", *words])
            assert from_command_line((Flags,), None, defaults=saved) == [expected]


def test_ctrl_c_during_imports_ends_a_script_even_if_they_swallow_exceptions():
    program = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from support.early import check_command_line
check_command_line(sys.argv[1] + "/memory.py")
try:
    signal.raise_signal(signal.SIGINT)
except BaseException:
    pass
print("still running")
"""
    path = str(EXPERIMENTS)
    program = program.replace("sys.argv[1]", repr(path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "stopped immediately; nothing was saved since the last checkpoint\n"


def test_ctrl_c_is_an_exception_once_a_script_runs(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["memory.py"])
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job in the background
        check_command_line(str(SCRIPTS["memory"]))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        check_command_line(str(SCRIPTS["memory"]))
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        with pytest.raises(SystemExit, match="130"):
            launch(lambda: signal.raise_signal(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_reader_that_stops_ends_a_script_quietly():
    command = [sys.executable, str(EXPERIMENTS / "memory.py"), "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert done.returncode == 128 + 13
    assert not done.stderr
