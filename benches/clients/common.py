"""What every peer's program does around its own few lines: check the text, measure, report.

A program is run with one argument, a job in JSON, and prints one line of JSON. It has two classes,
`Sync` and `Async`, which need not both be there. Both are made from the job, and have

* `stream(model, **parameters)`: an iterator over items (`Async`: an awaitable of an asynchronous
  one);
* `text(item)`: the text in an item;
* `count`: `None` where each item is a chunk, else a function that counts the chunks in an item;
* `complete(model, worker)`: the text of a whole completion (`Async`: an awaitable of it).

`Async` may have `connect()`, awaited first.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

MESSAGES = [{"role": "user", "content": "How many helicopters can a human eat in one sitting?"}]

Job = dict[str, Any]


def main(sync: Callable[[Job], Any] | None, asynchronous: Callable[[Job], Any] | None) -> None:
    """Do the job of the command line."""
    job = json.loads(sys.argv[1])
    if job["face"] == "sync":
        assert sync
        result = _SYNC[job["task"]](sync(job), job)
    else:
        assert asynchronous
        result = asyncio.run(_asynchronous(asynchronous(job), job))
    print(json.dumps(result), flush=True)
    # The published SDK's threads can crash an interpreter that ends: nobody's is asked to.
    os._exit(0)


async def _asynchronous(peer: Any, job: Job) -> Any:
    if hasattr(peer, "connect"):
        await peer.connect()
    return await _ASYNC[job["task"]](peer, job)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Clock:
    """Wall time and this process's CPU time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu_seconds": time.process_time() - self._cpu,
        }

    def running(self, seconds: float) -> bool:
        return time.perf_counter() - self._wall < seconds


def _check(text: str, job: Job) -> str:
    sha = digest(text)
    assert sha == job["sha"], f"another text than the engine's: {text[:200]!r}"
    return sha


def _check_count(count: int, streams: int, job: Job) -> None:
    # Some add a chunk for the role, or one for the end, or both.
    pieces = job["pieces"]
    assert pieces <= count / streams <= pieces + 2, f"{count} chunks in {streams} streams"


# Synchronous -----------------------------------------------------------------------------------


def _consume(peer: Any, model: str) -> int:
    """Read a stream as fast as possible, and count its chunks."""
    count = 0
    if peer.count is None:
        for _ in peer.stream(model):
            count += 1
    else:
        for item in peer.stream(model):
            count += peer.count(item)
    return count


def _read(peer: Any, model: str) -> str:
    return "".join(peer.text(item) for item in peer.stream(model))


def _stream(peer: Any, job: Job) -> Any:
    model = job["model"]
    sha = _check(_read(peer, model), job)
    streams = count = 0
    clock = Clock()
    while clock.running(job["seconds"]):
        count += _consume(peer, model)
        streams += 1
    measured = clock.read()
    _check_count(count, streams, job)
    return {"chunks": streams * job["pieces"], "text_sha": sha, **measured}


def _attributes(peer: Any, job: Job) -> Any:
    """As `stream`, and read the text of every chunk as the openai package's users do."""
    model = job["model"]
    sha = _check(_read(peer, model), job)
    streams = 0
    clock = Clock()
    while clock.running(job["seconds"]):
        length = 0
        for chunk in peer.stream(model):
            length += len(chunk.choices[0].delta.content or "")
        assert length == job["length"]
        streams += 1
    return {"chunks": streams * job["pieces"], "text_sha": sha, **clock.read()}


def _complete(peer: Any, job: Job) -> Any:
    model = job["model"]
    sha = _check(peer.complete(model, 0), job)
    count = 0
    clock = Clock()
    while clock.running(job["seconds"]):
        peer.complete(model, 0)
        count += 1
    return {"completions": count, "text_sha": sha, **clock.read()}


def _first(peer: Any, job: Job) -> Any:
    model = job["model"]
    sha = _check(_read(peer, model), job)
    times = []
    for _ in range(job["times"]):
        began = time.perf_counter()
        items = iter(peer.stream(model))
        next(items)
        times.append(time.perf_counter() - began)
        for _ in items:
            pass
    return {"first_seconds": statistics.median(times), "text_sha": sha}


def _ping(peer: Any, job: Job) -> Any:
    """How far away the database is."""
    times = []
    for _ in range(job["times"] + 1):
        began = time.perf_counter()
        peer.ping()
        times.append(time.perf_counter() - began)
    return {"first_seconds": statistics.median(times[1:])}


def _total(peer: Any, job: Job) -> Any:
    _read(peer, job["warm_up"])
    clock = Clock()
    sha = _check(_read(peer, job["model"]), job)
    return {"chunks": job["pieces"], "text_sha": sha, **clock.read()}


_SYNC: dict[str, Callable[[Any, Job], Any]] = {
    "stream": _stream,
    "attributes": _attributes,
    "complete": _complete,
    "first": _first,
    "ping": _ping,
    "total": _total,
}


# Asynchronous ----------------------------------------------------------------------------------


async def _consume_async(peer: Any, model: str) -> int:
    count = 0
    if peer.count is None:
        async for _ in await peer.stream(model):
            count += 1
    else:
        async for item in await peer.stream(model):
            count += peer.count(item)
    return count


async def _stream_async(peer: Any, job: Job) -> Any:
    model = job["model"]
    sha = _check("".join([peer.text(item) async for item in await peer.stream(model)]), job)
    streams = count = 0
    clock = Clock()
    while clock.running(job["seconds"]):
        count += await _consume_async(peer, model)
        streams += 1
    measured = clock.read()
    _check_count(count, streams, job)
    return {"chunks": streams * job["pieces"], "text_sha": sha, **measured}


async def _complete_async(peer: Any, job: Job) -> Any:
    model, workers = job["model"], range(job["concurrent"])
    texts = await asyncio.gather(*(peer.complete(model, worker) for worker in workers))
    shas = {_check(text, job) for text in texts}
    clock = Clock()

    async def work(worker: int) -> int:
        count = 0
        while clock.running(job["seconds"]):
            await peer.complete(model, worker)
            count += 1
        return count

    count = sum(await asyncio.gather(*map(work, workers)))
    return {"completions": count, "text_sha": shas.pop(), **clock.read()}


async def _together(peer: Any, job: Job) -> Any:
    """Several streams at once, of a real model: chunks are tokens."""

    async def read(request: dict[str, Any]) -> list[str]:
        return [peer.text(item) async for item in await peer.stream(job["model"], **request)]

    clock = Clock()
    answers = await asyncio.gather(*map(read, job["requests"]))
    measured = clock.read()
    tokens = sum(sum(map(bool, answer)) for answer in answers)
    sha = digest("\0".join("".join(answer) for answer in answers))
    return {"chunks": tokens, "text_sha": sha, **measured}


_ASYNC: dict[str, Callable[[Any, Job], Any]] = {
    "stream": _stream_async,
    "complete": _complete_async,
    "together": _together,
}
