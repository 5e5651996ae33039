"""`python -m jaxrnn`: the list of cells, one cell's page, and the catalogue in Markdown."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jaxrnn
from jaxrnn import _catalogue as catalogue
from jaxrnn.__main__ import main
from jaxrnn._catalogue import docstrings, pages
from jaxrnn._catalogue.equations import plain_lines, plain_math
from jaxrnn.cells import _families as families
from jaxrnn.cells._search import suggestions

pytestmark = pytest.mark.usefixtures("quick")

CELLS = jaxrnn.cells.all()
NAMES = [cell.__name__ for cell in CELLS]
LISTED = [name for family in families.FAMILIES for name in family.purposes]
# A stack in the example, images, symbols, several arrays under one name, no hidden size, a linear cell, many equations.
REPRESENTATIVE = ["LSTM", "HighwayLSTM", "ConvGRU", "MogrifierLSTM", "GridLSTM", "RGLRU", "LRU", "GRUD"]

every_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)


def run(capsys, *arguments):
    status = main(arguments)
    output = capsys.readouterr()
    return status, output.out, output.err


def test_every_cell_is_in_exactly_one_family():
    assert sorted(LISTED) == sorted(NAMES), "put every cell into one family of jaxrnn/cells/_families.py"


def test_purposes_fit_beside_the_names():
    for family in families.FAMILIES:
        for name, purpose in family.purposes.items():
            assert 10 <= len(purpose) <= 48, (name, purpose)


def test_cells_to_start_with_exist():
    assert set(families.START_HERE) <= set(NAMES)


def test_overview_names_every_cell_and_fits_a_terminal(capsys):
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 32
    before_notes = " ".join(lines[: lines.index(next(line for line in lines if line.startswith("* linear")))])
    assert [name for name in re.findall(r"\w+", before_notes) if name in NAMES] == LISTED


def test_list_describes_every_cell(capsys):
    status, out, err = run(capsys, "all")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    names = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert [name.rstrip("*") for name in names] == LISTED
    linear = {name.rstrip("*") for name in names if name.endswith("*")}
    assert linear == {cell.__name__ for cell in CELLS if issubclass(cell, jaxrnn.LinearCell)}


@pytest.mark.parametrize("name", ["images", "Images", "imag"])
def test_list_of_a_family(capsys, name):
    status, out, err = run(capsys, name)
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(
        families.FAMILIES[-1].purposes
    )


def test_readme_of_the_cells_is_what_the_command_prints(capsys):
    readme = Path(jaxrnn.cells.__file__).with_name("README.md").read_text()
    assert run(capsys, "--markdown")[1] == readme, "run `python -m jaxrnn --markdown > jaxrnn/cells/README.md`"


def test_page_of_the_lstm(capsys):
    status, out, err = run(capsys, "LSTM", "--hidden-size", "128", "--input-size", "32")
    assert (status, err) == (0, "")
    assert "    h_t = o_t ⊙ tanh(c_t)\n" in out
    assert "  forget_bias      Initial value of b_f: a number" in out
    assert "  gate_activation  The elementwise function in place of " in out
    assert f"{4 * 128 * (32 + 128 + 1):,} numbers" in " ".join(out.split())
    assert "  w_x  [32, 512]   [input, 4 * hidden], gates in the order i, f, g, o\n" in out
    assert "State\n  h  [*batch, 128]" in out
    assert "Output\n  [*batch, 128]" in out
    native = ", Native" if importlib.util.find_spec("llvmlite") else ""
    assert f"Loops\n  Auto (the default), Deferred{native}, Newton, Scan\n" in out
    assert '"Long short-term memory", 1997' in out
    assert "never added at run time" in out
    assert "  >>> cell = jaxrnn.LSTM(hidden_size=64)\n" in out
    assert out.endswith("jaxrnn/cells/lstm.py\n")


def check_page(cell):
    text = catalogue.page(cell)
    before, example = text.split("\n\nExample\n")
    assert not re.search(r"\\|:math:|\.\. ", before), "LaTeX or reStructuredText is left in the page"
    assert max(map(len, before.splitlines())) <= 84  # combining characters take no room
    assert f"jaxrnn.{cell.__name__}(" in example
    at = pages.example_of(cell)
    params = at.cell.init(jax.random.key(0), at.input_size)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"{count:,} numbers" in " ".join(before.split())
    for name in params._fields + at.cell.initial_state(params)._fields:
        assert f"\n  {name} " in before
    loops = re.search(r"\nLoops\n  (.*)\n", before)[1]
    assert ("AssociativeScan" in loops) == issubclass(cell, jaxrnn.LinearCell)
    assert {"Auto (the default)", "Deferred", "Newton", "Scan"} <= set(loops.split(", "))


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_page(name):
    check_page(getattr(jaxrnn, name))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NAMES) - set(REPRESENTATIVE)))
def test_page_of_every_other_cell(name):
    check_page(getattr(jaxrnn, name))


@every_cell
def test_docstring_has_all_that_a_page_needs(cell):
    text = docstrings.parse(cell)
    assert text.summary.endswith(".")
    assert any(block.is_math for block in text.body)
    assert {"Example", "References"} <= set(text.sections)
    assert set(text.arguments) == {field.name for field in dataclasses.fields(cell)}
    assert ".. math" not in "".join(block.text for block in text.body)
    for block in text.body:
        lines = plain_lines(block.text) if block.is_math else [catalogue.plain_text(block.text)]
        assert "\\" not in "".join(lines)
    assert type(pages.example_of(cell).cell) is cell


@every_cell
def test_file_has_the_name_that_the_catalogue_links_to(cell):
    cited = catalogue.citation(cell)
    assert cited.authors
    assert cited.title
    assert 1980 < int(cited.year) < 2100
    assert (Path(jaxrnn.cells.__file__).parent / pages._file(cell)).exists()


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"h_{t-1} \odot \tilde h_t", "h_{t-1} ⊙ h̃_t"),
        (r"W_{xi} x_t^{(l)}", "W_xi x_t^(l)"),
        (r"\frac{a + b}{\sqrt{c + d}}", "(a + b) / sqrt(c + d)"),
        (r"\frac{1}{n} \sum_{i=1}^L a_i", "(1 / n) ∑_{i=1}^L a_i"),
        (r"a, \quad b", "a,  b"),
        (r"r \cos \theta, r \sin(2 \theta)", "r cos θ, r sin(2 θ)"),
        (r"2 \, \mathrm{Re}(C s)", "2 Re(C s)"),
        (r"x \in \{i, f\}", "x ∈ {i, f}"),
        (r"\begin{cases} a & t \bmod T = 0 \\ b & \text{otherwise} \end{cases}", "{ a if t mod T = 0; b otherwise }"),
    ],
)
def test_latex_as_plain_text(latex, text):
    assert plain_math(latex) == text


@pytest.mark.parametrize("latex", [r"\unheard", r"\begin{array} a \end{array}", r"{a"])
def test_unknown_latex_is_an_error(latex):
    with pytest.raises(ValueError, match="LaTeX"):
        plain_math(latex)


def test_equations_are_aligned():
    assert plain_lines(r"a_t &= b \\ long_t &= c") == ["   a_t = b", "long_t = c"]


@pytest.mark.parametrize("name", ["lstm", "Lstm", "LSTM"])
def test_names_are_found_in_any_case(name):
    assert jaxrnn.cells.find(name) is jaxrnn.LSTM


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("vanilla", ["Elman"]),
        ("LSTMCell", ["LSTM"]),
        ("RNNCell", ["Elman"]),
        ("conv_lstm", ["ConvLSTM"]),
        ("layernorm", ["LayerNormElman", "LayerNormGRU", "LayerNormLSTM"]),
        ("mamba", ["Mamba2", "SelectiveSSM"]),
        ("xLSTM", ["MLSTM"]),
        ("bistable", ["BRC", "NBRC"]),
        ("transformer", []),
        ("", []),
    ],
)
def test_suggestions_by_case_family_and_distance(name, suggested):
    assert suggestions(name, NAMES) == suggested
    with pytest.raises(LookupError, match=f"there is no cell named {name!r}: "):
        jaxrnn.cells.find(name)


def test_names_differ_in_more_than_their_case():
    assert len({name.lower() for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["GRUU"], "there is no cell named 'GRUU': did you mean GRU?"),
        (["lsmt"], "there is no cell named 'lsmt': did you mean LSTM?"),
        (["RNN"], "there is no cell named 'RNN': did you mean Elman?"),
        (["SimpleRNN"], "there is no cell named 'SimpleRNN': did you mean Elman?"),
        (["???"], "there is no cell named '???': `python -m jaxrnn` lists all"),
        (["LRU", "--hidden-size", "8"], "LRU has no hidden_size: its arguments are state_size, output_size"),
        (["GRU", "--hidden-size", "0"], "hidden_size must be"),
        (
            ["GroupLSTM", "--hidden-size", "30"],
            "num_groups must be a positive integer that divides",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_shown_is_one_line_and_status_2(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("python -m jaxrnn: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--hidden-size", "8"], ["LSTM", "--markdown"], ["LSTM", "--input-size", "x"]])
def test_options_that_do_not_fit_together(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: python -m jaxrnn" in capsys.readouterr().err


def test_image_sizes(capsys):
    out = run(capsys, "ConvLSTM", "--hidden-size", "2", "--input-size", "8,8,3")[1]
    assert "w_x  [3, 3, 3, 8]" in out


def test_as_a_command():
    done = subprocess.run([sys.executable, "-m", "jaxrnn", "--help"], capture_output=True, text=True, check=True)
    assert "--hidden-size INT" in done.stdout
    done = subprocess.run([sys.executable, "-m", "jaxrnn", "GRUU"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean GRU?" in done.stderr


def test_a_reader_that_stops_early_is_not_an_error():
    done = subprocess.run(
        f"{sys.executable} -m jaxrnn all | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("Vanilla networks\n", "")


def test_page_is_printed_where_the_terminal_has_no_greek_letters():
    command = [sys.executable, "-X", "utf8=0", "-m", "jaxrnn", "Elman"]
    environment = {"PATH": "", "PYTHONPATH": str(Path(jaxrnn.__file__).parent.parent), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "h_t = ?(W x_t + R h_{t-1} + b)" in done.stdout


def test_a_docstring_without_a_paper_is_an_error():
    class Uncited(jaxrnn.GRU):
        """A cell without a paper."""

    with pytest.raises(ValueError, match='Uncited must have References that begin with authors, "title", year'):
        catalogue.citation(Uncited)


def test_a_docstring_without_an_example_is_an_error():
    class Unused(jaxrnn.GRU):
        """A cell without an example."""

    with pytest.raises(ValueError, match=r"the example in the docstring of Unused must call jaxrnn.Unused"):
        pages.example_of(Unused)


def test_text_after_the_sections_is_an_error():
    class Disordered(jaxrnn.GRU):
        """A cell.

        Args:
          hidden_size: Size.

        More text.
        """

    with pytest.raises(ValueError, match=r"text after its sections: 'More text\.'"):
        docstrings.parse(Disordered)
