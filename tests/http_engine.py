"""An engine behind Python's own HTTP server, which keeps connections open, and an HTTP proxy.

Both tell how many connections and requests they had. What they answer is scripted in engine.py.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from engine import PATIENCE, chunk, ending


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as uvicorn, and so vLLM, does
    server: HttpEngine

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections.append(self.connection)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), json.loads(body)))
        answer = b"".join([chunk("hello"), *ending()])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        # In HTTP's chunks: the end of the body comes after the event that ends the stream.
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(f"{len(answer):x}\r\n".encode() + answer + b"\r\n")
        self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


class HttpEngine(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.lock = threading.Lock()
        self.connections: list[socket.socket] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def close_connections(self) -> None:
        """As a server does with connections that have been idle for long."""
        with self.lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _ProxyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.requestline, dict(self.headers)))
        if self.server.refuses:
            self.send_error(407)
            return
        host, port = self.path.rsplit(":", 1)
        with socket.create_connection((host.strip("[]"), int(port)), PATIENCE) as engine:
            self.send_response(200)
            self.end_headers()
            sides = {self.connection: engine, engine: self.connection}
            while True:
                for side in select.select(list(sides), [], [])[0]:
                    data = side.recv(65536)
                    if not data:
                        self.close_connection = True
                        return
                    sides[side].sendall(data)

    def do_POST(self) -> None:
        self.server.asked.append((self.requestline, dict(self.headers)))
        target = urlsplit(self.path)
        assert target.hostname is not None
        assert target.port is not None
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with socket.create_connection((target.hostname, target.port), PATIENCE) as engine:
            lines = [f"POST {target.path} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in self.headers.items()]
            engine.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            while data := engine.recv(65536):
                self.wfile.write(data)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


class Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.refuses = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
