"""What a request uses of a GPU. In its place: a library with NVML's interface: nvml.c."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import server as servers
from engine import chunk, ending, head

SOURCE = Path(__file__).parent / "fixtures" / "nvml.c"
REQUEST = json.dumps(
    {"model": "m", "resources": True, "messages": [{"role": "user", "content": "hi"}]}
)
ASK = "SELECT pgml.chat_completion(%s::json) #> '{usage,resources}'"


class Handler(socketserver.StreamRequestHandler):
    """An engine on a Unix socket: its process is known by the socket."""

    def handle(self) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.request.recv(65536)
        self.wfile.write(b"".join([head(), chunk("hello"), *ending()]))  # type: ignore[list-item]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:
    """A server that finds the library, and an engine that is this process."""
    made = servers.Server()
    library = made.path / "lib" / "libnvidia-ml.so.1"
    library.parent.mkdir()
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    pid_file = made.path / "pid"
    pid_file.write_text(str(os.getpid()))
    for path in (library.parent, library, pid_file):
        path.chmod(0o755)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    monkeypatch.setenv("NVML_PID_FILE", str(pid_file))
    path = made.path / "engine.sock"
    engine = socketserver.ThreadingUnixStreamServer(str(path), Handler)
    path.chmod(0o777)
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    made.start()
    with made.connect("postgres") as connection:
        connection.execute(
            "CREATE EXTENSION pgml;"
            "CREATE SERVER gpu FOREIGN DATA WRAPPER pgml OPTIONS"
            f" (base_url 'http://localhost/v1', unix_socket '{path}');"
            "INSERT INTO pgml.models VALUES ('m', 'gpu', 'm')"
        )
        yield connection
    engine.shutdown()
    engine.server_close()
    made.remove()


def test_busy_time_and_energy_of_the_engines_gpu(database: psycopg.Connection[Any]) -> None:
    for _ in range(2):
        row = database.execute(ASK, (REQUEST,)).fetchone()
        assert row is not None
        resources = row[0]
        assert resources["energy_j"] == 2.0
        assert 0 < resources["gpu_ms"] <= resources["total_ms"]
        assert resources["basis"] == "measured"


def test_a_gpu_that_others_use_too_has_no_energy_of_one(
    database: psycopg.Connection[Any],
) -> None:
    pid_file = Path(os.environ["NVML_PID_FILE"])
    pid_file.write_text("1")  # init's: another process than the engine's
    row = database.execute(ASK, (REQUEST,)).fetchone()
    assert row is not None
    assert (row[0]["gpu_ms"], row[0]["energy_j"]) == (None, None)
    assert row[0]["engine_cpu_ms"] is not None
