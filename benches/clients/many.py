"""pgml: a thousand streams in one process, beside the same work with sixteen at a time."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pgml
from common import MESSAGES, Clock, digest


def resident() -> int:
    """This process's memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Meeting:
    """Where tasks wait until all of them have come, and the one that measures has measured."""

    def __init__(self, size: int) -> None:
        self._missing = size
        self.complete = asyncio.Event()

    async def arrive(self) -> None:
        self._missing -= 1
        if not self._missing:
            self.complete.set()
        await self.complete.wait()


async def main(job: dict[str, Any]) -> dict[str, Any]:
    streams = job["streams"]
    client = pgml.OpenSourceAI(job["url"], max_connections=streams, acquire_timeout=120)

    async def read(model: str, sha: str, half: Meeting | None = None) -> int:
        chunks = await client.chat_completions_create_stream_async(model, MESSAGES)
        texts = []
        async for chunk in chunks:
            texts.append(chunk["choices"][0]["delta"].get("content") or "")
            if half and len(texts) == job["half"]:
                await half.arrive()
        assert digest("".join(texts)) == sha, "another text than the engine's"
        return len(texts) - 1

    # One stream, so that what is made once is not counted a thousand times.
    await read(job["short"], job["short_sha"])
    before = resident()

    # All are open, half-way, and the engine holds them there: what does each cost?
    half = Meeting(streams)
    tasks = [asyncio.create_task(read(job["held"], job["held_sha"], half)) for _ in range(streams)]
    await half.complete.wait()
    open_memory = resident() - before
    await asyncio.gather(*tasks)

    # All of them at once, at the pace of a model.
    began = time.perf_counter()
    await asyncio.gather(*(read(job["paced"], job["paced_sha"]) for _ in range(streams)))
    paced = time.perf_counter() - began

    async def work(at_a_time: int) -> dict[str, float]:
        """The same number of streams of the same length, so many of them at a time."""
        left = iter(range(streams))

        async def some() -> int:
            count = 0
            for _ in left:
                count += await read(job["long"], job["long_sha"])
            return count

        clock = Clock()
        counts = await asyncio.gather(*(some() for _ in range(at_a_time)))
        return {"chunks": sum(counts), **clock.read()}

    few = await work(16)
    many = await work(streams)
    return {
        "streams": streams,
        "bytes_per_stream": open_memory / streams,
        "paced_seconds": paced,
        "few": few,
        "many": many,
        "text_sha": job["long_sha"],
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))), flush=True)
