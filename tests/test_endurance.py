"""The same over and over: nothing is left behind, and nothing grows.

What is counted is of the client's process, of the backends, of the stand-in and of the real engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pytest
from conftest import COUNT, QUESTION, Backends, Slots, environment
from engine import HANG, Engine, answer, chunk, head
from pgml import local

MIB = 1 << 20
AT_ONCE = 8
SEED = 5


def memory(pid: int) -> int:
    """The bytes that a process has for itself."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    resident, shared = int(fields[1]), int(fields[2])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int | str = "self") -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


# Cancellations ----------------------------------------------------------------------------------


class Leaver:
    """Begins a completion, and leaves it in one of many ways, at a moment that chance chooses."""

    def __init__(self, client: pgml.OpenSourceAI, url: str, models: list[str]) -> None:
        self.client = client
        self.url = url
        self.models = models
        self.chance = random.Random(SEED)
        self.strikes = 0

    def request(self) -> dict[str, Any]:
        model = self.chance.choice(self.models)
        return {"model": model, "messages": COUNT, "extra_body": {"ignore_eos": True}}

    async def leave(self) -> None:
        ways = [
            self.cancelled, self.timed_out, self.closed, self.dropped, self.sync_closed,
            self.sync_dropped, self.collected, self.ended_in_the_server,
        ]  # fmt: skip
        with contextlib.suppress(asyncio.CancelledError, asyncio.TimeoutError):
            await self.chance.choice(ways)()

    async def _create(self) -> None:
        await self.client.chat_completions_create_async(**self.request())

    async def _open(self) -> Any:
        return await self.client.chat_completions_create_stream_async(**self.request())

    async def _read(self, stream: Any, count: int) -> None:
        for _ in range(count):
            await anext(stream)

    async def _read_all(self) -> None:
        async for _ in await self._open():
            pass

    def _begin(self) -> Awaitable[None]:
        return self.chance.choice([self._create, self._read_all])()

    async def cancelled(self) -> None:
        task = asyncio.ensure_future(self._begin())
        for _ in range(self.chance.randrange(50)):
            await asyncio.sleep(0)
        task.cancel()
        await task

    async def timed_out(self) -> None:
        await asyncio.wait_for(self._begin(), self.chance.uniform(0, 0.1))

    async def closed(self) -> None:
        async with await self._open() as stream:
            await self._read(stream, self.chance.randrange(2))

    async def dropped(self) -> None:
        await self._read(await self._open(), self.chance.randrange(2))

    async def collected(self) -> None:
        async def chunks() -> Any:
            async with await self._open() as stream:
                async for each in stream:
                    yield each

        async for _ in chunks():
            break

    def _sync(self, request: dict[str, Any], *, close: bool) -> None:
        stream = self.client.chat_completions_create_stream(**request)
        next(stream)
        if close:
            stream.close()

    async def sync_closed(self) -> None:
        await asyncio.to_thread(self._sync, self.request(), close=True)

    async def sync_dropped(self) -> None:
        await asyncio.to_thread(self._sync, self.request(), close=False)

    async def ended_in_the_server(self) -> None:
        """By a function of Postgres; it may be another caller's."""
        task = asyncio.ensure_future(self._begin())
        self.strikes += 1
        function = self.chance.choice(["pg_cancel_backend", "pg_terminate_backend"])
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            await connection.execute(
                f"SELECT {function}(pid) FROM pg_stat_activity WHERE application_name = 'pgml' "
                "AND state = 'active' ORDER BY random() LIMIT 1"
            )
        task.cancel()
        await task


