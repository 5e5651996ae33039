"""Every script: --help fits a terminal, and a wrong option is reported, both before the slow imports."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest
from support.early import check_command_line

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


def test_a_reader_that_stops_ends_a_script_quietly():
    command = [sys.executable, str(EXPERIMENTS / "memory.py"), "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert done.returncode == 128 + 13
    assert not done.stderr
