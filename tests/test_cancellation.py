"""Whoever stops waiting stops the generation: in the stand-in and in the real engine.

Each way of stopping is shown twice: the stand-in sees its connection closed, and the real engine's
slots become free while its answer is far from its end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pgml
import psycopg
import pytest
from conftest import COUNT, QUESTION, Call, Slots, environment
from engine import HANG, PATIENCE, ROLE, Engine, Exchange, answer, chunk, head
from psycopg.types.json import Jsonb

CONTEXT = 4096 - 8  # tokens, within the few that an engine may keep free


class Generation:
    """A generation that does not end by itself, and a look at whether it runs."""

    def __init__(self, model: str, engine: Engine | None, slots: Slots) -> None:
        self.model = model
        self._engine = engine
        self._slots = slots
        self._exchange: Exchange | None = None

    def expect(self, *steps: bytes) -> None:
        """Another request is going to be made, which this is the answer to; then silence."""
        if self._engine:
            self._exchange = self._engine.expect(*steps, HANG)

    def wait_started(self) -> None:
        if self._exchange:
            self._exchange.wait_arrived()
        else:
            self._slots.wait_busy()

    def wait_ended(self) -> None:
        if self._exchange:
            self._exchange.wait_gone()
        else:
            self._slots.wait_idle()
            assert self._slots.newest_length() < CONTEXT, "it came to its own end"

    @property
    def request(self) -> dict[str, Any]:
        return {"model": self.model, "messages": COUNT, "ignore_eos": True}


@pytest.fixture(params=["stand-in", "real"])
def generation(request: pytest.FixtureRequest, model: str, slots: Slots) -> Iterator[Generation]:
    if request.param == "stand-in":
        yield Generation("scripted", request.getfixturevalue("engine"), slots)
    else:
        yield Generation(model, None, slots)


# The longest answer that the model's context allows: half a minute of work.
ENDLESS: dict[str, Any] = {"extra_body": {"ignore_eos": True}}


async def say_hello(call: Call, model: str) -> None:
    """The client still works."""
    completion = await call.create(model, QUESTION, max_tokens=1)
    assert completion.usage.completion_tokens == 1


async def test_closing_a_stream(call: Call, generation: Generation, model: str) -> None:
    generation.expect(head(), chunk("a"))
    stream = await call.stream(generation.model, COUNT, **ENDLESS)
    await stream.next()
    generation.wait_started()
    await stream.close()
    generation.wait_ended()
    await say_hello(call, model)


async def test_closing_a_stream_of_n(call: Call, engine: Engine) -> None:
    exchanges = [engine.expect(head(), chunk("a"), HANG) for _ in range(3)]
    stream = await call.stream("scripted", COUNT, n=3)
    await stream.next()
    await stream.close()
    for exchange in exchanges:
        exchange.wait_gone()


async def test_dropping_a_stream(call: Call, generation: Generation, model: str) -> None:
    generation.expect(head(), chunk("a"))
    stream = await call.stream(generation.model, COUNT, **ENDLESS)
    await stream.next()
    generation.wait_started()
    del stream
    generation.wait_ended()
    await say_hello(call, model)


@pytest.mark.parametrize("first", [b"", head(), head() + ROLE], ids=["silent", "head", "role"])
@pytest.mark.parametrize("verb", ["create", "stream"])
async def test_cancelling_the_task_that_waits_for_an_engine(
    client: pgml.OpenSourceAI, engine: Engine, model: str, verb: str, first: bytes
) -> None:
    # Silence in three places: before the answer, after its head, and after its first event.
    call = Call(client, "async")
    exchange = engine.expect(first, HANG)
    task = asyncio.create_task(getattr(call, verb)("scripted", QUESTION))
    await asyncio.to_thread(exchange.wait_arrived)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    exchange.wait_gone()
    await say_hello(call, model)


async def test_cancelling_a_completion(
    client: pgml.OpenSourceAI, generation: Generation, model: str
) -> None:
    call = Call(client, "async")
    generation.expect(head(), chunk("a"))
    task = asyncio.create_task(call.create(generation.model, COUNT, **ENDLESS))
    await asyncio.to_thread(generation.wait_started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    generation.wait_ended()
    await say_hello(call, model)


async def test_cancelling_the_reader_of_a_stream(
    client: pgml.OpenSourceAI, generation: Generation, model: str
) -> None:
    call = Call(client, "async")
    generation.expect(head(), chunk("a"))
    stream = await call.stream(generation.model, COUNT, **ENDLESS)
    task = asyncio.create_task(stream.rest())
    await asyncio.to_thread(generation.wait_started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    generation.wait_ended()
    # As with any generator that was cancelled: it is over.
    assert await stream.rest() == []
    await say_hello(call, model)


async def test_a_timeout_around_a_completion(
    client: pgml.OpenSourceAI, engine: Engine, model: str
) -> None:
    exchange = engine.expect(HANG)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.chat_completions_create_async("scripted", QUESTION), 0.2)
    exchange.wait_gone()
    await say_hello(Call(client, "async"), model)


async def test_a_timeout_around_a_read(
    client: pgml.OpenSourceAI, engine: Engine, model: str
) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
    await anext(stream)

    async def read() -> object:
        return await anext(stream)

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(read(), 0.2)
    exchange.wait_gone()
    await say_hello(Call(client, "async"), model)


async def test_a_failing_sibling_ends_the_others(client: pgml.OpenSourceAI, engine: Engine) -> None:
    exchange = engine.expect(HANG)
    task = asyncio.create_task(client.chat_completions_create_async("scripted", QUESTION))
    await asyncio.to_thread(exchange.wait_arrived)
    with pytest.raises(pgml.NotFoundError):
        await client.chat_completions_create_async("no such model", QUESTION)
    assert not exchange.gone.is_set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    exchange.wait_gone()


async def test_an_awaitable_that_is_never_awaited(
    client: pgml.OpenSourceAI, engine: Engine, model: str
) -> None:
    # A coroutine that was not started asks nobody.
    client.chat_completions_create_async("scripted", QUESTION).close()
    await say_hello(Call(client, "async"), model)


INTERRUPTED = """
import json, signal, sys
import pgml

