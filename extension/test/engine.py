"""An engine that always says the same: the other end of the SQL surface's regression tests.

It speaks OpenAI's protocol, over TCP and over a Unix socket. A request's `model` decides what it
does, see `_MODELS`. Run as `engine.py DIRECTORY`, it writes its port to DIRECTORY/port and listens
on DIRECTORY/engine.sock too; it ends when it is terminated.
"""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Meter:
    """Counts requests, for the model `meter`, which tells the count and starts it anew."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._connections = self._requests = self._abandoned = 0

    def connection(self, change: int) -> None:
        with self._changed:
            self._connections += change
            self._changed.notify_all()

    def request(self) -> None:
        with self._changed:
            self._requests += 1

    def abandoned(self) -> None:
        with self._changed:
            self._abandoned += 1

    def read(self) -> str:
        """Waits until no other connection is open: none may be left over by its caller."""
        with self._changed:
            ended = self._changed.wait_for(lambda: self._connections == 1, timeout=10)
            text = f"requests: {self._requests}, abandoned: {self._abandoned}"
            self._requests = self._abandoned = 0
            return text if ended else f"{text}, still running: {self._connections - 1}"


METER = Meter()


class DeathError(Exception):
    """The engine dies here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "engine"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        if self.path == "/props":  # llama.cpp's
            self.answer(200, {"bos_token": "<s>", "eos_token": "</s>"})
        else:
            self.answer(404, {"error": {"message": "no such path"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":  # llama.cpp's: this engine begins every text with <s>
            self.answer(200, {"tokens": [1] if body["add_special"] else []})
            return
        if body["model"] == "meter":
            self.stream(body, spoken(METER.read()))
            return
        METER.request()
        try:
            self.reply(body)
        except DeathError:
            pass
        except OSError:
            METER.abandoned()
        self.close_connection = True

    def reply(self, body: Json) -> None:
        model = body["model"]
        if model.startswith("error-"):
            status = int(model.removeprefix("error-"))
            reason = f"your key is {self.headers['Authorization']}" if status == 401 else "because"
            error = {"message": reason, "param": "seed" if status == 400 else None}
            self.answer(status, {"error": error}, {"Retry-After": "7"} if status == 429 else {})
        elif model == "redirect":
            self.answer(307, {}, {"Location": self.path})
        elif model == "page":
            self.answer(200, "<html>", content_type="text/html")
        elif model in _MODELS:
            self.stream(body, _MODELS[model](body, self))
        else:
            self.answer(404, {"error": {"message": f"no model {model}", "param": "model"}})

    def answer(
        self,
        status: int,
        content: object,
        headers: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": content_type, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, body: Json, events: Iterator[Json | str]) -> None:
        assert body["stream"] is True, "an engine that does not stream does not stop"
        # All count tokens, unless they are told not to.
        assert body.get("stream_options", {"include_usage": True}) == {"include_usage": True}
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            if isinstance(event, dict):
                event = f"data: {json.dumps(shaped(event, body), ensure_ascii=False)}\n\n"
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        data = b"data: [DONE]\n\n"
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))


def shaped(event: Json, body: Json) -> Json:
    """A chunk for `choices` or `usage`; a text completion has its own form of a choice."""
    chunk = {"id": "1", "created": 1, "model": "/a/path", "system_fingerprint": "b1", **event}
    if "prompt" in body:
        for choice in chunk.get("choices", []):
            choice["text"] = choice.pop("delta").get("content", "")
    return chunk


def piece(finish: str | None = None, **delta: object) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def counted(prompt: int, completion: int) -> Json:
    return {
        "choices": [],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        },
    }


def spoken(text: str, prompt_tokens: int = 10) -> Iterator[Json]:
    """A text, word by word; a word is a token."""
    words = [word + " " for word in text.split(" ")]
    words[-1] = words[-1][:-1]
    yield piece(role="assistant", content=None)
    for word in words:
        yield piece(content=word)
    yield piece(finish="stop")
    yield counted(prompt_tokens, len(words))


def said(body: Json) -> str:
    """What is to be repeated: the last message, or the prompt."""
    return str(body["prompt"] if "prompt" in body else body["messages"][-1]["content"])


def shown_request(body: Json, _: Handler) -> Iterator[Json]:
    """The request as it came, but for the members that every request has."""
    constant = ("model", "stream", "stream_options")
    shown = {name: value for name, value in body.items() if name not in constant}
    return spoken(json.dumps(shown, sort_keys=True, ensure_ascii=False))


def dying(body: Json, _: Handler) -> Iterator[Json]:
    yield piece(content="half ")
    yield piece(content="an ")
    raise DeathError


def unfinished(body: Json, _: Handler) -> Iterator[Json]:
    yield piece(content="no end")
    yield counted(1, 1)


def nonsense(body: Json, _: Handler) -> Iterator[Json | str]:
    yield piece(content="so far ")
    yield 'data: {"choices": [{"delta": \n\n'


def failing(body: Json, _: Handler) -> Iterator[Json]:
    yield piece(content="so far ")
    yield {"error": {"code": 503, "message": "out of memory"}}


def untidy(body: Json, _: Handler) -> Iterator[Json | str]:
    """What some engines do: a role everywhere, nulls, comments, other line ends, no fingerprint."""
    yield ": a comment\n\n"
    for word in ("un", "ti", "dy"):
        yield piece(role="assistant", content=word, tool_calls=None, refusal=None)
    chunk = json.dumps(piece(finish="length", role="assistant", content=""))
    yield f"event: chunk\r\nid: 7\r\ndata:{chunk}\r\n\r\n"


def reasoning(body: Json, _: Handler) -> Iterator[Json]:
    yield piece(role="assistant", reasoning_content="Let me ")
    yield piece(reasoning_content="think.")
    yield piece(content="4")
    yield piece(finish="stop")
    yield counted(5, 3)


def calling(body: Json, _: Handler) -> Iterator[Json]:
    """Two tool calls, their arguments in pieces."""
    for index, city in enumerate(("Oslo", "Rome")):
        function = {"name": "weather", "arguments": '{"city":'}
        call = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
        yield piece(tool_calls=[call])
        yield piece(tool_calls=[{"index": index, "function": {"arguments": f'"{city}"}}'}}])
    yield piece(finish="tool_calls")
    yield counted(20, 8)


def probable(body: Json, _: Handler) -> Iterator[Json]:
    for word in ("a", "b"):
        chunk = piece(content=word)
        chunk["choices"][0]["logprobs"] = {"content": [{"token": word, "logprob": -0.5}]}
        yield chunk
    yield piece(finish="stop")
    yield counted(1, 2)


def endless(body: Json, _: Handler) -> Iterator[Json]:
    number = 0
    while True:
        number += 1
        yield piece(content=f"{number} ")
        time.sleep(0.002)


def silent(body: Json, handler: Handler) -> Iterator[Json]:
    handler.connection.recv(1)  # until the other side closes
    raise BrokenPipeError
    yield {}


_MODELS: dict[str, Callable[[Json, Handler], Iterator[Json | str]]] = {
    "echo": lambda body, _: spoken(said(body)),
    "request": shown_request,
    "format": lambda body, _: spoken(json.dumps(body["response_format"])),
    "path": lambda body, handler: spoken(handler.path),
    "key": lambda body, handler: spoken(str(handler.headers["Authorization"])),
    "dying": dying,
    "unfinished": unfinished,
    "nonsense": nonsense,
    "failing": failing,
    "untidy": untidy,
    "reasoning": reasoning,
    "calling": calling,
    "probable": probable,
    "endless": endless,
    "silent": silent,
}


class Server(socketserver.ThreadingMixIn):
    daemon_threads = True
    request_queue_size = 256

    # A connection counts from the moment when it is accepted, so that the meter sees all those
    # that were made before its own.
    def process_request(self, request: Any, client_address: Any) -> None:
        METER.connection(+1)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            METER.connection(-1)


class UnixServer(Server, socketserver.UnixStreamServer):
    pass


class TcpServer(Server, socketserver.TCPServer):
    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address


def main() -> None:
    directory = Path(sys.argv[1])
    by_path = UnixServer(str(directory / "engine.sock"), Handler)
    threading.Thread(target=by_path.serve_forever, daemon=True).start()
    by_port = TcpServer(("127.0.0.1", 0), Handler)
    draft = directory / "port.new"
    draft.write_text(str(by_port.server_address[1]))
    draft.rename(directory / "port")
    by_port.serve_forever()


if __name__ == "__main__":
    main()
