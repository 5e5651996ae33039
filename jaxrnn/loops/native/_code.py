"""Writes LLVM instructions: addresses, loops, and vectors of lanes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from llvmlite import ir

from jaxrnn.loops.native._host import Host

I1, I8, I32, I64, F32 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
VOID = ir.VoidType()
ELEMENT = {"float32": F32, "int32": I32, "uint32": I32, "bool": I1}  # how a number is computed with
IN_MEMORY = {"float32": F32, "int32": I32, "uint32": I32, "bool": I8}
SIZE = {"float32": 4, "int32": 4, "uint32": 4, "bool": 1}


class Code:
    """Instructions at the end of a function. Addresses and sizes are 64-bit integers, of LLVM or of Python."""

    def __init__(self, builder: ir.IRBuilder, host: Host):
        self.b = builder
        self.host = host

    # ---- integers ----------------------------------------------------------------------------------------------------

    def int(self, x: Any) -> Any:
        return ir.Constant(I64, int(x)) if isinstance(x, Integral) else x

    def add(self, *terms: Any) -> Any:
        constant = sum(int(x) for x in terms if isinstance(x, Integral))
        total = None
        for x in terms:
            if not isinstance(x, Integral):
                total = x if total is None else self.b.add(total, x)
        if total is None:
            return constant
        return self.b.add(total, self.int(constant)) if constant else total

    def mul(self, x: Any, y: Any) -> Any:
        if isinstance(x, Integral) and isinstance(y, Integral):
            return int(x) * int(y)
        if isinstance(x, Integral):
            x, y = y, x
        if isinstance(y, Integral) and y in (0, 1):
            return x if y else 0
        return self.b.mul(x, self.int(y))

    # ---- control -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def loop(self, start: Any, stop: Any, step: Any = 1) -> Iterator[Any]:
        """Runs the body for start, start + step, ... below stop."""
        function, before = self.b.function, self.b.block
        head = function.append_basic_block("head")
        body = function.append_basic_block("body")
        after = function.append_basic_block("after")
        self.b.branch(head)
        self.b.position_at_end(head)
        index = self.b.phi(I64)
        index.add_incoming(self.int(start), before)
        self.b.cbranch(self.b.icmp_signed("<", index, self.int(stop)), body, after)
        self.b.position_at_end(body)
        yield index
        index.add_incoming(self.b.add(index, self.int(step)), self.b.block)
        self.b.branch(head)
        self.b.position_at_end(after)

    # ---- memory ------------------------------------------------------------------------------------------------------

    def pointer(self, address: Any, kind: Any) -> Any:
        return self.b.inttoptr(self.int(address), kind.as_pointer())

    def load_word(self, address: Any) -> Any:
        return self.b.load(self.pointer(address, I64))

    def store_word(self, value: Any, address: Any) -> None:
        self.b.store(self.int(value), self.pointer(address, I64))

    def vector(self, kind: Any) -> Any:
        return ir.VectorType(kind, self.host.lanes)

    def load(self, address: Any, dtype: str, count: int | None = None) -> Any:
        """Loads a vector of lanes. With `count`, only the first lanes are read, and the others are zero."""
        kind = self.vector(IN_MEMORY[dtype])
        pointer = self.pointer(address, kind)
        if count is None:
            value: Any = self.b.load(pointer)
            value.align = SIZE[dtype]
        else:
            name = f"llvm.masked.load.v{self.host.lanes}{_suffix(IN_MEMORY[dtype])}.p0"
            function = self.declare(name, kind, [kind.as_pointer(), I32, self.vector(I1), kind])
            arguments = [pointer, ir.Constant(I32, SIZE[dtype]), self._mask(count), ir.Constant(kind, None)]
            value = self.b.call(function, arguments)
        return self._from_memory(value, dtype)

    def prefetch(self, address: Any) -> None:
        """Prefetches memory that will be read and written soon."""
        byte = I8.as_pointer()
        function = self.declare("llvm.prefetch.p0", VOID, [byte, I32, I32, I32])
        write, near, data = (ir.Constant(I32, n) for n in (1, 3, 1))
        self.b.call(function, [self.pointer(address, I8), write, near, data])

    def load_scalar(self, address: Any, dtype: str) -> Any:
        """Loads one number into all lanes."""
        return self.splat(self._from_memory(self.b.load(self.pointer(address, IN_MEMORY[dtype])), dtype))

    def store(self, value: Any, address: Any, dtype: str, count: int | None = None) -> None:
        value = self._to_memory(value, dtype)
        kind = self.vector(IN_MEMORY[dtype])
        pointer = self.pointer(address, kind)
        if count is None:
            stored: Any = self.b.store(value, pointer)
            stored.align = SIZE[dtype]
        else:
            name = f"llvm.masked.store.v{self.host.lanes}{_suffix(IN_MEMORY[dtype])}.p0"
            function = self.declare(name, VOID, [kind, kind.as_pointer(), I32, self.vector(I1)])
            self.b.call(function, [value, pointer, ir.Constant(I32, SIZE[dtype]), self._mask(count)])

    def _mask(self, count: int) -> Any:
        return ir.Constant(self.vector(I1), [int(n < count) for n in range(self.host.lanes)])

    def _from_memory(self, value: Any, dtype: str) -> Any:
        vector = isinstance(value.type, ir.VectorType)
        if dtype == "bool":
            return self.b.icmp_unsigned("!=", value, ir.Constant(value.type, None if vector else 0))
        return value

    def _to_memory(self, value: Any, dtype: str) -> Any:
        if dtype == "bool":
            return self.b.zext(value, self.vector(I8))
        return value

    # ---- lanes -------------------------------------------------------------------------------------------------------

    def constant(self, x: Any, dtype: str = "float32") -> Any:
        kind = ELEMENT[dtype]
        value = float(np.float32(x)) if dtype == "float32" else int(x)
        return ir.Constant(self.vector(kind), [ir.Constant(kind, value)] * self.host.lanes)

    def splat(self, x: Any) -> Any:
        undefined = ir.Constant(ir.VectorType(x.type, self.host.lanes), ir.Undefined)
        one = self.b.insert_element(undefined, x, ir.Constant(I32, 0))
        zeros = ir.Constant(self.vector(I32), [0] * self.host.lanes)
        return self.b.shuffle_vector(one, undefined, zeros)

    def intrinsic(self, name: str, *args: Any) -> Any:
        """Calls an intrinsic of LLVM such as `fma` on vectors."""
        kind = args[0].type
        function = self.declare(f"llvm.{name}.v{kind.count}{_suffix(kind.element)}", kind, [a.type for a in args])
        return self.b.call(function, args)

    def converted(self, name: str, x: Any, kind: Any) -> Any:
        """Calls an intrinsic of LLVM that converts a vector, such as `fptosi.sat`."""
        types = "".join(f".v{t.count}{_suffix(t.element)}" for t in (kind, x.type))
        return self.b.call(self.declare(f"llvm.{name}{types}", kind, [x.type]), [x])

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        return self.intrinsic("fma", x, y, z)

    def per_lane(self, name: str, *args: Any) -> Any:
        """Calls a function of the C library on each lane."""
        function = self.declare(name, F32, [F32] * len(args))
        result = ir.Constant(self.vector(F32), ir.Undefined)
        for n in range(self.host.lanes):
            lane = ir.Constant(I32, n)
            value = self.b.call(function, [self.b.extract_element(a, lane) for a in args])
            result = self.b.insert_element(result, value, lane)
        return result

    def declare(self, name: str, result: Any, args: list[Any]) -> Any:
        found = self.b.module.globals.get(name)
        return found or ir.Function(self.b.module, ir.FunctionType(result, args), name)


def _suffix(kind: Any) -> str:
    return "f32" if kind == F32 else f"i{kind.width}"
