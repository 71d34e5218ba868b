"""One client, many callers: threads, tasks, event loops, and processes made by fork."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pgml
import psycopg
import pytest
from conftest import COUNT, QUESTION, Call, environment, text
from engine import HANG, PATIENCE, Engine, Exchange, answer, chunk, ending, head

THREADS = 32
TASKS = 50


def expect_all_at_once(engine: Engine, count: int) -> tuple[list[Exchange], Callable[[], None]]:
    """Answers that come only when all requests are there, so that nobody can wait in line."""
    gates = [engine.gate() for _ in range(count)]
    exchanges = [
        engine.expect(head(), chunk(f"answer {i}"), gate, chunk("."), ending())
        for i, gate in enumerate(gates)
    ]

    def release() -> None:
        for exchange in exchanges:
            exchange.wait_arrived()
        for gate in gates:
            gate.open()

    return exchanges, release


def message(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"caller {number}"}]


def assert_each_its_own(exchanges: list[Exchange], answers: list[str]) -> None:
    """The caller whose question got answer i is the one that has it."""
    callers = {exchange.body["messages"][0]["content"]: i for i, exchange in enumerate(exchanges)}
    assert len(callers) == len(exchanges)
    assert answers == [f"answer {callers[f'caller {n}']}." for n in range(len(answers))]


@pytest.mark.parametrize("verb", ["create", "stream"])
def test_threads(client: pgml.OpenSourceAI, engine: Engine, verb: str) -> None:
    def ask(number: int) -> str:
        if verb == "create":
            completion = client.chat_completions_create("scripted", message(number))
            return completion.choices[0].message.content or ""
        return text(list(client.chat_completions_create_stream("scripted", message(number))))

    exchanges, release = expect_all_at_once(engine, THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        answers = pool.map(ask, range(THREADS), timeout=PATIENCE)
        release()
        assert_each_its_own(exchanges, list(answers))


@pytest.mark.parametrize("verb", ["create", "stream"])
async def test_tasks(database_url: str, engine: Engine, verb: str, deadline: None) -> None:
    client = pgml.OpenSourceAI(database_url, max_retries=0, max_connections=TASKS)
    call = Call(client, "async")

    async def ask(number: int) -> str:
        if verb == "create":
            return (await call.create("scripted", message(number))).choices[0].message.content
        return text(await (await call.stream("scripted", message(number))).rest())

    exchanges, release = expect_all_at_once(engine, TASKS)
    tasks = [asyncio.create_task(ask(number)) for number in range(TASKS)]
    await asyncio.to_thread(release)
    assert_each_its_own(exchanges, await asyncio.gather(*tasks))


def test_two_event_loops(client: pgml.OpenSourceAI, engine: Engine) -> None:
    async def ask(number: int) -> str:
        stream = await client.chat_completions_create_stream_async("scripted", message(number))
        return text([c async for c in stream])

    async def ask_some(first: int) -> list[str]:
        return await asyncio.gather(*(ask(first + i) for i in range(5)))

    exchanges, release = expect_all_at_once(engine, 10)
    with ThreadPoolExecutor(2) as pool:
        loops = [pool.submit(asyncio.run, ask_some(first)) for first in (0, 5)]
        release()
        answers = [answer for loop in loops for answer in loop.result(PATIENCE)]
    assert_each_its_own(exchanges, answers)


def test_one_event_loop_after_another(client: pgml.OpenSourceAI, engine: Engine) -> None:
    for _ in range(3):
        engine.expect(answer("hello"))
        completion = asyncio.run(client.chat_completions_create_async("scripted", QUESTION))
        assert completion.choices[0].message.content == "hello"


def test_threads_and_a_loop_together(client: pgml.OpenSourceAI, engine: Engine) -> None:
    exchanges, release = expect_all_at_once(engine, 2)
    with ThreadPoolExecutor(2) as pool:
        sync = pool.submit(client.chat_completions_create, "scripted", message(0))
        async_ = pool.submit(
            asyncio.run, client.chat_completions_create_async("scripted", message(1))
        )
        release()
        answers = [c.result(PATIENCE).choices[0].message.content for c in (sync, async_)]
    assert_each_its_own(exchanges, answers)


async def test_the_loop_runs_while_a_completion_is_made(
    client: pgml.OpenSourceAI, engine: Engine
) -> None:
    # The answer comes only after this very loop, which waits for it, has let it.
    gate = engine.gate()
    engine.expect(gate, answer("hello"))
    asyncio.get_running_loop().call_soon(gate.open)
    completion = await asyncio.wait_for(
        client.chat_completions_create_async("scripted", QUESTION), PATIENCE
    )
    assert completion.choices[0].message.content == "hello"


async def test_the_real_model_serves_more_callers_than_it_has_slots(
    client: pgml.OpenSourceAI, model: str
) -> None:
    completions = await asyncio.gather(
        *(
            client.chat_completions_create_async(model, COUNT, max_tokens=4, temperature=0)
            for _ in range(9)
        )
    )
    assert {completion.usage.completion_tokens for completion in completions} == {4}
    assert len({completion.id for completion in completions}) == 9


async def test_more_callers_than_connections(call: Call, engine: Engine, database_url: str) -> None:
    small = call.of(
        pgml.OpenSourceAI(database_url, max_connections=2, acquire_timeout=0.2, max_retries=0)
    )
    for _ in range(2):
        engine.expect(head(), chunk("a"), HANG)
    first, second = [await small.stream("scripted", QUESTION) for _ in range(2)]
    with pytest.raises(pgml.APITimeoutError, match="all 2 connections") as caught:
        await small.create("scripted", QUESTION)
    assert "max_connections" in (caught.value.hint or "")
    assert "acquire_timeout" in (caught.value.hint or "")
    await first.close()
    engine.expect(answer("hello"))
    assert (await small.create("scripted", QUESTION)).choices[0].message.content == "hello"
    await second.close()


def test_a_caller_waits_for_a_connection(engine: Engine, database_url: str) -> None:
    client = pgml.OpenSourceAI(database_url, max_connections=1, max_retries=0)
    gate = engine.gate()
    first = engine.expect(head(), chunk("first"), gate, ending())
    second = engine.expect(answer("second"))
    stream = client.chat_completions_create_stream("scripted", QUESTION)
    waiting: list[Any] = []
    thread = threading.Thread(
        target=lambda: waiting.append(client.chat_completions_create("scripted", QUESTION))
    )
    thread.start()
    assert next(stream).choices[0].delta.content == "first"
    assert first.arrived.is_set()
    assert not second.arrived.is_set()
    gate.open()
    assert len(list(stream)) == 1
    thread.join(PATIENCE)
    assert waiting[0].choices[0].message.content == "second"


def test_a_connection_is_used_again(
    client: pgml.OpenSourceAI, engine: Engine, admin: psycopg.Connection[Any]
) -> None:
    count = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgml'"
    before = set(admin.execute(count).fetchall())
    for _ in range(5):
        engine.expect(answer("hello"))
        client.chat_completions_create("scripted", QUESTION)
    assert len(set(admin.execute(count).fetchall()) - before) == 1


def test_connections_that_the_server_closed_are_replaced(
    client: pgml.OpenSourceAI, engine: Engine, admin: psycopg.Connection[Any]
) -> None:
    engine.expect(answer("hello"))
    client.chat_completions_create("scripted", QUESTION)
    admin.execute(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
        "WHERE application_name = 'pgml'"
    )
    engine.expect(answer("hello again"))
    completion = client.chat_completions_create("scripted", QUESTION)
    assert completion.choices[0].message.content == "hello again"


FORK = """
import json, os, sys
import pgml

