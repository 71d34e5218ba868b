"""Streams that are left without a word: by the collector, by a loop, at the end of a program.

Each time the engine is free again, the database connection is closed, and the next call works.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pgml
import pytest
from conftest import QUESTION, Backends, Call, environment
from engine import HANG, PATIENCE, Engine, Exchange, answer, chunk, head
from pgml import _pgml


async def say_hello(call: Call, engine: Engine) -> None:
    engine.expect(answer("hello"))
    completion = await call.create("scripted", QUESTION)
    assert completion.choices[0].message.content == "hello"


# The collector ---------------------------------------------------------------------------------


def contents(client: pgml.OpenSourceAI, form: str) -> Iterator[str | None]:
    """A generator of the user's own, around a stream."""
    stream = client.chat_completions_create_stream("scripted", QUESTION)
    if form == "with":
        with stream:
            for chunk_ in stream:
                yield chunk_.choices[0].delta.content
    else:
        for chunk_ in stream:
            yield chunk_.choices[0].delta.content


async def contents_async(client: pgml.OpenSourceAI, form: str) -> AsyncIterator[str | None]:
    stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
    if form == "with":
        async with stream:
            async for chunk_ in stream:
                yield chunk_.choices[0].delta.content
    else:
        async for chunk_ in stream:
            yield chunk_.choices[0].delta.content


@pytest.mark.parametrize("cycle", [False, True], ids=["dropped", "in a cycle"])
@pytest.mark.parametrize("form", ["with", "bare"])
async def test_a_generator_is_collected(
    call: Call, engine: Engine, endless: Exchange, backends: Backends, form: str, cycle: bool
) -> None:
    holder: list[Any]
    if call.face == "sync":
        holder = [contents(call.client, form)]
        assert next(holder[0]) == "a"
    else:
        holder = [contents_async(call.client, form)]
        assert await anext(holder[0]) == "a"
    if cycle:
        holder.append(holder)
    del holder
    gc.collect()
    # Of an asynchronous generator asyncio takes care, in the loop.
    await asyncio.to_thread(endless.wait_gone)
    backends.wait()
    await say_hello(call, engine)


async def test_a_generator_is_closed(
    call: Call, engine: Engine, endless: Exchange, backends: Backends
) -> None:
    if call.face == "sync":
        generator = contents(call.client, "bare")
        assert next(generator) == "a"
        generator.close()
    else:
        asynchronous = contents_async(call.client, "with")
        assert await anext(asynchronous) == "a"
        await asynchronous.aclose()
    endless.wait_gone()
    backends.wait()
    await say_hello(call, engine)


# asyncio's own ways ----------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is of Python 3.11")
@pytest.mark.parametrize("verb", ["create", "open", "read"])
async def test_asyncio_timeout(
    client: pgml.OpenSourceAI, engine: Engine, backends: Backends, verb: str
) -> None:
    exchange = engine.expect(head(), *([chunk("a")] if verb == "read" else []), HANG)

    async def work() -> None:
        async with asyncio.timeout(0.2):
            if verb == "create":
                await client.chat_completions_create_async("scripted", QUESTION)
            stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
            async for _ in stream:
                pass

    with pytest.raises(TimeoutError):
        await work()
    exchange.wait_gone()
    backends.wait()
    await say_hello(Call(client, "async"), engine)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup is of Python 3.11")
async def test_a_task_group_that_fails(
    client: pgml.OpenSourceAI, engine: Engine, backends: Backends
) -> None:
    exchanges = [engine.expect(head(), chunk("a"), HANG) for _ in range(3)]

    async def read() -> None:
        async for _ in await client.chat_completions_create_stream_async("scripted", QUESTION):
            pass

    async def fail() -> None:
        for exchange in exchanges:
            await asyncio.to_thread(exchange.wait_arrived)
        raise KeyError("mine")

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in exchanges:
                group.create_task(read())
            group.create_task(fail())

    with pytest.raises(Exception, match="TaskGroup"):
        await work()
    for exchange in exchanges:
        exchange.wait_gone()
    backends.wait()
    await say_hello(Call(client, "async"), engine)


# The end of a program --------------------------------------------------------------------------

PROGRAM = """\
import asyncio, sys, threading
import pgml

client = pgml.OpenSourceAI(sys.argv[1], max_retries=0)
messages = [{"role": "user", "content": "hi"}]


def opened():
    return client.chat_completions_create_stream("scripted", messages)


async def opened_async():
    return await client.chat_completions_create_stream_async("scripted", messages)


"""

# What a program leaves open when it ends.
ENDS = {
    "sync": "stream = opened(); next(stream)",
    "sync, in a cycle": "held = [opened()]; held.append(held); next(held[0])",
    "sync, by sys.exit": "stream = opened(); sys.exit()",
    "generator": "g = (c for c in opened()); next(g)",
    "thread": """
stream = opened()
waits = threading.Thread(target=lambda: list(stream), daemon=True)
waits.start()
""",
    "async": """
async def main():
    global stream
    stream = await opened_async()
    await anext(stream)
asyncio.run(main())
""",
    "async, in a task": """
async def read():
    async for _ in await opened_async():
        reading.set()
async def main():
    global reading, task
    reading = asyncio.Event()
    task = asyncio.create_task(read())
    await reading.wait()
asyncio.run(main())
""",
    "async, in a loop that is left": """
async def read():
    async for _ in await opened_async():
        loop.stop()
loop = asyncio.new_event_loop()
task = loop.create_task(read())
task._log_destroy_pending = False
loop.run_forever()
""",
    "async, in a generator": """
async def chunks():
    async for c in await opened_async():
        yield c
async def main():
    global generator
    generator = chunks()
    await anext(generator)
asyncio.run(main())
""",
    "async, in a daemon's loop": """
reading = threading.Event()
async def read():
    async for _ in await opened_async():
        reading.set()
threading.Thread(target=asyncio.run, args=[read()], daemon=True).start()
reading.wait()
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_a_program(
    engine: Engine, database_url: str, endless: Exchange, backends: Backends, end: str
) -> None:
    program = PROGRAM + textwrap.dedent(ENDS[end])
    done = subprocess.run(
        [sys.executable, "-c", program, database_url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    endless.wait_gone()
    backends.wait()


def test_a_thread_can_be_unwound() -> None:
    # What "thread" above needs, but does not always meet: before 3.14 Python ends a thread that
    # comes too late by glibc's unwinder. With another one for the module's frames that is a crash.
    assert b"libgcc_s.so.1\0" in Path(_pgml.__file__).read_bytes()


INTERRUPTED = """\
async def main():
    async for _ in await opened_async():
        print("reading", flush=True)
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print(asyncio.run(client.chat_completions_create_async("scripted", messages)).object)
"""


def test_ctrl_c_in_a_loop(engine: Engine, database_url: str, endless: Exchange) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM + INTERRUPTED, database_url],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        engine.expect(answer("hello"))
        process.send_signal(signal.SIGINT)
        endless.wait_gone()
        assert process.stdout.read() == "chat.completion\n"
    assert process.returncode == 0
