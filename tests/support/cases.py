"""Collects the `CASE` of every cell and the `EXAMPLE` of every other layer from the test files, and lists the loops."""

from __future__ import annotations

import functools
import importlib
import inspect
from dataclasses import replace
from pathlib import Path

import jaxrnn
from jaxrnn import loops
from tests.support.references import Case

TESTS = Path(__file__).parents[1]

LOOPS = {  # every loop that runs any cell; each must equal `Scan()`
    "auto": loops.Auto(),
    "auto-checkpoint": loops.Auto(checkpoint_every=4),
    "unroll": loops.Scan(unroll=3),
    "checkpoint": loops.Scan(checkpoint_every=4),
    "deferred": loops.Deferred(),
    "deferred-unroll": loops.Deferred(unroll=3),
    "deferred-checkpoint": loops.Deferred(checkpoint_every=4),
    "deferred-blocks": loops.Deferred(block=3, checkpoint_every=7),
    "newton": loops.Newton(),
}

NEWTON_LOOPS = {  # every form of `Newton`
    "newton": loops.Newton(),
    "newton-checkpoint": loops.Newton(chunk=2, checkpoint_every=5),
    "newton-diagonal": loops.Newton(jacobian=loops.DiagonalJacobian()),
}

LINEAR_LOOPS = {  # every loop that runs a `LinearCell` only
    "associative": loops.AssociativeScan(),
    "associative-checkpoint": loops.AssociativeScan(chunk=2, checkpoint_every=5),
}

MATRIX_LOOPS = {  # every loop that runs a `MatrixCell` only
    "chunked": loops.Chunked(chunk=4),
    "chunked-checkpoint": loops.Chunked(chunk=2, checkpoint_every=5),
}

NATIVE_LOOPS = {  # every loop that computes in float32 and refuses some cells
    "native": loops.Native(),
    "native-checkpoint": loops.Native(checkpoint_every=4),
}


def exported_layers():
    """Every public class that is a layer, by name."""
    found = (getattr(jaxrnn, name) for name in dir(jaxrnn) if not name.startswith("_"))
    layers = {kind for kind in found if inspect.isclass(kind) and issubclass(kind, jaxrnn.Layer)}
    return {kind.__name__: kind for kind in layers if not inspect.isabstract(kind)}


def file_of(kind):
    """The file that must define a class's case: tests/cells/test_lstm.py for jaxrnn/cells/lstm.py."""
    *_, folder, stem = kind.__module__.split(".")
    return f"tests/{folder}/test_{stem}.py"


def found_in(folder, name):
    """Returns the variable `name` of each test file in a folder that defines it, by the name of the tested class."""
    values = []
    for path in sorted((TESTS / folder).glob("test_*.py")):
        if f"\n{name} = " in path.read_text():
            values.append(getattr(importlib.import_module(f"tests.{folder}.{path.stem}"), name))
    return {type(getattr(value, "cell", value)).__name__: value for value in values}


@functools.cache
def cell_cases() -> dict[str, Case]:
    """The cells of jaxrnn/cells."""
    return found_in("cells", "CASE")


@functools.cache
def cases() -> dict[str, Case]:
    """The cells of jaxrnn/cells and the wrappers."""
    return cell_cases() | found_in("wrappers", "CASE")


@functools.cache
def variants() -> dict[str, Case]:
    """Returns the cells of `cases` with other arguments; the other fields of a case apply to its variants, too."""
    return {
        f"{name}, {which}": replace(case, cell=other.cell, reference=other.reference, variants={})
        for name, case in cases().items()
        for which, other in case.variants.items()
    }


@functools.cache
def examples():
    """An instance of every layer that is not a cell."""
    return found_in("layers", "EXAMPLE")


SELECTED = ("Elman", "LSTM", "GRU", "ResetBeforeGRU", "ResetAfterMGU", "PeepholeLSTM", "ProjectedLSTM")


def selected_cells() -> dict[str, Case]:
    """A few cells and all wrappers, for tests that would take too long on every cell."""
    return {name: cell_cases()[name] for name in SELECTED} | found_in("wrappers", "CASE")


def selected_layers():
    """Those cells and every layer that is not a cell."""
    return {name: case.cell for name, case in selected_cells().items()} | examples()
