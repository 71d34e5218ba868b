"""The client's side of the supervisor: find it, start it, talk to it.

A request is one line of JSON, and so is each line of the answer: first a greeting, then any number
of `{"progress": text}`, then `{"ok": …}` or `{"error": text}`.
"""

from __future__ import annotations

import json
import os
import site
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from .errors import LocalInstanceError
from .home import Home
from .log import Log
from .models import Model, Progress

_PATIENCE = 20.0
_UCRED = struct.Struct("3i")


class RefusalError(LocalInstanceError):
    """The supervisor's own words about what went wrong."""


def peer(connection: socket.socket) -> tuple[int, int]:
    """The process id and the user id at the other end of a Unix socket."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(raw)
    return pid, uid


def request(
    home: Home, command: str, progress: Progress, **arguments: str
) -> dict[str, Any] | None:
    """Ask the supervisor of `home`.

    Args:
        home: whose supervisor.
        command: `start`, `status`, `stop` or `add`.
        progress: receives the lines that come before the answer.
        arguments: what the command needs.

    Returns:
        The answer, or None if no supervisor runs, or it ended before it answered.

    Raises:
        RefusalError: it answered with an error.
        LocalInstanceError: it does not answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(str(home.control))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise LocalInstanceError(
                f"cannot reach the local instance at {home.control}: {error.strerror or error}"
            ) from error
        pid, _ = peer(connection)
        try:
            connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                lines.readline()
                # It lives; how long the work takes depends on the model's size.
                connection.settimeout(None)
                for line in lines:
                    if not line.endswith(b"\n"):
                        return None  # it died over it
                    answer = json.loads(line)
                    if "progress" in answer:
                        progress(answer["progress"])
                    elif "error" in answer:
                        raise RefusalError(answer["error"])
                    else:
                        if command == "stop":
                            # Its end closes the connection.
                            lines.read()
                        return dict(answer["ok"])
        except TimeoutError as error:
            raise LocalInstanceError(
                f"the supervisor of the local instance (process {pid}) does not answer: "
                f"`kill -9 {pid}` ends it and all that it started"
            ) from error
        except ConnectionError:
            return None
    return None


def launch(home: Home, model: Model) -> bool:
    """Start a supervisor.

    Args:
        home: the home to serve, prepared.
        model: the model that it serves at least.

    Returns:
        False if another one has the home; True otherwise, usually because it takes requests by
        now, but it may have died, too: the next request tells.

    Raises:
        LocalInstanceError: Python cannot be started.
    """
    log = Log(home.log / "supervisor.log")
    read_end, write_end = os.pipe()
    argv = [_python(), "-m", "pgml.local.supervisor"]
    argv += ["--home", str(home.path), "--sockets", str(home.sockets)]
    argv += ["--announce", str(write_end)]
    argv += ["--name", model.name, "--path", str(model.path), "--source", model.source]
    try:
        with log.open() as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[write_end],
                # Neither a Ctrl-C nor a closed terminal reaches it, and it holds no directory.
                start_new_session=True,
                cwd="/",
                env=_environment(),
            )
    except OSError as error:
        os.close(read_end)
        raise LocalInstanceError(f"cannot start {argv[0]}: {error.strerror or error}") from error
    finally:
        os.close(write_end)
    with os.fdopen(read_end, "rb") as announcement:
        said = announcement.read()
    # It has forked its real self off by now.
    process.wait()
    return said != b"busy"


def _python() -> str:
    """The interpreter; a program that embeds Python may be `sys.executable` instead."""
    if sys.executable and Path(sys.executable).name.startswith("python"):
        return sys.executable
    return str(Path(sys.prefix) / "bin" / "python3")


def _environment() -> dict[str, str]:
    """This environment, in which the package is found from any directory."""
    root = Path(__file__).parents[2]
    given = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(":") if path]
    installed = [*site.getsitepackages(), site.getusersitepackages()]
    if str(root) not in [*given, *installed]:
        given.append(str(root))
    return {**os.environ, "PYTHONPATH": ":".join(given)}
