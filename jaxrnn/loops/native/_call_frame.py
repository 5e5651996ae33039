"""XLA's call frame, read by generated code: `xla/ffi/api/c_api.h`, in words of 64 bits.

A test compares these numbers with the header that the installed jaxlib brings along.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from jaxrnn.loops.native._code import I32, I64, Code, ir

# XLA_FFI_CallFrame
EXTENSION, API, CONTEXT = 1, 2, 3
ARGS, RESULTS = 9, 14  # pointers to arrays of buffers

# XLA_FFI_Buffer, XLA_FFI_Extension_Base and XLA_FFI_Metadata, in bytes
DATA = 24
EXTENSION_TYPE, EXTENSION_METADATA, METADATA_TYPE = 8, 24, 1
METADATA_VERSION = 8  # an XLA_FFI_Api_Version in XLA_FFI_Metadata, after its struct_size
VERSION_MAJOR, VERSION_MINOR, VERSION_SIZE = 16, 20, 24

# XLA_FFI_Api: a header, then the table of functions
TABLE, DESTROY_ERROR, SCHEDULE, NUM_THREADS = 6, 2, 11, 12

MAJOR, MINOR = 0, 1  # the version of the API that this code is written for: the oldest that has all of the above


def buffer(code: Code, frame: Any, which: int, index: int) -> Any:
    """Returns the address of the data of an argument or a result."""
    pointers = code.load_word(code.add(frame, 8 * which))
    return code.load_word(code.add(code.load_word(code.add(pointers, 8 * index)), DATA))


def function(code: Code, frame: Any, entry: int) -> Any:
    """Returns the address of a function of XLA's table."""
    return code.load_word(code.add(code.load_word(code.add(frame, 8 * API)), 8 * (TABLE + entry)))


def call(code: Code, frame: Any, entry: int, *words: Any) -> Any:
    """Calls a function of XLA's table with a struct that ends with these words; returns its error, or 0."""
    struct = (8 * (2 + len(words)), 0, *words)  # its size, and no extension
    with code.b.goto_entry_block():
        memory = code.b.alloca(ir.ArrayType(I64, len(struct)))
    address = code.b.ptrtoint(memory, I64)
    for n, word in enumerate(struct):
        code.store_word(word, code.add(address, 8 * n))
    kind = ir.FunctionType(I64, [I64])
    return code.b.call(code.pointer(function(code, frame, entry), kind), [address])


@contextlib.contextmanager
def if_error(code: Code, frame: Any, error: Any) -> Iterator[None]:
    """Opens a block that runs if a call returned an error, which is destroyed."""
    with code.b.if_then(code.b.icmp_unsigned("!=", error, code.int(0))):
        call(code, frame, DESTROY_ERROR, error)
        yield


def answer_metadata(code: Code, frame: Any, done: Any) -> None:
    """If XLA asks for the version of the API when it registers the handler, writes it and branches to `done`."""
    b = code.b
    extension = code.load_word(code.add(frame, 8 * EXTENSION))
    present, asked, go_on = (b.function.append_basic_block(n) for n in ("present", "asked", "go_on"))
    b.cbranch(b.icmp_unsigned("!=", extension, code.int(0)), present, go_on)
    b.position_at_end(present)
    kind = b.load(code.pointer(code.add(extension, EXTENSION_TYPE), I32))
    b.cbranch(b.icmp_unsigned("==", kind, ir.Constant(I32, METADATA_TYPE)), asked, go_on)
    b.position_at_end(asked)
    version = code.add(code.load_word(code.add(extension, EXTENSION_METADATA)), METADATA_VERSION)
    for offset, value in ((VERSION_MAJOR, MAJOR), (VERSION_MINOR, MINOR)):
        b.store(ir.Constant(I32, value), code.pointer(code.add(version, offset), I32))
    b.store(ir.Constant(I32, 0), code.pointer(code.add(version, VERSION_SIZE), I32))  # no traits
    b.branch(done)
    b.position_at_end(go_on)
