"""What the pages show is true: their code runs and prints what they say, and their links lead somewhere."""

import contextlib
import io
import re
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from tests.support.comparisons import assert_close

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *(page for room in ("jaxrnn", "experiments", "tests") for page in sorted((ROOT / room).rglob("README.md"))),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)\s]*)\)|src=\"(?!https?:)([^\"]+)\"")

A_MILLION = "length, piece, chunk = 1_000_000"  # an example, which runs here with fewer steps


class Block(NamedTuple):
    code: str
    output: str | None  # what the page says that the code prints


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks_of(text):
    """Returns the Python blocks of a page, each with the `text` block directly after it."""
    blocks, end = [], 0
    for found in BLOCK.finditer(text):
        language, content = found.groups()
        if language == "python":
            blocks.append(Block(content, None))
        elif language == "text" and blocks and not text[end : found.start()].strip():
            blocks[-1] = blocks[-1]._replace(output=content)
        end = found.end()
    return blocks


def anchors_of(page):
    """Returns the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run_blocks(blocks, name):
    """Runs the blocks of a page in one namespace, and compares what they print."""
    module = types.ModuleType(name)
    sys.modules[name] = module  # so that classes defined in a block can be pickled
    try:
        for number, block in enumerate(blocks):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block.code, f"<block {number} of {name}>", "exec"), vars(module))
            if block.output is not None:
                assert printed.getvalue() == block.output, f"block {number} does not print what the page shows"
    finally:
        del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_run_in_their_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_blocks(blocks_of(page.read_text().replace(A_MILLION, A_MILLION.replace("1_000_000", "20_000"))), "page")


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["LSTM(64)", "LRU(64, 64)"])
def test_a_million_steps_in_pieces_have_the_gradient_of_one_call(cell, tmp_path, monkeypatch):
    """With a tenth of the steps."""
    monkeypatch.chdir(tmp_path)
    (code,) = (code for code, _ in blocks_of((ROOT / "jaxrnn/loops/README.md").read_text()) if A_MILLION in code)
    code = code.replace("1_000_000", "100_000").replace("LSTM(64)", cell)
    with jax.enable_x64(True):
        page: dict[str, Any] = {"jax": jax, "jnp": jnp, "jaxrnn": jaxrnn}
        exec(code, page)
        xs, targets, model = jnp.asarray(page["series"][:-1]), page["series"][1:], page["model"]

        def loss_fn(params):
            _, ys = jaxrnn.unroll(model, params, xs, loop=jaxrnn.loops.Deferred())
            return ((ys - targets) ** 2).mean()

        expected = jax.jit(jax.value_and_grad(loss_fn))(page["model_params"])
        assert isinstance(model.layers[0], type(eval(f"jaxrnn.{cell}")))
        assert expected[0].dtype == "float64"
        assert_close((page["loss"], page["gradient"]), expected, rtol=1e-9)


def test_blocks_are_found_with_their_output():
    text = "```python\nprint(1)\n```\n\n```text\n1\n```\n\nWords\n\n```text\nother\n```\n\n```python\nx = 1\n```\n"
    assert blocks_of(text) == [("print(1)\n", "1\n"), ("x = 1\n", None)]
    assert len(blocks_of((ROOT / "README.md").read_text())) >= 5


def test_wrong_output_is_found():
    with pytest.raises(AssertionError, match="block 1 does not print what the page shows"):
        run_blocks([Block("x = 1", None), Block("print(x)", "2\n")], "page")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        path, _, anchor = "".join(link).partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{path} does not exist"
        assert not anchor or anchor in anchors_of(target), f"{path} has no heading for #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_name_scripts_that_exist(page):
    commands = [content for language, content in BLOCK.findall(page.read_text()) if language == "sh"]
    for path in re.findall(r"\b(?:experiments|tests)(?:/[\w.]+)+", "\n".join(commands)):
        assert (ROOT / path).exists(), f"{path} does not exist"


def test_readme_has_the_commands_of_a_newcomer():
    """CI runs the second one."""
    text = (ROOT / "README.md").read_text()
    starts = re.findall(r"^python3 -m venv \.venv && .*$", text, flags=re.MULTILINE)
    assert [start.rsplit(" ", 1)[-1] for start in starts] == ["experiments/char_lm.py", "-q"]
    assert starts[1].endswith(".venv/bin/python -m pytest -q")


def test_readme_counts_the_cells():
    assert f" {len(jaxrnn.cells.all())} cells from the literature" in (ROOT / "README.md").read_text()


def test_readme_has_no_long_table():
    tables = re.findall(r"(?:^\|.*\n)+", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert tables
    assert max(table.count("\n") - 2 for table in tables) <= 15
