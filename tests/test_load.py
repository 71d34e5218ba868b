"""More work than fits: callers in line, readers that are slow, loops of other makes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pgml
import pytest
import uvloop
from conftest import QUESTION, Backends, Call, text
from engine import HANG, PATIENCE, ROLE, Engine, answer, chunk, ending, head

CALLERS = 20


def message(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"caller {number}"}]


# One connection, many callers -------------------------------------------------------------------


@pytest.fixture
def narrow(database_url: str, engine: Engine) -> pgml.OpenSourceAI:
    """A client with one connection, which knows its database."""
    client = pgml.OpenSourceAI(database_url, max_connections=1, max_retries=0)
    engine.expect(answer("hello"))
    client.chat_completions_create("scripted", QUESTION)
    return client


async def test_tasks_are_served_in_the_order_in_which_they_came(
    narrow: pgml.OpenSourceAI, engine: Engine
) -> None:
    gate = engine.gate()
    engine.expect(head(), chunk("a"), gate, ending())
    first = await narrow.chat_completions_create_stream_async("scripted", QUESTION)
    exchanges = [engine.expect(answer("hello")) for _ in range(CALLERS)]
    tasks = [
        asyncio.create_task(narrow.chat_completions_create_async("scripted", message(number)))
        for number in range(CALLERS)
    ]
    # Each has asked once it has been run.
    await asyncio.sleep(0)
    gate.open()
    assert len([c async for c in first]) == 2
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    served = [exchange.body["messages"][0]["content"] for exchange in exchanges]
    assert served == [f"caller {number}" for number in range(CALLERS)]


async def test_who_gives_up_waiting_leaves_the_line(
    narrow: pgml.OpenSourceAI, engine: Engine
) -> None:
    gate = engine.gate()
    engine.expect(head(), chunk("a"), gate, ending())
    first = await narrow.chat_completions_create_stream_async("scripted", QUESTION)
    waiting = [
        asyncio.create_task(narrow.chat_completions_create_async("scripted", message(number)))
        for number in range(3)
    ]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[1].cancel()
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    served = engine.expect(answer("hello"))
    gate.open()
    assert len([c async for c in first]) == 2
    await asyncio.wait_for(waiting[2], PATIENCE)
    assert served.body["messages"][0]["content"] == "caller 2"


def test_no_thread_is_passed_over(narrow: pgml.OpenSourceAI, engine: Engine) -> None:
    # Threads that ask again and again get as many turns each, however many there are.
    engine.always(answer("hello"))
    turns = [0] * 4
    stop = threading.Event()

    def ask(number: int) -> None:
        while not stop.is_set():
            narrow.chat_completions_create("scripted", message(number))
            turns[number] += 1
            if turns[number] == 25:
                stop.set()

    with ThreadPoolExecutor(len(turns)) as pool:
        list(pool.map(ask, range(len(turns)), timeout=PATIENCE))
    assert min(turns) > 10, turns


# A reader that is slow --------------------------------------------------------------------------


async def test_a_slow_reader_keeps_nobody_waiting(
    call: Call, engine: Engine, backends: Backends
) -> None:
    contents = [f"{number} " for number in range(20_000)]
    engine.expect(head() + ROLE + b"".join(map(chunk, contents)), ending())
    stream = await call.stream("scripted", QUESTION)
    read = [await stream.next()]
    # Of 20,000 chunks it has read one, and the engine and the backend are done with it.
    backends.wait("idle")
    engine.wait_idle()
    engine.expect(answer("hello"))
    assert (await call.create("scripted", QUESTION)).choices[0].message.content == "hello"
    read += await stream.rest()
    assert text(read) == "".join(contents)


async def test_a_slow_reader_does_not_hold_up_other_streams(call: Call, engine: Engine) -> None:
    # Far more than all buffers on the way hold.
    piece = "x" * 65536
    exchange = engine.expect(head(), (chunk(piece) for _ in range(1000)), HANG)
    slow = await call.stream("scripted", QUESTION)
    await slow.next()
    for _ in range(3):
        engine.expect(answer("hello"))
        assert text(await (await call.stream("scripted", QUESTION)).rest()) == "hello"
    await slow.close()
    exchange.wait_gone()


# Event loops ------------------------------------------------------------------------------------


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Run a coroutine to its end, in a loop of its own."""
    loop = request.param()
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def test_a_completion_and_a_stream(
    client: pgml.OpenSourceAI, engine: Engine, run: Callable[..., Any]
) -> None:
    gate = engine.gate()
    engine.expect(answer("hello"))
    engine.expect(head(), chunk("a"), gate, chunk("b"), ending())

    async def work() -> str:
        completion = await client.chat_completions_create_async("scripted", QUESTION)
        assert completion.choices[0].message.content == "hello"
        stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
        read = [await anext(stream)]
        # The rest comes while the loop waits for it.
        asyncio.get_running_loop().call_soon(gate.open)
        return text(read + [c async for c in stream])

    assert run(work()) == "ab"


def test_many_tasks_of_a_loop(
    client: pgml.OpenSourceAI, engine: Engine, run: Callable[..., Any]
) -> None:
    engine.always(answer("hel", "lo"))

    async def ask() -> str:
        stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
        return text([c async for c in stream])

    async def work() -> list[str]:
        return await asyncio.gather(*(ask() for _ in range(50)))

    assert run(work()) == ["hello"] * 50


@pytest.mark.parametrize("verb", ["create", "open", "read"])
def test_a_task_that_is_cancelled(
    client: pgml.OpenSourceAI, engine: Engine, run: Callable[..., Any], verb: str
) -> None:
    exchange = engine.expect(head(), *([chunk("a")] if verb == "read" else []), HANG)

    async def ask() -> None:
        if verb == "create":
            await client.chat_completions_create_async("scripted", QUESTION)
        stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
        async for _ in stream:
            pass

    async def work() -> None:
        task = asyncio.create_task(ask())
        await asyncio.to_thread(exchange.wait_arrived)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    run(work())
    exchange.wait_gone()


def test_loops_leave_nothing_behind(client: pgml.OpenSourceAI, engine: Engine) -> None:
    engine.always(answer("hello"))

    def use(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        loop = new_loop()
        loop.run_until_complete(client.chat_completions_create_async("scripted", QUESTION))
        loop.close()

    counts = set()
    for _ in range(10):
        for new_loop in (asyncio.new_event_loop, uvloop.new_event_loop):
            use(new_loop)
        engine.wait_idle()
        counts.add(len(os.listdir("/proc/self/fd")))
    assert len(counts) == 1, counts