async def test_random_cancellations(
    engine: Engine, database_url: str, model: str, slots: Slots, backends: Backends, soak: bool
) -> None:
    count = 1000 if soak else 80
    signal.alarm(1800 if soak else 120)
    engine.always(head(), chunk("a"), chunk("b"), HANG)

    async def settle() -> None:
        gc.collect()
        await asyncio.to_thread(engine.wait_idle)
        slots.wait_idle()
        while "active" in backends.all().values():
            pass

    async def work() -> None:
        client = pgml.OpenSourceAI(database_url, max_connections=AT_ONCE, max_retries=0)
        # The real model for a part of them: it is slow to take up what it need not finish then.
        leaver = Leaver(client, database_url, ["scripted"] * 3 + [model])

        struck: list[str | None] = []

        async def some(number: int) -> None:
            for _ in range(number):
                try:
                    await leaver.leave()
                except pgml.APIConnectionError as error:
                    struck.append(error.sqlstate)

        await some(AT_ONCE)
        await settle()
        before = memory(os.getpid())
        await asyncio.gather(*(some(count // AT_ONCE) for _ in range(AT_ONCE)))
        await settle()
        # Nobody has an error but whom a function of Postgres has ended, in somebody else's hands.
        assert set(struck) <= {"57014", "57P01"}
        assert len(struck) <= leaver.strikes
        # Some were left before they had asked.
        assert engine.asked > count / 4
        assert len(backends.all()) <= AT_ONCE
        assert memory(os.getpid()) - before < 24 * MIB
        # Whoever comes next gets all that there is, at once.
        engine.always(answer("hello"))
        completions = await asyncio.gather(
            *(client.chat_completions_create_async("scripted", QUESTION) for _ in range(AT_ONCE))
        )
        assert {c.choices[0].message.content for c in completions} == {"hello"}
        completion = await client.chat_completions_create_async(model, QUESTION, max_tokens=1)
        assert completion.usage.completion_tokens == 1

    await work()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    # With the client its connections go.
    gc.collect()
    backends.wait()


async def test_cancellations_leave_no_descriptor(
    engine: Engine, database_url: str, backends: Backends
) -> None:
    engine.always(head(), chunk("a"), HANG)
    # Those of the loop, and of the thread that receives.
    await use_and_leave(database_url, 1)
    backends.wait()
    engine.wait_idle()
    before = descriptors()
    await use_and_leave(database_url, 30)
    backends.wait()
    engine.wait_idle()
    assert descriptors() == before


async def use_and_leave(database_url: str, count: int) -> None:
    client = pgml.OpenSourceAI(database_url, max_retries=0)
    for number in range(count):
        stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
        await anext(stream)
        if number % 2:
            await stream.aclose()


# Streams one after another ----------------------------------------------------------------------

MANY = """\
import asyncio, gc, sys
import pgml

url, model, face = sys.argv[1:]
client = pgml.OpenSourceAI(url, max_retries=0)
request = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


def many(count):
    for _ in range(count):
        *_, last = client.chat_completions_create_stream(**request)
        assert last.choices[0].finish_reason == "length"


async def many_async(count):
    for _ in range(count):
        async for last in await client.chat_completions_create_stream_async(**request):
            pass
        assert last.choices[0].finish_reason == "length"


for line in sys.stdin:
    many(int(line)) if face == "sync" else asyncio.run(many_async(int(line)))
    gc.collect()
    print("done", flush=True)
"""


@pytest.fixture
def many() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a client that makes as many streams as it is told."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", MANY, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment(),
                )
            )
            stack.callback(process.kill)
            return process

        yield start


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize("served_by", ["stand-in", "real"])
def test_streams_one_after_another(
    engine: Engine,
    instance: local.Status,
    model: str,
    backends: Backends,
    many: Callable[..., subprocess.Popen[str]],
    served_by: str,
    face: str,
    soak: bool,
) -> None:
    engine.always(answer("a", "b", finish_reason="length"))
    full, short = (10_000, 400) if served_by == "stand-in" else (2_000, 40)
    count = full if soak else short
    signal.alarm(1800 if soak else 120)
    client = many(instance.url, "scripted" if served_by == "stand-in" else model, face)

    def make(number: int) -> None:
        assert client.stdin is not None
        assert client.stdout is not None
        print(number, file=client.stdin, flush=True)
        assert client.stdout.readline() == "done\n"

    make(count // 4)
    # One connection was enough, and stays so.
    [backend] = backends.all()
    assert instance.models[0].pid is not None
    watched = {"client": client.pid, "backend": backend, "engine": instance.models[0].pid}
    files = {name: descriptors(pid) for name, pid in watched.items()}
    sizes = {name: memory(pid) for name, pid in watched.items()}
    make(count)
    assert list(backends.all()) == [backend]
    engine.wait_idle()
    # The engine closes its end after the backend, and tells nobody: one can only look. `deadline`
    # ends a vain wait.
    while any(descriptors(pid) > files[name] for name, pid in watched.items()):
        pass
    grown = {name: memory(pid) - sizes[name] for name, pid in watched.items()}
    assert max(grown.values()) < 4 * MIB, grown
