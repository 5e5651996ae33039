"""The README's Python blocks run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_there_are_blocks():
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_block_runs(block, tmp_path):
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_every_cell_of_the_table_exists_and_every_cell_is_in_it():
    import jaxrnn

    table = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| \[", README, flags=re.MULTILINE))
    assert table == {name for name in jaxrnn.cells.__all__ if not name.endswith(("Params", "State"))}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", README))))
def test_every_link_leads_somewhere(path):
    assert (ROOT / "".join(path)).exists()
