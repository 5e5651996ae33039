"""What is exported is tested, or the suite fails."""

import inspect

import jax
import pytest
from tables import ALL, CATALOGUE, CELLS, LINEAR_LOOPS, LOOPS, VARIANTS

import jaxrnn
from jaxrnn import loops

EXPORTED = [getattr(jaxrnn, name) for name in jaxrnn.__all__]
LAYER_CLASSES = [
    kind
    for kind in EXPORTED
    if inspect.isclass(kind) and issubclass(kind, jaxrnn.Layer) and not inspect.isabstract(kind)
]


def test_layers_are_found():
    assert {jaxrnn.LSTM, jaxrnn.Zoneout, jaxrnn.Stack, jaxrnn.Dense} <= set(LAYER_CLASSES)


@pytest.mark.parametrize("kind", LAYER_CLASSES, ids=lambda kind: kind.__name__)
def test_every_exported_layer_stands_in_a_table(kind):
    table = CATALOGUE | CELLS if issubclass(kind, jaxrnn.Cell) else ALL
    assert kind.__name__ in table, f"{kind.__name__} is exported, so tests/tables.py must hold an instance of it"
    entry = table[kind.__name__]
    assert type(entry.cell if issubclass(kind, jaxrnn.Cell) else entry) is kind


def test_every_table_entry_is_exported():
    assert set(ALL) | set(CATALOGUE) <= {kind.__name__ for kind in LAYER_CLASSES}


def test_variants_are_of_cells_of_the_catalogue():
    assert {type(case.cell) for case in VARIANTS.values()} <= {type(case.cell) for case in CATALOGUE.values()}


def test_every_public_name_of_a_cell_is_exported():
    for name, case in (CATALOGUE | CELLS).items():
        if type(case.cell).__module__.startswith("jaxrnn.cells"):
            params = case.cell.init(jax.random.key(0), case.reference.input_size)
            assert getattr(jaxrnn, f"{name}Params") is type(params)
            assert getattr(jaxrnn, f"{name}State") is type(case.cell.initial_state(params))


def test_every_exported_loop_stands_in_the_table():
    kinds = {kind for kind in vars(loops).values() if inspect.isclass(kind) and issubclass(kind, loops.Loop)}
    assert kinds - {loops.Loop} <= {type(loop) for loop in (LOOPS | LINEAR_LOOPS).values()}


def test_exported_names_are_sorted_and_exist():
    assert len(set(jaxrnn.__all__)) == len(jaxrnn.__all__)
    assert {name for name in vars(jaxrnn) if inspect.isclass(getattr(jaxrnn, name))} <= set(jaxrnn.__all__)
