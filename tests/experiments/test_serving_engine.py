"""The engine of the server, without HTTP: no text depends on others, and no slot is lost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import serving.engine
from serving.engine import CHUNK, READ_AHEAD, BadStateError, ClientLimitError, Engine, EngineError, RefusedError

import jaxrnn
from tests.support.served import MODEL, PARAMS, SLOTS, TEXT, all_of, make_engine, request, run_async, running, until

pytestmark = pytest.mark.usefixtures("quick")
unroll = jax.jit(jaxrnn.unroll, static_argnums=0)
LONG = 512  # enough for any text of these tests, so that `unroll` compiles once


def expected(wanted, symbols):
    """Returns the characters that one `unroll` over the whole text gives, each with its own random numbers."""
    read = np.concatenate([wanted.prompt, symbols[:-1]]).astype(np.int32)
    _, logits = unroll(MODEL, PARAMS, np.pad(read, (0, LONG - len(read))))  # what comes later changes nothing
    found = []
    for n, row in enumerate(np.asarray(logits)[len(wanted.prompt) - 1 : len(read)]):
        key = jax.random.fold_in(jax.random.key(np.uint32(wanted.seed)), np.uint32(wanted.position + n))
        noise = np.asarray(jax.random.gumbel(key, row.shape))
        found.append(int(np.argmax(row / np.float32(max(wanted.temperature, 1e-6)) + noise)))
    return found


def test_each_text_is_as_if_it_were_alone():
    requests = [
        request(TEXT[:size], 5 + size % 4, seed=2**32 - 1 - size, temperature=0.5 + 0.1 * n, position=n * 2**29)
        for n, size in enumerate((1, 2, 5, CHUNK, CHUNK + 1, 2 * CHUNK + 7, 3))
    ]

    async def test():
        async with running(make_engine(waiting=9)) as engine:
            return await asyncio.gather(*(all_of(engine.submit(wanted)) for wanted in requests))

    texts = run_async(test())
    assert [len(text) for text in texts] == [wanted.length for wanted in requests]
    for wanted, text in zip(requests, texts, strict=True):
        assert text == expected(wanted, text)
    assert len(set(map(tuple, texts))) == len(texts)


def test_a_low_temperature_is_greedy():
    async def test():
        async with running(make_engine()) as engine:
            return [await all_of(engine.submit(request(temperature=0.0, seed=seed))) for seed in (1, 2)]

    one, other = run_async(test())
    assert one == other == expected(request(temperature=0.0), one)


@pytest.mark.parametrize("how", ["length", "time", "stop"])
def test_a_text_that_ends_can_be_continued_elsewhere(how):
    whole = request(length=40, seed=3, temperature=0.9)

    async def test():
        async with running(make_engine()) as engine:
            complete = await all_of(engine.submit(whole))
        parts, rest, engine = [], replace(whole, length=15) if how == "length" else whole, make_engine()
        async with running(engine):
            with engine.submit(rest) as text:
                await text.started()
                if how == "time":
                    text.deadline = 0.0
                if how == "stop":
                    engine.stop(hand_over=True)
                parts += [symbol async for piece in text.pieces() for symbol in piece]
        assert text.end == how
        assert text.continuation.length == (15 if how == "length" else 40 - len(parts))
        assert text.continuation.position == len(parts)
        async with running(make_engine()) as engine:
            rest = await all_of(engine.submit(replace(text.continuation, length=40 - len(parts))))
        return complete, parts, rest

    complete, parts, rest = run_async(test())
    assert 0 < len(parts) < 40
    assert parts + rest == complete


def test_a_prompt_that_is_not_yet_read_can_be_continued():
    whole = request(TEXT[: 7 * CHUNK], 6, seed=1)

    async def test():
        engine = make_engine()
        async with running(engine):
            with engine.submit(whole) as text:
                await until(lambda: len(text.unread) < len(whole.prompt), pause=0)
                engine.stop(hand_over=True)
                await text.started()
        assert not text.generated
        assert text.continuation.length == 6
        assert 1 <= len(text.continuation.prompt) < len(whole.prompt)
        async with running(make_engine()) as engine:
            return await all_of(engine.submit(text.continuation))

    text = run_async(test())
    assert text == expected(whole, text)


def test_a_client_that_goes_frees_its_slot():
    async def test():
        async with running(make_engine(waiting=2)) as engine:
            texts = [engine.submit(request(length=10**6, seed=n)) for n in range(SLOTS + 2)]
            await texts[SLOTS - 1].started()
            assert (engine.taken, engine.waiting) == (SLOTS, 2)
            with texts[0]:
                pass  # from a slot
            with texts[-1]:
                pass  # from the line
            await texts[SLOTS].started()
            assert (engine.taken, engine.waiting) == (SLOTS, 0)
            for text in texts[1:-1]:
                with text:
                    pass
            await until(lambda: engine.taken == 0)
            assert {text.end for text in texts} == {"gone"}
            assert engine._stream.taken == []
            assert len(await all_of(engine.submit(request(length=5)))) == 5

    run_async(test())


def test_clients_that_come_and_go_at_random_lose_no_slot():
    rng = np.random.default_rng(0)

    async def client(engine, n):
        wanted = request(TEXT[: rng.integers(1, 200)], int(rng.integers(1, 30)), seed=n)
        try:
            with engine.submit(wanted) as text:
                if rng.random() < 0.2:
                    return "gone"
                await text.started()
                symbols = []
                async for piece in text.pieces():
                    symbols += piece
                    if rng.random() < 0.05:
                        return "gone"
                assert len(symbols) == wanted.length
                return text.end
        except RefusedError:
            return "refused"

    async def several(engine, numbers):
        return [await client(engine, n) for n in numbers]

    async def test():
        async with running(make_engine(waiting=3)) as engine:  # which checks that all slots are free at the end
            numbers = iter(range(300))
            ends = [end for ends in await asyncio.gather(*(several(engine, numbers) for _ in range(8))) for end in ends]
            await until(lambda: engine.taken == 0)
            for wanted in [request(length=5, seed=n) for n in range(SLOTS)]:
                assert await all_of(engine.submit(wanted)) == expected(wanted, await all_of(engine.submit(wanted)))
            return ends

    ends = run_async(test())
    assert len(ends) == 300
    assert set(ends) == {"length", "gone", "refused"}


def test_what_is_too_much_is_refused():
    async def test():
        async with running(make_engine(waiting=1, per_client=2)) as engine:
            with engine.submit(request(length=10**6), "a"), engine.submit(request(length=10**6), "a"):
                with pytest.raises(ClientLimitError, match="you have 2 texts in progress, which is the limit"):
                    engine.submit(request(), "a")
                with (
                    engine.submit(request(length=10**6), "b"),
                    engine.submit(request(), "b"),
                    pytest.raises(RefusedError, match="all 3 slots are taken, and all 1 places in the queue"),
                ):
                    engine.submit(request(), "c")
                assert len(await all_of(engine.submit(request(), "c"))) == 8
            assert len(await all_of(engine.submit(request(), "a"))) == 8
        with pytest.raises(RefusedError, match="the server is stopping"):
            engine.submit(request())

    run_async(test())


def test_a_request_does_not_wait_forever():
    async def test():
        async with running(make_engine(waiting=2)) as engine:
            texts = [engine.submit(request(length=10**6)) for _ in range(SLOTS)]
            await texts[-1].started()
            engine.seconds = 0.05
            with pytest.raises(RefusedError, match=r"no slot became free within 0\.05 seconds"):
                await engine.submit(request()).started()
            engine.seconds = 60
            waiting = engine.submit(request())
            engine.stop()
            with pytest.raises(RefusedError, match="the server is stopping"):
                await waiting.started()
            assert engine.taken == SLOTS  # the others go on
            engine.stop(hand_over=True)
            assert len({len(await all_of(text)) for text in texts}) >= 1
            assert {text.end for text in texts} == {"stop"}

    run_async(test())


def test_a_client_that_does_not_read_pauses_its_own_text_only():
    async def test():
        async with running(make_engine()) as engine:
            unread = engine.submit(request(length=READ_AHEAD + 60, seed=5))
            await until(lambda: unread.generated >= READ_AHEAD)
            assert len(await all_of(engine.submit(request(length=30)))) == 30
            assert unread.generated == READ_AHEAD
            assert engine.taken == 1
            text = await all_of(unread)
            assert (len(text), unread.end) == (READ_AHEAD + 60, "length")
            assert text == expected(unread.request, text)

    run_async(test())


def test_a_client_that_never_reads_reaches_its_time_limit():
    async def test():
        async with running(make_engine(seconds=0.5)) as engine:
            text = engine.submit(request(length=10**6))
            await until(lambda: text.end is not None)  # although nothing else happens
            assert (text.end, text.generated, engine.taken) == ("time", READ_AHEAD, 0)
            assert time.monotonic() >= text.deadline

    run_async(test())


def test_a_long_prompt_does_not_delay_other_texts():
    async def test():
        async with running(make_engine()) as engine:
            with engine.submit(request(length=10**6)) as other:
                await other.started()
                before = other.generated
                with engine.submit(request(TEXT[: 30 * CHUNK], 1)) as text:
                    await text.started()
                    return other.generated - before

    assert run_async(test()) >= 30 - 1  # a step after each chunk


def test_several_long_prompts_do_not_delay_other_texts(monkeypatch):
    monkeypatch.setattr(serving.engine, "PROMPT_SYMBOLS_PER_ROUND", CHUNK)

    async def test():
        async with running(make_engine()) as engine:
            with engine.submit(request(length=10**6)) as other:
                await other.started()
                before = other.generated
                await asyncio.gather(*(all_of(engine.submit(request(TEXT[: 15 * CHUNK], 1))) for _ in range(2)))
                return other.generated - before

    assert run_async(test()) >= 2 * 15 - 1


def test_a_client_that_goes_without_reading_frees_its_slot():
    async def test():
        async with running(make_engine()) as engine:
            with engine.submit(request(length=10**6)) as text:
                await until(lambda: text.full)
                await asyncio.sleep(0.05)  # now nothing happens until the time limit
            await until(lambda: engine.taken == 0)

    run_async(test())


def bad_states():
    """Bytes that are not a state of `MODEL`, by what is wrong with them."""
    stream = jaxrnn.Stream(MODEL, PARAMS, 1)
    slot, _ = stream.insert(request().prompt)
    state = stream.state(slot)
    stream._state = jax.tree.map(lambda s: jnp.full_like(s, jnp.nan), stream._state)
    foreign = jaxrnn.Stream(jaxrnn.LSTM(6), jaxrnn.LSTM(6).init(jax.random.key(0), 2), 1)
    slot, _ = foreign.insert()
    return {
        "damaged": state[:-1] + bytes([state[-1] ^ 1]),
        "cut": state[:-8],
        "empty": b"",
        "not finite": stream.state(slot),
        "foreign": foreign.state(slot),
    }


@pytest.mark.parametrize("name", ["damaged", "cut", "empty", "not finite", "foreign"])
def test_a_state_that_cannot_be_used_harms_nobody(name):
    state = bad_states()[name]

    async def test():
        async with running(make_engine()) as engine:
            with engine.submit(request(length=200, seed=1)) as other:
                await other.started()
                with pytest.raises(BadStateError):
                    await all_of(engine.submit(request(state=state)))
                return await all_of(other)

    text = run_async(test())
    assert text == expected(request(length=200, seed=1), text)


def test_a_model_with_outputs_that_are_not_finite():
    async def test():
        engine = Engine(MODEL, jax.tree.map(lambda p: p * np.float32(np.nan), PARAMS), SLOTS)
        async with running(engine):
            with pytest.raises(EngineError, match="the outputs of the model are not finite"):
                await all_of(engine.submit(request()))

    run_async(test())


def test_if_the_engine_fails_all_texts_end(monkeypatch):
    async def test():
        engine = make_engine(waiting=1)
        task = asyncio.create_task(engine.run())
        texts = [engine.submit(request(length=10**6)) for _ in range(SLOTS + 1)]
        await texts[0].started()
        monkeypatch.setattr(serving.engine, "sample", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await task
        for text in texts:
            with pytest.raises(EngineError, match="the server failed"):
                await all_of(text)
        with pytest.raises(RefusedError, match="the server is stopping"):
            engine.submit(request())

    run_async(test())


def test_warming_up_compiles_all_that_serving_needs():
    events: list[str] = []

    def listen(event: str, *_, **__) -> None:
        events.append(event)

    async def serve_all(engine):
        async with running(engine):
            rest = engine.submit(request(TEXT[:200], 3))
            await asyncio.gather(all_of(rest), *(all_of(engine.submit(request(length=n))) for n in (1, 2)))
            await all_of(engine.submit(rest.continuation))
            with engine.submit(request(length=10**6)) as text:
                await text.started()

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        engine = Engine(MODEL, PARAMS, 5)  # no other test has five slots
        engine.warm_up()
        assert sum("backend_compile" in event for event in events) > 0
        events.clear()
        asyncio.run(serve_all(engine))
        assert sum("backend_compile" in event for event in events) == 0
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_metrics_add_up():
    def value(engine, name, **labels):
        return engine.metrics._registry.get_sample_value(f"jaxrnn_{name}", labels)

    async def test():
        engine = make_engine()
        engine.warm_up()
        assert value(engine, "step_seconds_count") == 0
        async with running(engine):
            await asyncio.gather(*(all_of(engine.submit(request(length=7))) for _ in range(SLOTS)))
            with engine.submit(request(length=10**6)) as text:
                await text.started()
                assert value(engine, "slots_taken") == 1
            await until(lambda: engine.taken == 0)
        assert value(engine, "slots_taken") == value(engine, "waiting") == 0
        assert value(engine, "slots") == SLOTS
        assert value(engine, "texts_total", end="length") == SLOTS
        assert value(engine, "texts_total", end="gone") == 1
        assert value(engine, "characters_total") == 7 * SLOTS + text.generated
        assert value(engine, "first_character_seconds_count") == SLOTS + 1
        assert 7 <= value(engine, "step_seconds_count") <= 7 * SLOTS + text.generated
        assert 0 < value(engine, "step_seconds_sum") < 30

    run_async(test())
