"""Who may import whom, and that the core needs jax alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxrnn

ROOT = Path(jaxrnn.__file__).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

CORE = ("_flax", "adopt", "combinators", "layer", "loops", "naming", "ops", "unroll")
FLAX = {"flax"} | {f"jaxrnn.{name}" for name in CORE}
ALLOWED = {  # what of jaxrnn and which other packages a file may import; the longest fitting name counts
    "__init__.py": {"jaxrnn"},
    "__main__.py": {"jaxrnn", "jaxrnn.layer"},
    "layer.py": set(),
    "equations.py": set(),
    "convolution.py": set(),
    "program.py": {"jaxrnn.convolution", "jaxrnn.equations"},
    "adopt.py": {"jaxrnn.layer", "jaxrnn.ops", "jaxrnn.parts"},
    "parts.py": {"jaxrnn.equations", "jaxrnn.rewriting"},
    "rewriting.py": {"jaxrnn.equations"},
    "naming.py": set(),
    "initializers.py": set(),
    "ops.py": {"jaxrnn.layer"},
    "cells/__init__.py": {"jaxrnn.cells", "jaxrnn.layer"},
    "cells/": {"jaxrnn.layer", "jaxrnn.ops", "jaxrnn.initializers"},
    "feedforward.py": {"jaxrnn.layer", "jaxrnn.ops", "jaxrnn.initializers"},
    "window.py": {"jaxrnn.layer", "jaxrnn.ops"},
    "inner.py": {"jaxrnn.layer"},
    "multiplicative.py": {f"jaxrnn.{name}" for name in ("initializers", "inner", "layer", "ops", "wrappers")},
    "fast_slow.py": {"jaxrnn.combinators", "jaxrnn.inner", "jaxrnn.layer", "jaxrnn.ops"},
    "skip.py": {"jaxrnn.initializers", "jaxrnn.layer", "jaxrnn.ops", "jaxrnn.wrappers"},
    "sliced.py": {"jaxrnn.combinators", "jaxrnn.layer", "jaxrnn.ops"},
    "weights.py": {"jaxrnn.layer", "jaxrnn.naming", "jaxrnn.ops"},
    "wrappers.py": {"jaxrnn.layer", "jaxrnn.ops", "jaxrnn.initializers", "jaxrnn.program"},
    "loops/__init__.py": {"jaxrnn.loops"},
    "loops/": {"jaxrnn.layer", "jaxrnn.ops", "jaxrnn.program"}
    | {f"jaxrnn.loops.{name}" for name in ("scan", "prefetch", "reverse_only", "cotangents")},
    "unroll.py": {"jaxrnn.layer", "jaxrnn.ops", "jaxrnn.loops"},
    "bidirectional.py": {"jaxrnn.layer", "jaxrnn.combinators"},
    "combinators.py": {"jaxrnn.layer", "jaxrnn.ops", "jaxrnn.initializers", "jaxrnn.loops"},
    "slots.py": {"jaxrnn.layer", "jaxrnn.loops", "jaxrnn.naming", "jaxrnn.ops", "jaxrnn.unroll", "safetensors"},
    "stream.py": {"jaxrnn.layer", "jaxrnn.slots"},
    "convert/__init__.py": {"jaxrnn.convert"},
    "convert/equinox.py": {"jaxrnn.cells", "jaxrnn.convert", "jaxrnn.layer", "equinox"},
    "convert/": {"jaxrnn.bidirectional", "jaxrnn.cells", "jaxrnn.combinators", "jaxrnn.convert", "jaxrnn.layer"},
    "convert/torch.py": {
        *("jaxrnn.bidirectional", "jaxrnn.cells", "jaxrnn.combinators", "jaxrnn.convert"),
        *("jaxrnn.feedforward", "jaxrnn.layer"),
    },
    "values.py": {
        *("jaxrnn.bidirectional", "jaxrnn.cells", "jaxrnn.combinators", "jaxrnn.feedforward", "jaxrnn.initializers"),
        *("jaxrnn.adopt", "jaxrnn.loops", "jaxrnn.naming", "jaxrnn.trees", "jaxrnn.window"),
        *("jaxrnn.fast_slow", "jaxrnn.multiplicative", "jaxrnn.skip", "jaxrnn.sliced", "jaxrnn.weights"),
        "jaxrnn.wrappers",
    },
    "files.py": {"jaxrnn.layer", "jaxrnn.naming", "jaxrnn.trees", "jaxrnn.values", "safetensors"},
    "testing.py": {"jaxrnn.layer", "jaxrnn.unroll", "jaxrnn.loops"},
    "trees.py": {"jaxrnn.layer", "jaxrnn.ops", "jaxrnn.initializers"},
    "_flax.py": FLAX | {"jaxrnn.bidirectional"},
    "_linen_cells.py": FLAX,
    "_nnx_cells.py": FLAX,
    "linen.py": FLAX | {"jaxrnn._linen_cells"},
    "nnx.py": FLAX | {"jaxrnn._nnx_cells"},
}
EVERYWHERE = {"jax", "numpy"} | sys.stdlib_module_names


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(node):
    """Full dotted names of all that is imported at or below a node, but for type checkers."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        is_package = (ROOT.parent / node.module.replace(".", "/")).is_dir()
        for alias in node.names:  # `from jaxrnn import ops` imports jaxrnn.ops
            yield f"{node.module}.{alias.name}" if is_package else node.module
    elif not is_type_checking(node):
        for child in ast.iter_child_nodes(node):
            yield from imports(child)
    else:
        yield from (name for child in node.orelse for name in imports(child))


def is_allowed(name, allowed):
    return name.split(".")[0] in EVERYWHERE or any(name == a or name.startswith(a + ".") for a in allowed)


@pytest.mark.parametrize("file", FILES)
def test_imports_only_what_it_may(file):
    rules = [rule for rule in ALLOWED if file == rule or (rule.endswith("/") and file.startswith(rule))]
    assert rules, f"{file} stands in no row of the table of imports"
    allowed = ALLOWED[max(rules, key=len)]
    for name in imports(ast.parse((ROOT / file).read_text())):
        assert is_allowed(name, allowed), f"{file} must not import {name}"


def test_the_walk_finds_imports():
    source = (
        "import a.b\nif TYPE_CHECKING:\n    import c\nelse:\n    import d\ndef f():\n    from jaxrnn import ops, layer"
    )
    assert list(imports(ast.parse(source))) == ["a.b", "d", "jaxrnn.ops", "jaxrnn.layer"]
    assert not is_allowed("jaxrnn.unroll", ALLOWED["cells/"])
    assert not is_allowed("jaxrnn.loops.scan", ALLOWED["cells/"])
    assert not is_allowed("flax.linen", ALLOWED["unroll.py"])
    assert not is_allowed("jaxrnn.cells.lstm", ALLOWED["cells/"])
    assert is_allowed("jax.numpy", set())


def test_no_row_of_the_table_is_left_over():
    expected_later = {"convert/"}
    for rule in set(ALLOWED) - expected_later:
        assert any(file == rule or (rule.endswith("/") and file.startswith(rule)) for file in FILES), rule


def test_jaxrnn_imports_neither_flax_nor_optax():
    code = "import sys, jaxrnn, jaxrnn.testing; print(sorted({'flax', 'optax', 'torch', 'keras'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