signal.signal(signal.SIGINT, signal.default_int_handler)
url, model, verb = sys.argv[1:]
client = pgml.OpenSourceAI(url)
messages = [{"role": "user", "content": "Count from one to one hundred."}]
try:
    if verb == "create":
        print("asking", flush=True)
        client.chat_completions_create(model, messages, extra_body={"ignore_eos": True})
    else:
        for chunk in client.chat_completions_create_stream(
            model, messages, extra_body={"ignore_eos": True}
        ):
            print("asking", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
# The next call works, while the process still holds everything else it had.
print(sys.stdin.readline() and json.dumps(client.chat_completions_create(sys.argv[2], messages)))
"""


class Child:
    """A process that makes one endless call."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self.line() == "asking"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def skip_to(self, expected: str) -> None:
        while (line := self.line()) != expected:
            assert line == "asking"

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("verb", ["create", "stream"])
def test_ctrl_c(generation: Generation, database_url: str, verb: str) -> None:
    generation.expect(head(), chunk("a"))
    with Child(INTERRUPTED, database_url, generation.model, verb) as child:
        generation.wait_started()
        child.process.send_signal(signal.SIGINT)
        child.skip_to("interrupted")
        generation.wait_ended()
        assert child.process.poll() is None


def test_a_call_after_ctrl_c(engine: Engine, database_url: str) -> None:
    exchange = engine.expect(HANG)
    with Child(INTERRUPTED, database_url, "scripted", "create") as child:
        exchange.wait_arrived()
        child.process.send_signal(signal.SIGINT)
        child.skip_to("interrupted")
        exchange.wait_gone()
        engine.expect(answer("hello again"))
        out, _ = child.process.communicate("go\n", timeout=PATIENCE)
        assert json.loads(out)["choices"][0]["message"]["content"] == "hello again"


@pytest.mark.parametrize("verb", ["create", "stream"])
def test_killing_the_client_process(generation: Generation, database_url: str, verb: str) -> None:
    generation.expect(head(), chunk("a"))
    with Child(INTERRUPTED, database_url, generation.model, verb) as child:
        generation.wait_started()
        child.process.kill()
        generation.wait_ended()


def cancel_backends(admin: psycopg.Connection[Any], function: str = "pg_cancel_backend") -> None:
    (cancelled,) = admin.execute(
        f"SELECT count({function}(pid)) FROM pg_stat_activity "
        "WHERE application_name = 'pgml' AND state = 'active' AND pid <> pg_backend_pid()"
    ).fetchone() or (0,)
    assert cancelled == 1


async def test_pg_cancel_backend(
    call: Call, generation: Generation, model: str, admin: psycopg.Connection[Any]
) -> None:
    generation.expect(head(), chunk("a"))
    stream = await call.stream(generation.model, COUNT, **ENDLESS)
    generation.wait_started()
    cancel_backends(admin)
    with pytest.raises(pgml.APITimeoutError, match="cancel") as caught:
        await stream.rest()
    assert caught.value.sqlstate == "57014"
    generation.wait_ended()
    await say_hello(call, model)


async def test_pg_terminate_backend(
    call: Call, generation: Generation, model: str, admin: psycopg.Connection[Any]
) -> None:
    generation.expect(head(), chunk("a"))
    stream = await call.stream(generation.model, COUNT, **ENDLESS)
    generation.wait_started()
    cancel_backends(admin, "pg_terminate_backend")
    with pytest.raises(pgml.APIConnectionError) as caught:
        await stream.rest()
    assert caught.value.sqlstate == "57P01"
    generation.wait_ended()
    await say_hello(call, model)


async def test_statement_timeout(
    call: Call, engine: Engine, model: str, role: Callable[..., str], admin: psycopg.Connection[Any]
) -> None:
    impatient = pgml.OpenSourceAI(role("impatient"))
    admin.execute("ALTER ROLE impatient SET statement_timeout = '300ms'")
    admin.execute("GRANT USAGE ON FOREIGN SERVER standin TO impatient")
    exchange = engine.expect(HANG)
    with pytest.raises(pgml.APITimeoutError, match="statement timeout") as caught:
        await call.of(impatient).create("scripted", QUESTION)
    assert caught.value.sqlstate == "57014"
    exchange.wait_gone()
    engine.expect(answer("hello"))
    await call.of(impatient).create("scripted", QUESTION)


def test_an_sql_cursor_closed_early(generation: Generation, admin: psycopg.Connection[Any]) -> None:
    generation.expect(head(), chunk("a"), chunk("b"))
    request = Jsonb(generation.request)
    with admin.transaction(), admin.cursor("early") as cursor:
        cursor.execute("SELECT pgml.chat_completion_stream(%s)", [request])
        assert cursor.fetchone()
        generation.wait_started()
        cursor.close()
        generation.wait_ended()
        assert admin.execute("SELECT 1").fetchone() == (1,)


def test_a_limit_that_is_reached(generation: Generation, admin: psycopg.Connection[Any]) -> None:
    generation.expect(head(), chunk("a"), chunk("b"))
    rows = admin.execute(
        "SELECT pgml.chat_completion_stream(%s) LIMIT 2", [Jsonb(generation.request)]
    ).fetchall()
    assert len(rows) == 2
    generation.wait_ended()


def test_a_statement_in_sql_that_fails(
    generation: Generation, admin: psycopg.Connection[Any]
) -> None:
    generation.expect(head(), chunk("a"), chunk("b"))
    with pytest.raises(psycopg.errors.DivisionByZero):
        admin.execute(
            "SELECT 1 / (length((pgml.chat_completion_stream(%s))::text) * 0)",
            [Jsonb(generation.request)],
        )
    generation.wait_ended()


def test_an_sql_client_that_cancels(engine: Engine, admin: psycopg.Connection[Any]) -> None:
    exchange = engine.expect(HANG)

    def cancel() -> None:
        exchange.wait_arrived()
        admin.cancel_safe()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    request = Jsonb({"model": "scripted", "messages": QUESTION})
    with pytest.raises(psycopg.errors.QueryCanceled):
        admin.execute("SELECT pgml.chat_completion(%s)", [request])
    canceller.join(PATIENCE)
    exchange.wait_gone()


def test_a_client_that_is_dropped_ends_its_streams(database_url: str, engine: Engine) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    client = pgml.OpenSourceAI(database_url)
    stream = client.chat_completions_create_stream("scripted", QUESTION)
    del client
    assert not exchange.gone.is_set()
    del stream
    exchange.wait_gone()
