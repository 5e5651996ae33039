"""Everything that is exported has a case in the tests; otherwise a test fails and names the file that is missing."""

import inspect
from pathlib import Path

import jax
import pytest

import jaxrnn
from jaxrnn import loops
from tests.support.cases import (
    LINEAR_LOOPS,
    LOOPS,
    MATRIX_LOOPS,
    NATIVE_LOOPS,
    cases,
    cell_cases,
    examples,
    exported_layers,
    file_of,
    variants,
)

LAYERS = exported_layers()
ROOT = Path(jaxrnn.__file__).parents[1]
CELL_FILES = sorted(path.stem for path in (ROOT / "jaxrnn" / "cells").glob("*.py") if not path.stem.startswith("_"))


def test_layers_are_found():
    assert {"LSTM", "Zoneout", "Stack", "Dense"} <= set(LAYERS)
    assert len(CELL_FILES) > 100


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_every_exported_layer_has_a_case(name):
    kind = LAYERS[name]
    if issubclass(kind, jaxrnn.Cell):
        assert name in cases(), f"{file_of(kind)} must define CASE, with a jaxrnn.{name} and its reference"
        assert type(cases()[name].cell) is kind
    else:
        assert name in examples(), f"{file_of(kind)} must define EXAMPLE, an instance of jaxrnn.{name}"
        assert type(examples()[name]) is kind


@pytest.mark.parametrize("stem", CELL_FILES)
def test_every_cell_file_has_a_test_file(stem):
    path = f"tests/cells/test_{stem}.py"
    assert (ROOT / path).exists(), f"{path} must define CASE"
    modules = {type(case.cell).__module__.rsplit(".", 1)[-1] for case in cell_cases().values()}
    assert stem in modules, f"{path} must define CASE"


def test_every_case_is_exported():
    assert set(cases()) | set(examples()) <= set(LAYERS)


def test_variants_are_of_the_class_of_their_case():
    for name, case in variants().items():
        assert type(case.cell).__name__ == name.split(", ")[0]


@pytest.mark.parametrize("name", sorted(cell_cases()))
def test_parameters_and_state_of_a_cell_are_exported(name):
    case = cell_cases()[name]

    def describe():
        params = case.cell.init(jax.random.key(0), case.reference.input_size)
        return params, case.cell.initial_state(params)

    params, state = jax.eval_shape(describe)
    assert getattr(jaxrnn.cells, f"{name}Params") is type(params)
    assert getattr(jaxrnn.cells, f"{name}State") is type(state)


def test_every_exported_loop_is_tested():
    kinds = {kind for kind in vars(loops).values() if inspect.isclass(kind) and issubclass(kind, loops.Loop)}
    assert kinds - {loops.Loop} <= {
        type(loop) for loop in (LOOPS | LINEAR_LOOPS | MATRIX_LOOPS | NATIVE_LOOPS).values()
    }


def test_exported_names_are_unique_and_complete():
    assert len(set(jaxrnn.__all__)) == len(jaxrnn.__all__)
    own = {name for name, value in vars(jaxrnn).items() if getattr(value, "__module__", "").startswith("jaxrnn.")}
    assert {name for name in own if not name.startswith("_")} <= set(jaxrnn.__all__)
