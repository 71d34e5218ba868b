"""Event loops and processes of other kinds: tasks, threads, trio, greenlets, interpreters."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import Any

import anyio
import pgml
import pytest
import trio
from conftest import QUESTION
from engine import HANG, PATIENCE, Engine, answer, chunk, ending, head

WORDS = ("a", "b", "c")


def said(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def test_a_task_can_wait_for_a_chunk(client: pgml.OpenSourceAI, engine: Engine) -> None:
    gate = engine.gate()
    engine.expect(head(), chunk("a"), gate, chunk("b"), ending())
    stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
    assert said([await asyncio.create_task(stream.__anext__())]) == "a"
    waiting = asyncio.create_task(stream.__anext__())
    done, _ = await asyncio.wait({waiting}, timeout=0)
    assert not done
    gate.open()
    assert said([await waiting]) == "b"
    assert said([chunk async for chunk in stream]) == ""


async def test_a_completion_is_a_coroutine(client: pgml.OpenSourceAI, engine: Engine) -> None:
    engine.expect(answer("hello"))
    other = asyncio.new_event_loop()
    coroutine = client.chat_completions_create_async("scripted", QUESTION)
    completion = await asyncio.to_thread(other.run_until_complete, coroutine)
    other.close()
    assert completion.choices[0].message.content == "hello"


async def test_a_thread_can_run_one_on_the_loop(client: pgml.OpenSourceAI, engine: Engine) -> None:
    engine.expect(answer("hello"))
    loop = asyncio.get_running_loop()

    def in_a_thread() -> Any:
        coroutine = client.chat_completions_create_async("scripted", QUESTION)
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(PATIENCE)

    completion = await asyncio.to_thread(in_a_thread)
    assert completion.choices[0].message.content == "hello"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_task_groups_of_anyio(client: pgml.OpenSourceAI, engine: Engine, backend: str) -> None:
    async def main() -> list[str]:
        texts: list[str] = []

        async def one() -> None:
            stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
            texts.append(said([chunk async for chunk in stream]))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(one)
        return texts

    for _ in range(4):
        engine.expect(answer(*WORDS))
    assert anyio.run(main, backend=backend) == ["abc"] * 4


def test_trio_cancels(client: pgml.OpenSourceAI, engine: Engine) -> None:
    exchange = engine.expect(HANG)

    async def main() -> bool:
        with trio.move_on_after(0.2) as scope:
            await client.chat_completions_create_async("scripted", QUESTION)
        return scope.cancelled_caught

    assert trio.run(main)
    exchange.wait_gone()


async def test_a_second_reader_gets_the_error_of_async_generators(
    client: pgml.OpenSourceAI, engine: Engine
) -> None:
    gate = engine.gate()
    engine.expect(head(), chunk("a"), gate, chunk("b"), ending())
    stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
    assert said([await stream.__anext__()]) == "a"
    first = asyncio.create_task(stream.__anext__())
    await asyncio.sleep(0)  # until it waits
    with pytest.raises(RuntimeError, match=r"already being read|already running"):
        await stream.__anext__()
    gate.open()
    assert said([await first]) == "b"
    await stream.aclose()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the loop
def test_a_read_on_a_loop_that_was_dropped_is_collected(
    client: pgml.OpenSourceAI, engine: Engine
) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    loop = asyncio.new_event_loop()

    async def begin(loop: asyncio.AbstractEventLoop) -> Any:
        stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
        await stream.__anext__()
        task = loop.create_task(stream.__anext__())
        await asyncio.sleep(0)
        return weakref.ref(task)

    task = loop.run_until_complete(begin(loop))
    loop._selector.close()  # type: ignore[attr-defined]  # as a loop that nobody closes
    loop._closed = True  # type: ignore[attr-defined]
    del loop
    gc.collect()
    assert task() is None
    exchange.wait_gone()


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


GREENLETS = """
    import {library}
    {patch}
    import sys
    import pgml

    client = pgml.OpenSourceAI(sys.argv[1], max_retries=0)
    seen = []

    def other():
        # Runs while the stream below waits, and lets it go on.
        seen.append("other")
        client.chat_completions_create("scripted", [{{"role": "user", "content": "second"}}])
        seen.append("done")

    def stream():
        for chunk in client.chat_completions_create_stream(
            "scripted", [{{"role": "user", "content": "first"}}]
        ):
            seen.append(chunk.choices[0].delta.content)
            if seen == ["a"]:
                others.append(spawn(other))

    others = []
    {run}
    print(seen)
"""
LIBRARIES = {
    "gevent": (
        "from gevent import monkey; monkey.patch_all()",
        "spawn = gevent.spawn; spawn(stream).get(); others[0].get()",
    ),
    "eventlet": (
        "eventlet.monkey_patch()",
        "spawn = eventlet.spawn; spawn(stream).wait(); others[0].wait()",
    ),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_other_greenlets_run_while_one_waits(
    database_url: str, engine: Engine, library: str, deadline: None
) -> None:
    gate = engine.gate()
    engine.expect(head(), chunk("a"), gate, chunk("b"), ending())
    second = engine.expect(answer("hello"))
    patch, start = LIBRARIES[library]
    program = GREENLETS.format(library=library, patch=patch, run=start)
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), database_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # The first stream waits for the gate all the while.
        second.wait_arrived()
        gate.open()
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "'other'" in out
    assert "'b'" in out


def test_a_sub_interpreter_is_refused() -> None:
    done = run("""
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        number = interpreters.create()
        try:
            failure = interpreters.run_string(number, "import pgml")
        except interpreters.RunFailedError as error:
            failure = error
        interpreters.destroy(number)
        print(failure)
    """)
    assert "main interpreter only" in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


def test_a_slow_log_handler_holds_up_no_stream(client: pgml.OpenSourceAI, engine: Engine) -> None:
    ended = threading.Event()
    handled = threading.Event()

    class Slow(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            ended.wait(PATIENCE)
            handled.set()

    logger = logging.getLogger("pgml")
    handler = Slow()
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        engine.expect(answer(*WORDS))
        assert said(list(client.chat_completions_create_stream("scripted", QUESTION))) == "abc"
        ended.set()
        assert handled.wait(PATIENCE)
    finally:
        ended.set()
        logger.setLevel(level)
        logger.removeHandler(handler)


def test_a_closed_client_stays_closed_over_a_fork(database_url: str) -> None:
    done = run(
        """
        import os, sys, warnings
        import pgml

        warnings.simplefilter("ignore")  # of threads, which pgml's fork handlers know of
        client = pgml.OpenSourceAI(sys.argv[1])
        client.close()
        child = os.fork()
        if child == 0:
            try:
                client.chat_completions_create("m", [{"role": "user", "content": "hi"}])
            except pgml.APIConnectionError as error:
                print(client.is_closed(), error)
            sys.stdout.flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
        database_url,
    )
    assert done.stdout.startswith("True"), done.stderr
    assert "closed" in done.stdout


@pytest.mark.parametrize("level", ["DEBUG", "WARNING"])
def test_the_interpreter_ends_with_a_stream_open(
    database_url: str, engine: Engine, level: str
) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    done = run(
        """
        import atexit, logging, sys
        # Runs last, when pgml has stopped.
        atexit.register(lambda: print("last", flush=True))
        logging.basicConfig(level=sys.argv[2])
        import pgml

        client = pgml.OpenSourceAI(sys.argv[1])
        stream = client.chat_completions_create_stream(
            "scripted", [{"role": "user", "content": "hi"}]
        )
        print(next(stream).choices[0].delta.content)
        """,
        database_url,
        level,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["a", "last"]
    exchange.wait_gone()
