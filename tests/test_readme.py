"""The README's Python blocks run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxrnn

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_there_are_blocks():
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_block_runs(block, tmp_path):
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_table_of_cells_is_that_of_the_package():
    done = subprocess.run([sys.executable, "-m", "jaxrnn"], capture_output=True, text=True, check=True)
    assert done.stdout in README, "put what `python -m jaxrnn` prints into the README"


def test_a_cell_without_a_citation_has_no_row():
    from jaxrnn.__main__ import row

    class Uncited(jaxrnn.GRU):
        """An equation of nobody."""

    with pytest.raises(ValueError, match='Uncited must have References: authors, "title", year'):
        row(Uncited)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", README))))
def test_every_link_leads_somewhere(path):
    assert (ROOT / "".join(path)).exists()