client = pgml.OpenSourceAI(sys.argv[1])
messages = [{"role": "user", "content": "hi"}]


def ask(name):
    completion = client.chat_completions_create("scripted", messages)
    print(json.dumps([name, completion.choices[0].message.content]), flush=True)


ask("before")
stream = client.chat_completions_create_stream("scripted", messages)
next(stream)
if os.fork() == 0:
    ask("child")
    # An orderly end, with all that it inherited.
    sys.exit()
assert os.wait()[1] == 0
print(json.dumps(["stream", [chunk.choices[0].delta.content for chunk in stream]]), flush=True)
ask("parent")
"""


def test_fork(engine: Engine, database_url: str) -> None:
    engine.expect(answer("1"))
    gate = engine.gate()
    streamed = engine.expect(head(), chunk("a"), gate, chunk("b"), ending())
    engine.expect(answer("2"))
    engine.expect(answer("3"))
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORK, database_url],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        before, child = (json.loads(process.stdout.readline()) for _ in range(2))
        assert (before, child) == (["before", "1"], ["child", "2"])
        # The child has made its completion, and the parent's stream is as it was.
        assert not streamed.gone.is_set()
        gate.open()
        rest = [json.loads(line) for line in process.stdout]
    assert rest == [["stream", ["b", None]], ["parent", "3"]]
    assert process.returncode == 0
