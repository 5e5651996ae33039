"""A run of char_lm.py that has learned nothing, a small model, and servers within the process of a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import char_lm
import jax
import numpy as np
import serve
from data import text
from serving.engine import Engine, Generation, Request
from serving.requests import Rules, digest_of
from serving.web import Site, listening
from support.options import RunFolder
from support.run import Run

import jaxrnn

TEXT = "the cat sat on a mat\nand saw many small dogs\n" * 50
ALPHABET = "".join(sorted(set(TEXT)))
MODEL = jaxrnn.Stack(jaxrnn.GRU(6), jaxrnn.Dense(len(ALPHABET)))
SLOTS = 3
Result = TypeVar("Result")


def make_run(run_dir: str | Path) -> Path:
    path = Path("prose.txt")
    path.write_text(TEXT)
    config = char_lm.Options(data=path.absolute(), hidden_size=12, batch=2, dropout=0.0)
    data = text.Text.of(path)
    run = Run(RunFolder(Path(run_dir)), config, facts={"data": data.digest}, notes={"alphabet": data.alphabet})
    model = char_lm.make_model(config, len(data.alphabet))
    train = char_lm.begin_all(config, model, len(data.alphabet))
    run.record(1, 0.0, train, 3.0, valid_loss=3.0)
    return run.path


def draw_params(seed: int = 0) -> Any:
    """Parameters of `MODEL` that tell texts apart, without what `init` compiles."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), len(ALPHABET)))
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(s.dtype), shapes)


PARAMS = draw_params()


def make_engine(**options: Any) -> Engine:
    return Engine(MODEL, PARAMS, SLOTS, **options)


def encoded(prompt: str) -> np.ndarray:
    return text.encode(prompt, ALPHABET)


async def all_of(generated: Generation) -> list[int]:
    """Reads a text to its end, as a client does."""
    with generated:
        await generated.started()
        return [symbol async for piece in generated.pieces() for symbol in piece]


@contextlib.asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    """Runs an engine, and checks at the end that all its slots are free."""
    task = asyncio.create_task(engine.run())
    yield engine
    engine.stop()
    async with asyncio.timeout(20):
        await task
    assert engine.taken == engine.waiting == 0
    assert engine._stream.taken == []


def make_rules(engine: Engine, **limits: Any) -> Rules:
    return Rules(ALPHABET, digest_of(MODEL, PARAMS, ALPHABET), engine.state_bytes, **limits)


@contextlib.asynccontextmanager
async def serving(
    engine: Engine, patience: float = 5.0, port: int = 0, **limits: Any
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """Serves in this process. Yields the address, and a session that knows it."""
    sock = serve.listen("127.0.0.1", port)
    url = serve.address_of(sock)
    site = Site(engine, make_rules(engine, **limits), "a model", patience)
    async with (
        running(engine),
        listening(site, sock),
        aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield url, session


async def until(holds: Callable[[], Any], pause: float = 0.005) -> None:
    """Waits until a condition holds."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(pause)


def run_async(test: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine, but not forever."""

    async def limited() -> Result:
        async with asyncio.timeout(60):
            return await test

    return asyncio.run(limited())


def request(prompt: str = "the cat", length: int = 8, **options: Any) -> Request:
    return Request(encoded(prompt), length, **options)
