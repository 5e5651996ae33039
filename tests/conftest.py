"""Settings and fixtures of all tests."""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
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


# Most time of the tests goes into XLA's compiler. These flags choose code generators that compile twice as fast and
# emit slower code. Without them, tests compile as users do.
QUICK_FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
QUICK_TIERS = "not slow", "slow and quick"


def pytest_addoption(parser):
    text = "run one test of this number, chosen by a hash of its name and of the commit: other tests for each commit"
    parser.addoption("--one-of", type=int, default=1, metavar="N", help=text)


def pytest_configure(config):
    """Lets all workers, and scripts that tests start, share compiled programs and compiler flags for this run."""
    is_worker = hasattr(config, "workerinput")
    if not is_worker and config.option.markexpr in QUICK_TIERS and "XLA_FLAGS" not in os.environ:
        flags = {"XLA_FLAGS": QUICK_FLAGS}
        start = [sys.executable, "-c", "import jax; jax.devices()"]  # unknown flags end the process
        if subprocess.run(start, env=os.environ | flags, capture_output=True, check=False).returncode == 0:
            os.environ.update(flags)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # not a worker
        CACHE["jax_compilation_cache_dir"] = tempfile.mkdtemp(prefix="jaxrnn-tests-")
        os.environ.update({name.upper(): str(value) for name, value in CACHE.items()})
        for name, value in CACHE.items():
            jax.config.update(name, value)


def pytest_collection_modifyitems(config, items):
    """Marks the tests that use the fixture `quick`, so that `-m "slow and quick"` selects them; applies `--one-of`."""
    for item in items:
        if "quick" in item.fixturenames:
            item.add_marker("quick")
    if config.option.one_of > 1:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, check=False
        )
        begin = zlib.crc32(commit.stdout)
        others = [item for item in items if zlib.crc32(item.nodeid.encode(), begin) % config.option.one_of]
        config.hook.pytest_deselected(items=others)
        left_out = set(map(id, others))
        items[:] = [item for item in items if id(item) not in left_out]


def pytest_collection_finish():
    """Collects garbage less often: tracing makes many short-lived objects, and JAX and the tests many that stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_report_header():
    return f"XLA_FLAGS: {os.environ.get('XLA_FLAGS', 'none')}"


def pytest_unconfigure():
    if CACHE["jax_compilation_cache_dir"]:
        shutil.rmtree(CACHE["jax_compilation_cache_dir"], ignore_errors=True)


@pytest.fixture(scope="module")
def x64():
    """Enables float64 in a test file that has `pytestmark = pytest.mark.usefixtures("x64")`.

    The scope is the module, because hypothesis draws many examples within one test. Other files keep float32.
    """
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def quick():
    """Compiles with few optimizations, for files with many small programs. Other files test optimized programs."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def _clear():
    """Drops compiled programs in time: each holds memory maps, and Linux allows a process 65,530 of them."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
