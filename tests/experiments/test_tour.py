"""The tour: the notebook as it is saved is whole, and a new run computes what its prose says.

To run it again and save its outputs, after a change:

    jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
        --ExecutePreprocessor.coalesce_streams=True experiments/tour.ipynb
"""

from __future__ import annotations

import ast
import base64
import copy
import re
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support.scripts import EXPERIMENTS

nbformat = pytest.importorskip("nbformat")
PATH = EXPERIMENTS / "tour.ipynb"
PARTS = [
    "One step by hand",
    "Squashing",
    "Vanishing and exploding gradients",
    "The LSTM, gate by gate",
    "The GRU",
    "Reproducing the PyTorch tutorial",
    "Language models, classifiers, and the next of five numbers",
    "Further topics",
]

# What the prose says, in the names of the notebook.
CLAIMS = """
assert norms[1.2, "no squashing"][-1] > 1e4
assert max(norms[radius, "tanh"].max() for radius in (0.8, 1.0, 1.2)) < 32**0.5

assert elman_norms[0.8][50] < 1e-3 < 1 < elman_norms[1.3][50] < 1.3**50 / 100
assert max(fresh_norms["GRU"][50], fresh_norms["LSTM, forget bias 0"][50]) < fresh_norms["Elman"][50] / 1000
assert all(0.5 < fresh_norms[name][50] / 0.75**50 < 2 for name in ("GRU", "LSTM, forget bias 0"))
assert 0.1 < fresh_norms["LSTM"][50] / fresh_norms["Elman"][50] < 10
accuracy = {name: table.mean(0) for name, (table, _) in clouds.items()}
assert all(shares[0] > 0.9 for shares in accuracy.values())  # short gaps are easy
assert max(accuracy["Elman"][-1], accuracy["GRU"][-1]) < 0.6  # long ones are not
assert accuracy["LSTM"].mean() > max(accuracy["Elman"].mean(), accuracy["GRU"].mean())
assert accuracy["GRU"].mean() < accuracy["Elman"].mean() + 0.1
for name, (_, params) in clouds.items():
    new, read = cells[name].init(jax.random.key(0), len(WORDS)), draw(jax.random.key(5), 10, 1)[0][:, 0]
    assert gradient_norms(cells[name], params, read)[13] > max(0.05, gradient_norms(cells[name], new, read)[13])

assert all(trained[name].max() > untrained[name].max() for name in trained)
assert by_bias["0"].mean() < by_bias["1 (default)"].mean() < by_bias["Chrono(80)"].mean()
assert by_bias["Chrono(80)"].min() > 0.9
of_cells = [table.mean() for table, _ in clouds.values()]
assert max(of_cells) - min(of_cells) < by_bias["Chrono(80)"].mean() - by_bias["0"].mean()

assert abs(cell_size(contenders["GRU"]) / cell_size(contenders["LSTM"]) - 0.75) < 0.01
assert abs(cell_size(contenders["GRU, same parameters"]) / cell_size(contenders["LSTM"]) - 1) < 0.01
assert abs(h_after - h_before).max() > 1e-3
assert all(step is not None for step in faster.values())  # the GRUs need fewer steps here

assert ngrams[4] < min(held_out_losses.values()) < max(held_out_losses.values()) < ngrams[2]
assert 0.7 < min(shares[-1] for shares in digits.values())
assert max(shares[-1] for shares in digits.values()) < linear
assert all(error < repeating / 2 and error < error_beyond / 5 for error, error_beyond, _ in numbers.values())
assert line < 0.01

exact = {name: share for name, (share, _, _) in reversing.items()}
assert min(exact["global attention"], exact["local attention"]) > exact["no attention"] + 0.2
first = {name: norm[0] / norm[-1] for name, norm in layer_norms.items()}
assert first["plain"] < 0.1 * min(first["Residual"], first["Highway"])
assert first["plain"] < 0.01 and first["Highway"] > 0.1 and 0.5 < first["Residual"] < 2
assert skip_accuracy > 0.9 and skip_updates < 10
assert roots.mean() > share + 0.1
assert max(loop_differences.values()) < 1e-4
"""


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(PATH, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_the_file_is_a_clean_notebook(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not any(cell.metadata for cell in notebook.cells)
    assert PATH.stat().st_size < 1_500_000


def test_all_parts_are_there(notebook):
    headings = re.findall(r"^## (\d)\. ([^:\n]*)", prose(notebook), flags=re.MULTILINE)
    assert headings == [(str(n), title) for n, title in enumerate(PARTS, 1)]


def test_every_cell_has_run_in_order(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        ast.parse(cell.source)
        shows = re.search(r"^ *(print\(|plt\.show\()", cell.source, flags=re.MULTILINE)
        assert bool(cell.outputs) == bool(shows), cell.source


def test_outputs_are_numbers_and_pictures_only(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    for output in outputs:
        if output.output_type == "stream":
            assert output.name == "stdout"
            assert not re.search(r"/(home|root|tmp|work|usr)/|Warning|Traceback|\x1b|\r", output.text), output.text
        else:
            assert output.output_type == "display_data"
            assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
    assert sum(output.output_type == "display_data" for output in outputs) >= 10


def test_links_lead_somewhere(notebook):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", prose(notebook))
    assert {"gradients.py", "gates.py", "classify.py", "next_number.py", "char_lm.py", "label_trees.py"} <= set(links)
    for link in links:
        assert (EXPERIMENTS / link).exists(), link


def test_the_tutorial_has_the_numbers_of_pytorch(notebook):
    torch = pytest.importorskip("torch")
    sources = [cell.source for cell in code_cells(notebook)]
    names: dict = {"np": np}
    exec("\n".join(source for source in sources if source.startswith(("state_dict = {", "xs = np.array("))), names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        lstm = torch.nn.LSTM(3, 3)
        xs = torch.cat([torch.randn(1, 3) for _ in range(5)])
        first, other = ([torch.randn(1, 1, 3) for _ in "hc"] for _ in range(2))
    for name, array in lstm.state_dict().items():
        np.testing.assert_allclose(names["state_dict"][name], array, atol=1e-7)
    np.testing.assert_allclose(names["xs"], xs, atol=1e-7)
    layer, params = jaxrnn.convert.from_torch(names["state_dict"])
    for start, (h, c) in (("first", first), ("other", other)):
        h_0, c_0 = np.float32(names[f"{start}_h"]), np.float32(names[f"{start}_c"])
        np.testing.assert_allclose(h_0, h[0, 0], atol=1e-7)
        np.testing.assert_allclose(c_0, c[0, 0], atol=1e-7)
        state = layer.initial_state(params)._replace(h=jnp.array(h_0), c=jnp.array(c_0))
        last, ys = jaxrnn.unroll(layer, params, names["xs"], state)
        expected, (last_h, last_c) = lstm(xs[:, None], (h, c))
        np.testing.assert_allclose(ys, expected[:, 0].detach(), atol=1e-6)
        np.testing.assert_allclose(last.h, last_h[0, 0].detach(), atol=1e-6)
        np.testing.assert_allclose(last.c, last_c[0, 0].detach(), atol=1e-6)


@pytest.mark.slow
def test_a_new_run_computes_what_the_prose_says(notebook):
    nbclient = pytest.importorskip("nbclient")
    run = copy.deepcopy(notebook)
    for cell in code_cells(run):
        cell.outputs, cell.execution_count = [], None
    run.cells.append(nbformat.v4.new_code_cell(CLAIMS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter, about its own ports and paths
        client = nbclient.NotebookClient(run, timeout=600, kernel_name="python3", record_timing=False)
        client.execute(cwd=str(EXPERIMENTS))
    for saved, new in zip(code_cells(notebook), code_cells(run), strict=False):
        assert kinds_of(saved) == kinds_of(new), saved.source


def kinds_of(cell):
    """Returns the kinds of a cell's outputs. What a cell prints may arrive in several pieces."""
    kinds = [output.get("name", output.output_type) for output in cell.outputs]
    return [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before]
