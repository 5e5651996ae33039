"""Time that is sharded over devices gives the results of one device, in value and gradient."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

import jaxrnn
from tests.support import time_sharding_worker
from tests.support.cases import cell_cases, variants
from tests.test_readme import blocks_of

ASSOCIATIVE = "AssociativeScan(axis_name='time')"
CHUNKED = "Chunked(chunk=2, axis_name='time')"
STACK = (
    "Stack(Dropout(0.3), Bidirectional(MinGRU(4)), Window(3), Using(MLSTM(4, num_heads=2), Chunked(chunk=2)), "
    "Reversed(Using(RWKV7(4), Chunked(checkpoint_every=2))), Dense(2))"
)


def check(*cases):
    """Runs `check` of the worker for each case, in a process with four devices."""
    command = [sys.executable, time_sharding_worker.__file__, json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr


def test_results_are_those_of_one_device():
    small = "Stack(Dropout(0.3), Bidirectional(MinGRU(4)), Window(3), Using(MLSTM(4), Chunked(chunk=2)))"
    check(
        {"layer": "Stack(LRU(4, 3), Using(DeltaNet(4), Chunked(chunk=2)))", "loop": ASSOCIATIVE, "nan": True},
        {"layer": small, "loop": ASSOCIATIVE, "key": True, "gradient": False},
    )


CELLS = {name: case for name, case in (cell_cases() | variants()).items() if isinstance(case.cell, jaxrnn.LinearCell)}
MATRICES = {
    name: case for name, case in (cell_cases() | variants()).items() if isinstance(case.cell, jaxrnn.MatrixCell)
}
EVERY_CELL = [
    {"layer": f"cases[{name!r}].cell", "loop": loop, "inputs": case.reference.input_size}
    for cells, loop in ((CELLS, ASSOCIATIVE), (MATRICES, CHUNKED))
    for name, case in cells.items()
]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_every_cell_with_lengths_and_resets_in_both_directions(part):
    check(*({**case, "reverse": reverse} for case in EVERY_CELL[part::8] for reverse in (False, True)))


@pytest.mark.slow
def test_layers_keys_and_loops_with_other_arguments():
    check(
        {"layer": STACK, "loop": ASSOCIATIVE, "key": True},
        {"layer": STACK, "loop": ASSOCIATIVE, "key": True, "marks": False, "reverse": True},
        {"layer": "MinGRU(4)", "loop": "AssociativeScan(chunk=2, axis_name='time')"},
        {"layer": "LRU(4, 3)", "loop": ASSOCIATIVE, "key": True, "reverse": True},
        *(
            {"layer": layer, "loop": "Chunked(chunk=2, checkpoint_every=2, axis_name='time')", "marks": marks}
            for layer in ("MLSTM(4)", "RWKV7(4)", "Retention(4)", "GatedDeltaNet(4)")
            for marks in (False, True)
        ),
        *(
            {"layer": layer, "loop": loop, "nan": True, "reverse": reverse}
            for layer, loop in (("MLSTM(4)", CHUNKED), ("RWKV7(4)", CHUNKED), ("LRU(4, 3)", ASSOCIATIVE))
            for reverse in (False, True)
        ),
    )


@pytest.mark.slow
def test_other_ways_to_differentiate_and_to_shard():
    ways = itertools.product((False, True), repeat=2)
    check(
        *(
            {"layer": "Stack(MinGRU(4), Using(MLSTM(4), Chunked(chunk=2)))", "loop": ASSOCIATIVE, "split_batch": True}
            | {"check_vma": check_vma, "grad_inside": grad_inside}
            for check_vma, grad_inside in ways
            if check_vma or not grad_inside  # otherwise gradients of parameters are not summed over devices
        ),
        {"layer": "KimiDeltaAttention(4)", "loop": CHUNKED, "split_batch": True},
        *(
            {"layer": layer, "loop": ASSOCIATIVE, "all_states": True, "reverse": reverse}
            for layer in ("GatedLinearAttention(4)", "Stack(Window(3), MinGRU(4))")
            for reverse in (False, True)
        ),
    )


FIGURES = """
import time as clock

compiled = jax.jit(jax.grad(loss)).lower(model_params, sequence).compile()
start = clock.perf_counter()
gradient = jax.block_until_ready(compiled(model_params, sequence))
seconds = clock.perf_counter() - start
assert all(jnp.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(gradient))
print(f"{compiled.memory_analysis().temp_size_in_bytes / 2**20:.0f} MiB of temporaries per device, {seconds:.1f} s")
"""


@pytest.mark.slow
def test_the_program_of_the_page_runs_a_million_steps_on_four_devices():
    """Run with `-s` to see its memory and time."""
    page = Path(jaxrnn.loops.__file__).with_name("README.md").read_text()
    (block,) = [block for block in blocks_of(page) if "axis_name=" in block.code]
    assert "steps = 4_000\n" in block.code
    program = block.code.replace("steps = 4_000\n", "steps = 1_000_000\n")
    imports = "import jax, jax.numpy as jnp, jaxrnn\nfrom jaxrnn.loops import AssociativeScan, Scan\n"
    devices = "jax.config.update('jax_num_cpu_devices', 4)\n"
    command = [sys.executable, "-c", imports + devices + program + FIGURES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    first, figures = done.stdout.splitlines()
    assert first == "True"
    print(figures)
