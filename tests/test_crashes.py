"""Servers that end in the middle of an answer, and come back: Postgres, a backend, the engine.

Each test has one client throughout. What it was reading raises, and the next call after the
restart works.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pytest
from conftest import COUNT, QUESTION, instance_home
from pgml import local

DEADLINE = 60_000  # milliseconds, for what takes one or two seconds
MODEL = local.DEFAULT_MODEL


class Instance:
    """An instance of these tests' own, which they may harm."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.url = self.start()

    def start(self) -> str:
        with instance_home(self._home):
            return local.start()

    def stop(self) -> bool:
        with instance_home(self._home):
            return local.stop()

    @property
    def status(self) -> local.Status:
        with instance_home(self._home):
            status = local.status()
        assert status is not None
        return status

    @property
    def postgres(self) -> int:
        assert self.status.postgres_pid is not None
        return self.status.postgres_pid

    @property
    def engine(self) -> int:
        assert self.status.models[0].pid is not None
        return self.status.models[0].pid

    def kill(self, pid: int) -> None:
        """Kill a process, and wait until it is gone, and all that ends with it."""
        ended = [os.pidfd_open(pid)]
        if pid in (self.postgres, self.engine):
            ended.append(os.pidfd_open(self.status.supervisor_pid))
        os.kill(pid, signal.SIGKILL)
        for descriptor in ended:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            assert poll.poll(DEADLINE)
            os.close(descriptor)


@pytest.fixture(scope="module")
def own() -> Iterator[Instance]:
    # Not under pytest's directories, which the account of root's Postgres cannot enter.
    path = Path(tempfile.mkdtemp(prefix="pgml-crashes-", dir="/tmp"))
    path.chmod(0o755)
    instance = Instance(path / "home")
    yield instance
    instance.stop()
    shutil.rmtree(path)


@pytest.fixture
def client(own: Instance, deadline: None) -> pgml.OpenSourceAI:
    return pgml.OpenSourceAI(own.url, max_retries=0)


def endless(client: pgml.OpenSourceAI, **options: Any) -> pgml.ChatCompletionStream:
    """A stream under way, with half a minute to go."""
    stream = client.chat_completions_create_stream(
        MODEL, COUNT, extra_body={"ignore_eos": True}, **options
    )
    next(stream)
    return stream


def say_hello(client: pgml.OpenSourceAI) -> None:
    completion = client.chat_completions_create(MODEL, QUESTION, max_tokens=1)
    assert completion.usage.completion_tokens == 1


def assert_breaks(stream: pgml.ChatCompletionStream, *sqlstates: str) -> None:
    with pytest.raises(pgml.APIConnectionError) as caught:
        list(stream)
    assert caught.value.sqlstate in sqlstates
    assert list(stream) == []


def test_postgres_is_restarted(own: Instance, client: pgml.OpenSourceAI) -> None:
    stream = endless(client)
    assert own.stop()
    assert_breaks(stream, "57P01")
    with pytest.raises(pgml.APIConnectionError, match="Is Postgres running") as caught:
        say_hello(client)
    assert caught.value.sqlstate == "08001"
    own.start()
    say_hello(client)
    # Between calls nobody need notice.
    assert own.stop()
    own.start()
    say_hello(client)


def test_postgres_is_killed(own: Instance, client: pgml.OpenSourceAI) -> None:
    stream = endless(client)
    own.kill(own.postgres)
    assert_breaks(stream, "08006", "57P01", "57P02")
    own.start()
    say_hello(client)


def test_a_backend_is_killed(own: Instance, client: pgml.OpenSourceAI) -> None:
    # Postgres ends all backends then, and takes nobody in until it has recovered.
    stream, other = endless(client), endless(client)
    with psycopg.connect(own.url) as connection:
        pids = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgml'"
        ).fetchall()
        assert len(pids) == 2
        own.kill(pids[0][0])
        for each in (stream, other):
            assert_breaks(each, "08006", "57P02")
    # A client with the default number of tries gets over it.
    say_hello(client.with_options(max_retries=2))
    say_hello(client)


def test_the_engine_is_killed(own: Instance, client: pgml.OpenSourceAI) -> None:
    stream = endless(client)
    own.kill(own.engine)
    # The local instance is stopped then, which the backend may learn of first.
    assert_breaks(stream, "08006", "57P01")
    own.start()
    say_hello(client)


def test_the_engine_hangs(own: Instance, client: pgml.OpenSourceAI) -> None:
    stream = endless(client, timeout=1)
    os.kill(own.engine, signal.SIGSTOP)
    try:
        with pytest.raises(pgml.APITimeoutError, match="nothing came for 1s"):
            list(stream)
    finally:
        os.kill(own.engine, signal.SIGCONT)
    say_hello(client)
