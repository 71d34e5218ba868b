"""Streams: chunks come as they are made, all of them, in order, and a stream ends well."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pgml
import psycopg
import pytest
from conftest import COUNT, QUESTION, Call, Slots, text
from engine import DONE, HANG, ROLE, Engine, answer, chunk, ending, head, usage


async def test_a_chunk_arrives_before_the_next_is_made(call: Call, engine: Engine) -> None:
    # The engine makes each chunk only after the one before has been seen here.
    gates = [engine.gate() for _ in range(4)]
    steps = [step for i, gate in enumerate(gates) for step in (gate, chunk(f"{i} "))]
    exchange = engine.expect(
        head(), ROLE, chunk("first "), steps, gates_end := engine.gate(), ending()
    )
    stream = await call.stream("scripted", QUESTION)
    seen = [await stream.next()]
    for gate in gates:
        gate.open()
        seen.append(await stream.next())
    assert text(seen) == "first 0 1 2 3 "
    assert not exchange.gone.is_set()
    gates_end.open()
    rest = await stream.rest()
    assert [chunk.choices[0].finish_reason for chunk in rest] == ["stop"]


async def test_a_stream_opens_with_its_first_chunk(call: Call, engine: Engine) -> None:
    # Without a first chunk there is no stream yet: an error in its place is raised by the call.
    engine.expect(head(), ROLE, ending())
    stream = await call.stream("scripted", QUESTION)
    chunks = await stream.rest()
    assert len(chunks) == 1
    assert chunks[0].choices[0].delta == {"role": "assistant"}
    assert chunks[0].choices[0].finish_reason == "stop"


async def test_a_stream_says_what_the_whole_completion_says(call: Call, model: str) -> None:
    settings = {"max_tokens": 24, "seed": 11, "temperature": 0.7}
    whole = await call.create(model, COUNT, **settings)
    chunks = await (await call.stream(model, COUNT, **settings)).rest()
    assert text(chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


async def test_chunks_have_the_shape_of_openai(call: Call, model: str) -> None:
    chunks = await (await call.stream(model, QUESTION, max_tokens=6)).rest()
    assert len(chunks) > 3
    for number, chunk_ in enumerate(chunks):
        assert type(chunk_) is pgml.ChatCompletionChunk
        # Beside OpenAI's fields, what llama.cpp adds to the last.
        assert set(chunk_) - {"timings"} == {
            "id", "object", "created", "model", "system_fingerprint", "choices",
        }  # fmt: skip
        assert ("timings" in chunk_) == (number == len(chunks) - 1)
        assert chunk_["object"] == "chat.completion.chunk"
        assert chunk_["model"] == model
        (choice,) = chunk_["choices"]
        assert set(choice) == {"index", "delta", "logprobs", "finish_reason"}
        assert choice["index"] == 0
        assert ("role" in choice["delta"]) == (number == 0)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {(c["id"], c["created"]) for c in chunks} == {(chunks[0].id, chunks[0].created)}
    reasons = [chunk_.choices[0].finish_reason for chunk_ in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"]


async def test_many_events_at_once_are_all_chunks_in_order(call: Call, engine: Engine) -> None:
    contents = [f"{number} " for number in range(3000)]
    engine.expect(head() + ROLE + b"".join(map(chunk, contents)), ending())
    chunks = await (await call.stream("scripted", QUESTION)).rest()
    assert [c.choices[0].delta.content for c in chunks] == [*contents, None]


async def test_events_cut_anywhere_are_whole_chunks(call: Call, engine: Engine) -> None:
    contents = ["naïve ", "日本 ", "🚁", '"\\\n']
    whole = b"".join([head(), ROLE, *map(chunk, contents), *ending()])
    engine.expect(whole[i : i + 1] for i in range(len(whole)))
    chunks = await (await call.stream("scripted", QUESTION)).rest()
    assert text(chunks) == "".join(contents)


async def test_a_slow_reader_gets_everything(call: Call, engine: Engine) -> None:
    # Far more than all buffers on the way hold, sent before the reader asks for its second chunk.
    piece, count = "x" * 4096, 4000
    sent = engine.gate()
    engine.expect(head(), chunk("first"), sent, (chunk(piece) for _ in range(count)), ending())
    stream = await call.stream("scripted", QUESTION)
    sent.open()
    assert (await stream.next()).choices[0].delta.content == "first"
    lengths = [len(c.choices[0].delta.content or "") for c in await stream.rest()]
    assert lengths == [len(piece)] * count + [0]


async def test_n_choices_are_streamed_side_by_side(call: Call, engine: Engine) -> None:
    gates = [engine.gate() for _ in range(3)]
    exchanges = [
        engine.expect(head(), ROLE, gate, chunk(f"choice {i}"), ending(completion=i + 1))
        for i, gate in enumerate(gates)
    ]
    gates[2].open()
    stream = await call.stream(
        "scripted",
        QUESTION,
        n=3,
        seed=5,
        stream_options={"include_usage": True},
    )
    # Whichever choice the engine finishes first comes first; those before it are only opened.
    chunks = [await stream.next() for _ in range(4)]
    assert [c.choices[0].index for c in chunks] == [0, 1, 2, 2]
    gates[0].open()
    gates[1].open()
    chunks += await stream.rest()
    for index in range(3):
        own = [c for c in chunks if c["choices"] and c["choices"][0]["index"] == index]
        assert text(own, index) == f"choice {index}"
        roles = ["role" in c["choices"][0]["delta"] for c in own]
        assert roles == [True] + [False] * (len(own) - 1)
        finish_reasons = [c["choices"][0]["finish_reason"] for c in own]
        assert finish_reasons == [None] * (len(own) - 1) + ["stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "completion_tokens": 6, "prompt_tokens": 7, "total_tokens": 13,
    }  # fmt: skip
    assert [exchange.body["seed"] for exchange in exchanges] == [5, 6, 7]
    assert all("n" not in exchange.body for exchange in exchanges)


async def test_usage_comes_last_and_only_if_asked_for(call: Call, engine: Engine) -> None:
    engine.expect(answer("a", "b", prompt=5, completion=3))
    chunks = await (
        await call.stream("scripted", QUESTION, stream_options={"include_usage": True})
    ).rest()
    assert chunks[-1].choices == []
    assert chunks[-1].usage == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert all(c.usage is None for c in chunks[:-1])
    engine.expect(answer("a", "b"))
    chunks = await (await call.stream("scripted", QUESTION)).rest()
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all("usage" not in c for c in chunks)


async def test_true_usage_of_the_real_model(call: Call, model: str) -> None:
    chunks = await (
        await call.stream(model, QUESTION, max_tokens=5, stream_options={"include_usage": True})
    ).rest()
    counted = chunks[-1].usage
    assert counted.completion_tokens == 5
    assert counted.prompt_tokens > 10
    assert counted.total_tokens == counted.completion_tokens + counted.prompt_tokens


async def test_a_stream_that_has_ended_stays_ended(call: Call, engine: Engine) -> None:
    engine.expect(answer("a"))
    stream = await call.stream("scripted", QUESTION)
    assert len(await stream.rest()) == 2
    for _ in range(3):
        with pytest.raises(StopAsyncIteration):
            await stream.next()
    await stream.close()
    await stream.close()
    assert await stream.rest() == []


async def test_closing_ends_the_generation(call: Call, engine: Engine) -> None:
    exchange = engine.expect(head(), chunk("a"), chunk("b"), HANG)
    stream = await call.stream("scripted", QUESTION)
    await stream.next()
    await stream.close()
    exchange.wait_gone()
    await stream.close()
    assert await stream.rest() == []


async def test_a_stream_is_a_context_manager(call: Call, engine: Engine) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    async with await call.stream("scripted", QUESTION) as stream:
        assert (await stream.next()).choices[0].delta.content == "a"
        assert not exchange.gone.is_set()
    exchange.wait_gone()
    assert await stream.rest() == []


async def test_an_exception_leaves_the_context_and_ends_the_generation(
    call: Call, engine: Engine
) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    with pytest.raises(KeyError, match="mine"):
        async with await call.stream("scripted", QUESTION):
            raise KeyError("mine")
    exchange.wait_gone()


async def test_a_dropped_stream_ends_the_generation(call: Call, engine: Engine) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    stream = await call.stream("scripted", QUESTION)
    await stream.next()
    del stream
    gc.collect()
    exchange.wait_gone()


async def test_an_abandoned_loop_over_a_stream_keeps_nothing(
    call: Call, model: str, slots: Slots
) -> None:
    async def first_chunk() -> None:
        async for _ in await call.stream(model, COUNT):
            break

    await first_chunk()
    gc.collect()
    slots.wait_idle()


def test_an_iterator_is_its_own(client: pgml.OpenSourceAI, engine: Engine) -> None:
    engine.expect(answer("a"))
    stream = client.chat_completions_create_stream("scripted", QUESTION)
    assert isinstance(stream, pgml.ChatCompletionStream)
    assert iter(stream) is stream
    assert len(list(stream)) == 2


async def test_an_async_iterator_is_its_own(client: pgml.OpenSourceAI, engine: Engine) -> None:
    engine.expect(answer("a"))
    stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
    assert isinstance(stream, pgml.AsyncChatCompletionStream)
    assert aiter(stream) is stream
    assert len([c async for c in stream]) == 2


async def test_closing_wakes_an_async_reader(client: pgml.OpenSourceAI, engine: Engine) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    stream = await client.chat_completions_create_stream_async("scripted", QUESTION)
    await anext(stream)

    async def read() -> list[object]:
        return [c async for c in stream]

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    await stream.aclose()
    assert await asyncio.wait_for(reader, 60) == []
    exchange.wait_gone()


def test_closing_wakes_a_reading_thread(client: pgml.OpenSourceAI, engine: Engine) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    stream = client.chat_completions_create_stream("scripted", QUESTION)
    next(stream)
    read: list[object] = []
    thread = threading.Thread(target=lambda: read.append(list(stream)))
    thread.start()
    stream.close()
    thread.join(60)
    assert not thread.is_alive()
    assert read == [[]]
    exchange.wait_gone()


def test_rows_are_pushed_to_any_client(engine: Engine, admin: psycopg.Connection) -> None:
    # In SQL too: the row is there while the engine still waits for it to be seen.
    gate = engine.gate()
    engine.expect(head(), chunk("a"), gate, chunk("b"), ending())
    request = psycopg.types.json.Jsonb({"model": "scripted", "messages": QUESTION})
    rows = admin.cursor().stream("SELECT pgml.chat_completion_stream(%s)", [request])
    assert next(rows)[0]["choices"][0]["delta"] == {"role": "assistant", "content": "a"}
    gate.open()
    assert text([row[0] for row in rows]) == "b"


def test_usage_that_no_engine_counts_is_not_invented(
    client: pgml.OpenSourceAI, engine: Engine
) -> None:
    engine.expect(head(), chunk("a", "stop"), DONE)
    *_, last = client.chat_completions_create_stream(
        "scripted", QUESTION, stream_options={"include_usage": True}
    )
    assert last["choices"] == []
    assert last["usage"] is None
    engine.expect(head(), chunk("a", "stop"), usage(3, 1), DONE)
    *_, last = client.chat_completions_create_stream(
        "scripted", QUESTION, stream_options={"include_usage": True}
    )
    assert last["usage"]["total_tokens"] == 4


def test_a_stream_keeps_its_client_alive(database_url: str, engine: Engine) -> None:
    gate = engine.gate()
    engine.expect(head(), chunk("a"), gate, chunk("b"), ending())
    client = pgml.OpenSourceAI(database_url)
    stream = client.chat_completions_create_stream("scripted", QUESTION)
    forgotten = weakref.ref(client)
    del client
    gc.collect()
    assert forgotten() is None
    gate.open()
    assert text(list(stream)) == "ab"
