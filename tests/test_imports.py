"""Who may import whom: one row for a room, no circles, and a core that needs nothing but JAX."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import jaxrnn

ROOT = Path(jaxrnn.__file__).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

FOUNDATION = {
    "_cache",
    "ops",
    "initializers",
    "_names",
    "_check",
    "_keys",
    "_kinds",
    "_time_axis",
    "_tracing",
    "layer",
    "_matrix_cell",
    "loops",
}
PACKAGES = FOUNDATION | {"cells", "layers", "wrappers", "weights", "trees", "_unroll", "_generate", "_adopt"}
ALLOWED = {  # room: the rooms of jaxrnn and the other packages that it may import
    "ops": set(),
    "initializers": set(),
    "_names": set(),
    "_keys": set(),
    "_call": {"layer", "ops", "_check", "_diagnosis", "_keys", "_kinds", "_time_axis"},
    "_kinds": set(),
    "_time_axis": {"ops"},
    "_mask": {"ops"},
    "_check": {"initializers", "ops"},
    "_tensor_files": {"safetensors"},
    "_tracing": set(),
    "layer": {"ops", "_check", "_diagnosis", "_keys", "_time_axis"},
    "_matrix_cell": {"layer", "ops"},
    "cells": {"layer", "_matrix_cell", "ops", "initializers", "_check"},
    "loops": {
        "layer",
        "_matrix_cell",
        "ops",
        "_tracing",
        "_cache",
        "_call",
        "_check",
        "_kinds",
        "_time_axis",
        "llvmlite",
    },
    "_cache": set(),
    "_diagnosis": {"_cache"},
    "_all_states": {"layer"},
    "_unroll": {"_all_states", "_call", "layer", "ops", "loops", "_cache", "_diagnosis", "_mask"},
    "layers": FOUNDATION,
    "weights": FOUNDATION,
    "trees": FOUNDATION | {"_diagnosis"},
    "wrappers": FOUNDATION | {"layers"},
    "_generate": {"layer", "ops", "_unroll", "_check", "_diagnosis"},
    "_cross_entropy": {"ops", "_check", "_diagnosis"},
    "_adopt": {"layer", "ops", "_tracing", "_check"},
    "_serving": PACKAGES | {"_diagnosis", "_tensor_files"},
    "testing": PACKAGES,
    "convert": {"layer", "cells", "layers", "_check"},
    "_saving": PACKAGES | {"convert", "_tensor_files"},
    "_flax": PACKAGES | {"flax"},
    "linen": PACKAGES | {"_diagnosis", "_flax", "flax"},
    "nnx": PACKAGES | {"_diagnosis", "_flax", "flax"},
    "_exporting": set(),
    "__init__": PACKAGES
    | {"_cross_entropy", "_exporting", "_saving", "_serving", "convert", "testing", "linen", "nnx"},
    "_catalogue": {"jaxrnn", "layer", "cells", "loops"},
    "__main__": {"_catalogue", "jaxrnn"},
}
OPTIONAL = {("convert", "equinox")}  # a converter returns another library's module, imported where it is made
EVERYWHERE = {"jax", "numpy"} | sys.stdlib_module_names


def room_of(file):
    return file.split("/")[0].removesuffix(".py")


def imports(node):
    """Yields the full dotted names of all imports at or below a node, including those for type checkers."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        is_package = (ROOT.parent / node.module.replace(".", "/")).is_dir()
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            is_module = is_package and (ROOT.parent / f"{name.replace('.', '/')}.py").exists()
            is_room = is_package and (ROOT.parent / name.replace(".", "/")).is_dir()
            yield name if is_module or is_room else node.module
    else:
        for child in ast.iter_child_nodes(node):
            yield from imports(child)


def imports_of(file):
    return set(imports(ast.parse((ROOT / file).read_text())))


def target(name):
    """Returns the room or the package that an import is about."""
    package, _, rest = name.partition(".")
    return rest.split(".")[0] if package == "jaxrnn" and rest else package


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_what_its_room_may(file):
    room = room_of(file)
    assert room in ALLOWED, f"{room} has no row in the table of imports"
    for name in imports_of(file):
        to = target(name)
        allowed = to == room or to in EVERYWHERE | ALLOWED[room] or (room, to) in OPTIONAL
        assert allowed, f"{file} must not import {name}"


def test_every_row_of_the_table_is_a_room():
    assert set(ALLOWED) == {room_of(file) for file in FILES}


def test_rooms_import_each_other_without_circles():
    graph = {}
    for file in FILES:
        rooms = {target(name) for name in imports_of(file)} & set(ALLOWED)
        graph.setdefault(room_of(file), set()).update(rooms - {room_of(file)})
    TopologicalSorter(graph).prepare()


def test_files_import_each_other_without_circles():
    modules = {f"jaxrnn.{file.removesuffix('.py').replace('/', '.')}": file for file in FILES}
    packages = {name.removesuffix(".__init__"): name for name in modules if name.endswith(".__init__")}
    graph = {}
    for module, file in modules.items():
        known = {packages.get(name, name) for name in imports_of(file)} & set(modules)
        graph[module] = known - {module}
    TopologicalSorter(graph).prepare()


def test_the_walk_finds_imports():
    source = (
        "import a.b\nif TYPE_CHECKING:\n    import c\nelse:\n    import d\ndef f():\n"
        "    from jaxrnn import ops, unroll\n    from jaxrnn.cells.lstm import LSTM"
    )
    found = list(imports(ast.parse(source)))
    assert found == ["a.b", "c", "d", "jaxrnn.ops", "jaxrnn", "jaxrnn.cells.lstm"]
    assert [target(name) for name in found] == ["a", "c", "d", "ops", "jaxrnn", "cells"]


def test_the_core_imports_nothing_but_jax():
    optional = ["flax", "optax", "torch", "keras", "safetensors", "haiku", "equinox", "matplotlib"]
    code = f"import sys, jaxrnn, jaxrnn.testing; print(sorted(set({optional}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
