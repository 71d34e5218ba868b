"""Streams and connections over a fork: they are the parent's, and a child leaves them alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import Backends, environment
from engine import PATIENCE, Engine, Exchange, answer, chunk, ending, head

FORK = """\
import os, sys
import pgml

client = pgml.OpenSourceAI(sys.argv[1], max_retries=0)
messages = [{"role": "user", "content": "hi"}]
stream = client.chat_completions_create_stream("scripted", messages)
child = os.fork()
if child == 0:
    # Ends when its input does, having told that it is there.
    os.write(1, b"child\\n")
    os.read(0, 1)
    os._exit(0)
"""

PARENT = {"closes": "stream.close()", "drops": "del stream"}


@pytest.mark.parametrize("way", PARENT)
def test_a_parent_leaves_a_stream_while_its_child_lives(
    engine: Engine, database_url: str, endless: Exchange, backends: Backends, way: str
) -> None:
    # The child has the same socket: that it is closed in the parent is not enough.
    program = f"{FORK}{PARENT[way]}\nos.waitpid(child, 0)\n"
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, database_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"child\n"
        endless.wait_gone()
        backends.wait()
        assert process.poll() is None
        process.communicate(b"", timeout=PATIENCE)
        assert process.returncode == 0


CHILD_READS = """\
import os, sys
import pgml

client = pgml.OpenSourceAI(sys.argv[1], max_retries=0)
messages = [{"role": "user", "content": "hi"}]
stream = client.chat_completions_create_stream("scripted", messages)
next(stream)
if os.fork() == 0:
    try:
        next(stream)
    except pgml.APIConnectionError as error:
        print(error.message.splitlines()[0], flush=True)
    # An orderly end, with all that it inherited.
    sys.exit()
assert os.wait()[1] == 0
print(next(stream).choices[0].delta.content)
"""


def test_a_child_reads_its_parents_stream(engine: Engine, database_url: str) -> None:
    gate = engine.gate()
    engine.expect(head(), chunk("a"), gate, chunk("b"), ending())
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD_READS, database_url],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert "another process" in process.stdout.readline()
        gate.open()
        assert process.stdout.read() == "b\n"
    assert process.returncode == 0


FORK_OFTEN = """\
import os, sys
import pgml

client = pgml.OpenSourceAI(sys.argv[1], max_retries=0)
messages = [{"role": "user", "content": "hi"}]
for _ in range(int(sys.argv[2])):
    # Rows are coming in, on another thread, at the moment of the fork.
    stream = client.chat_completions_create_stream("scripted", messages)
    child = os.fork()
    if child == 0:
        del stream
        sys.exit()
    assert len(list(stream)) == 101
    assert os.waitpid(child, 0)[1] == 0
"""


def test_forks_while_rows_come(engine: Engine, database_url: str, soak: bool) -> None:
    count = 500 if soak else 30
    for _ in range(count):
        engine.expect(answer(*["x"] * 100))
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK_OFTEN, database_url, str(count)],
        timeout=PATIENCE,
        env=environment(),
        check=True,
    )


CHILD_ENDS = """\
import os, sys
import pgml

client = pgml.OpenSourceAI(sys.argv[1], max_retries=0)
messages = [{"role": "user", "content": "hi"}]
client.chat_completions_create("scripted", messages)
if os.fork() == 0:
    sys.exit()
assert os.wait()[1] == 0
client.chat_completions_create("scripted", messages)
"""


def test_a_child_ends_with_its_parents_connections(engine: Engine, database_url: str) -> None:
    for _ in range(2):
        engine.expect(answer("hello"))
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD_ENDS, database_url],
        timeout=PATIENCE,
        env=environment(),
        check=True,
    )
