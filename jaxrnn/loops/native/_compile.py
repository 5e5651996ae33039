"""Compiles a module once and keeps the machine code on disk for the next process."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import llvmlite
import llvmlite.binding as llvm

from jaxrnn.loops.native._host import Host, target_machine

HANDLER = "handler"  # the function that XLA calls

_engines: list[Any] = []  # own the machine code, which XLA may call as long as the process lives


@functools.cache
def register(text: str, host: Host) -> str:
    """Compiles the text of a module, registers its handler with XLA, and returns the name of the target."""
    key, (handler,) = load(text, host, [HANDLER])
    # XLA shows this name if the program cannot be exported.
    name = f"jaxrnn.loops.Native (to export, call unroll with loop=jaxrnn.loops.Deferred()) {key[:16]}"
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler), platform="cpu")
    return name


def load(text: str, host: Host, functions: list[str]) -> tuple[str, list[int]]:
    """Compiles the text of a module, and returns its key in the cache and the addresses of some functions."""
    key = hashlib.sha256(repr((text, host, llvmlite.__version__)).encode()).hexdigest()
    machine = target_machine(host)
    directory = _directory()
    file = directory and directory / f"{key}.o"
    code = _read(file) if file else None
    if code is None:
        code = _compile(text, machine)
        if file:
            _write(file, code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return key, [engine.get_function_address(name) for name in functions]


def _compile(text: str, machine: Any) -> bytes:
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    return machine.emit_object(module)


def _directory() -> Path | None:
    """Returns where machine code is kept: a folder that only the user may write to; None if the user has no home."""
    if chosen := os.environ.get("JAXRNN_CACHE_DIR"):
        return Path(chosen) / "native"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxrnn" / "native"
    except RuntimeError:  # as for a numeric user in a container
        return None


def _read(file: Path) -> bytes | None:
    """Returns the machine code in a file, or None if there is none, or it is damaged or somebody else's."""
    try:
        if hasattr(os, "getuid") and file.stat().st_uid != os.getuid():
            return None
        content = file.read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(file: Path, code: bytes) -> None:
    """Writes machine code. A cache that cannot be written costs time in the next process, nothing else."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(hashlib.sha256(code).digest() + code)
        Path(temporary).replace(file)
    except OSError:
        return
