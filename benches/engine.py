"""The scripted engine: chat completions that are made up beforehand, so it is never the limit.

    engine.py          prints its port, and serves until its standard input ends

A request's `model` says what to answer, as comma-separated settings:

* `chunks=N`: the answer has N pieces, each in an event of its own;
* `pace=MS`: one piece each MS milliseconds, the first at once; without it, all in one write;
* `hold=K`: after half of the pieces, wait until K such answers have come as far;
* `framing=block`: HTTP chunks of 64 kB; without it each event is one, as real engines send them.

The events look like llama.cpp's. Every answer to the same `model` is the same, byte for byte.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import sys
from typing import Any

# A token has four or five characters on average; some need escapes, some are not ASCII.
_PIECES = (
    " the", " model", " an", "swers", ",", " and", " every", " piece", " of", " it", " is", " one",
    " to", "ken", ".", "\n", " It", " says", ' "', "quoted", '"', " things", ";", " na", "ïve",
    " ones", " too", " →", " in", " several", " scripts", ":", " 日本", "語", " or", " Ελληνικά",
    ".\n\n", " Numbers", " like", " ", "3", "1", "4", " stay", " whole", " while", " words", " do",
    " not", "!", " Then", " there", " are", " longer", " ones", " such", " as", " inter", "opera",
    "bility", ",", " which", " come", " apart",
)  # fmt: skip

_BLOCK = 64 << 10


def pieces(count: int) -> list[str]:
    """The pieces of an answer."""
    return [_PIECES[index % len(_PIECES)] for index in range(count)]


def digest(text: str) -> str:
    """What programs compare in place of the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def settings(model: str) -> dict[str, str]:
    """What a model's name says."""
    return dict(setting.split("=", 1) for setting in model.split(","))


def expected(model: str) -> tuple[int, str]:
    """How many pieces the answer has, and the digest of its text."""
    count = int(settings(model)["chunks"])
    return count, digest("".join(pieces(count)))


def _event(data: object) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _chunk(model: str, choices: list[dict[str, Any]], **more: Any) -> bytes:
    return _event(
        {
            "choices": choices,
            "created": 1790000000,
            "id": "chatcmpl-3Tjkx9rYcP0Zq6vN8bSfLwEaUoMhKdGi",
            "model": model,
            "system_fingerprint": "b11549-0a1b2c3d",
            "object": "chat.completion.chunk",
            **more,
        }
    )


def _usage(count: int) -> dict[str, int]:
    return {"completion_tokens": count, "prompt_tokens": 9, "total_tokens": count + 9}


def _frame(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


class Answer:
    """The bytes of one answer, in parts: head, events, end."""

    def __init__(self, model: str, usage: bool) -> None:
        said = settings(model)
        count = int(said["chunks"])
        self.pace = float(said.get("pace", 0)) / 1000
        self.hold = int(said.get("hold", 0))
        events = []
        for index, piece in enumerate(pieces(count)):
            delta = {"content": piece} if index else {"role": "assistant", "content": piece}
            choice = {"finish_reason": None, "index": 0, "delta": delta}
            events.append(_chunk(model, [choice]))
        end = _chunk(model, [{"finish_reason": "stop", "index": 0, "delta": {}}])
        if usage:
            end += _chunk(model, [], usage=_usage(count))
        end += b"data: [DONE]\n\n"
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        if said.get("framing") == "block":
            body = b"".join(events) + end
            framed = [_frame(body[at : at + _BLOCK]) for at in range(0, len(body), _BLOCK)]
            self.parts = [b"".join([head, *framed, b"0\r\n\r\n"])]
        elif self.pace or self.hold:
            last = _frame(events[-1]) + _frame(end) + b"0\r\n\r\n"
            self.parts = [head + _frame(events[0]), *map(_frame, events[1:-1]), last]
        else:
            self.parts = [b"".join([head, *map(_frame, events), _frame(end), b"0\r\n\r\n"])]


@functools.cache
def _answer(model: str, usage: bool) -> Answer:
    return Answer(model, usage)


@functools.cache
def _completion(model: str) -> bytes:
    count = int(settings(model)["chunks"])
    message = {"role": "assistant", "content": "".join(pieces(count))}
    body = json.dumps(
        {
            "id": "chatcmpl-3Tjkx9rYcP0Zq6vN8bSfLwEaUoMhKdGi",
            "object": "chat.completion",
            "created": 1790000000,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": _usage(count),
        },
        ensure_ascii=False,
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Connection(asyncio.Protocol):
    """One connection, kept until its peer closes it or asks for that."""

    held: set[Connection] = set()  # noqa: RUF012 - of all connections

    def connection_made(self, transport: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_lost(self, _: Exception | None) -> None:
        self.held.discard(self)
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:])
        length = int(headers.get(b"content-length", 0))
        if len(rest) < length:
            return
        self._received = rest[length:]
        self._closing = headers.get(b"connection") == b"close"
        request = json.loads(rest[:length])
        if not request.get("stream"):
            self._transport.write(_completion(request["model"]))
            self._end()
            return
        options = request.get("stream_options") or {}
        self._answer = _answer(request["model"], bool(options.get("include_usage")))
        self._next = 0
        self._began = self._loop.time()
        self._send()

    def _send(self) -> None:
        answer = self._answer
        while True:
            self._transport.write(answer.parts[self._next])
            self._next += 1
            if self._next == len(answer.parts):
                self._end()
                return
            if answer.hold and self._next == len(answer.parts) // 2:
                self.held.add(self)
                if len(self.held) >= answer.hold:
                    for connection in self.held:
                        connection._began = self._loop.time() - self._next * answer.pace
                        connection._wait()
                    self.held.clear()
                return
            if answer.pace:
                self._wait()
                return

    def _wait(self) -> None:
        when = self._began + self._next * self._answer.pace
        self._timer = self._loop.call_at(when, self._send)

    def _end(self) -> None:
        self._timer = None
        if self._closing:
            self._transport.close()


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
