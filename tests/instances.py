"""Local instances of a test's own, and looks at their processes."""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pgml import local

ROOT = os.geteuid() == 0
DEADLINE = 60_000  # milliseconds, for events that come within one or two seconds
START = "from pgml import local; print(local.start(), local.status().supervisor_pid)"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user can enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="pgml-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def fresh(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without an instance."""
    path = directory / "home"
    monkeypatch.setenv("PGML_HOME", str(path))
    yield path
    local.stop()


def query(sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(local.url(), autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


def running() -> local.Status:
    status = local.status()
    assert status is not None
    return status


def family(pid: int) -> list[int]:
    """A process and all that descends from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def wait_gone(watched: list[int]) -> None:
    """Wait until the processes behind these pidfds have ended."""
    for descriptor in watched:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(DEADLINE), "a process lives on"
        os.close(descriptor)


def run_as(user: str, argv: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    entry = pwd.getpwnam(user)
    # The shell is there for every user, so that a program out of reach is a status, not an error.
    return subprocess.run(
        ["/bin/sh", "-c", 'exec "$@"', "sh", *argv],
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        check=False,
    )
