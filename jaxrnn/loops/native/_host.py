"""The machine that runs the code: its vector width, and how LLVM compiles for it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import llvmlite.binding as llvm


class Host(NamedTuple):
    """A processor, as far as the generated code depends on it."""

    name: str  # as LLVM calls it
    features: str
    lanes: int  # float32 numbers in a vector
    panel_vectors: int  # vectors in a row of a packed panel of weights

    @property
    def panel(self) -> int:
        """Columns of a packed panel of weights."""
        return self.lanes * self.panel_vectors


@functools.cache
def this_host() -> Host:
    """Returns the processor that this process runs on.

    With AVX-512, 32 registers of 8 lanes hold a tile of 6 rows by 32 columns. AVX2 has 16 registers. NEON has 32 of 4
    lanes.
    """
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        lanes, panel_vectors = 8, 4
    elif features.get("avx2"):
        lanes, panel_vectors = 8, 2
    else:
        lanes, panel_vectors = 4, 4
    return Host(llvm.get_host_cpu_name(), features.flatten(), lanes, panel_vectors)


@functools.cache
def target_machine(host: Host) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=host.name, features=host.features, opt=3, codemodel="jitdefault", jit=True)
