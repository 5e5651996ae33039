"""The functions that the code of all cells calls, compiled once for a processor: products, packing, threads."""

from __future__ import annotations

import functools
import hashlib
from typing import Any, NamedTuple

import llvmlite.binding as llvm

from jaxrnn.loops.native._code import ir
from jaxrnn.loops.native._compile import load
from jaxrnn.loops.native._host import Host
from jaxrnn.loops.native._product import define_pack, define_product
from jaxrnn.loops.native._team import define_meet, define_team, define_wait
from jaxrnn.loops.native._threads import define_leave, define_num_threads, define_parallel
from jaxrnn.loops.native._vector import define_vector_product, define_vector_product_transposed


class Kernels(NamedTuple):
    """Functions of a module."""

    product: Any
    pack: Any
    pack_transposed: Any
    vector_product: Any
    vector_product_transposed: Any
    parallel: Any
    num_threads: Any
    team: Any
    meet: Any


def declare_kernels(module: Any, host: Host) -> Kernels:
    """Declares the functions in a module, whose machine code then finds them in this process."""
    compiled = _load_kernels(host)
    return Kernels(*(ir.Function(module, kind, name) for name, kind in compiled))


@functools.cache
def _load_kernels(host: Host) -> list[tuple[str, Any]]:
    """Compiles the functions, and returns their names and types. Other code of them has other names."""
    module = ir.Module(name="kernels")
    functions = _define_kernels(module, host)
    for function in functions:
        function.linkage = "external"
    text = str(module)
    version = hashlib.sha256(repr((text, host)).encode()).hexdigest()[:16]
    _, addresses = load(text, host, [function.name for function in functions])
    compiled = []
    for function, address in zip(functions, addresses, strict=True):
        name = f"jaxrnn_{version}_{function.name}"
        llvm.add_symbol(name, address)
        compiled.append((name, function.ftype))
    return compiled


def _define_kernels(module: Any, host: Host) -> Kernels:
    leave, wait = define_leave(module, host), define_wait(module, host)
    return Kernels(
        product=define_product(module, host),
        pack=define_pack(module, host, transposed=False),
        pack_transposed=define_pack(module, host, transposed=True),
        vector_product=define_vector_product(module, host),
        vector_product_transposed=define_vector_product_transposed(module, host),
        parallel=define_parallel(module, host, leave),
        num_threads=define_num_threads(module, host),
        team=define_team(module, host, leave, wait),
        meet=define_meet(module, host, wait),
    )
