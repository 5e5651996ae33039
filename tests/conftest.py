"""What all test files share."""

import os
import shutil
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"  # before anyone imports keras

import jax
import pytest
from hypothesis import settings

settings.register_profile("jaxrnn", deadline=None, max_examples=25, database=None, derandomize=True)
settings.load_profile("jaxrnn")


CACHE = {
    "jax_compilation_cache_dir": "",
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def pytest_configure():
    """Programs compiled once serve all workers and the scripts that tests start, for this run of the suite alone."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # this is no worker
        CACHE["jax_compilation_cache_dir"] = tempfile.mkdtemp(prefix="jaxrnn-tests-")
        os.environ.update({name.upper(): str(value) for name, value in CACHE.items()})
        for name, value in CACHE.items():
            jax.config.update(name, value)


def pytest_unconfigure():
    if CACHE["jax_compilation_cache_dir"]:
        shutil.rmtree(CACHE["jax_compilation_cache_dir"], ignore_errors=True)


@pytest.fixture(scope="module")
def x64():
    """Float64 for a whole test file, which asks for it by `pytestmark = pytest.mark.usefixtures("x64")`.

    Of a module's scope, because hypothesis draws many examples within one test. Other files keep float32.
    """
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def quick():
    """Compiles with few optimizations, for files of many small programs. What users run is compared elsewhere."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def _clear():
    """Every compiled program holds memory maps, of which Linux gives a process 65,530: then it crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
