"""Timeouts: each with the default that the documentation says, and each kept.

Those for the silence of an engine or of the network, between tokens too, and the wait for a
connection are in test_retries.py, test_engine_errors.py, test_network.py and test_concurrency.py.
"""

from __future__ import annotations

import inspect
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pytest
from conftest import QUESTION, Call
from engine import HANG, Engine, answer, chunk, head

ROOT = Path(__file__).parent.parent


def test_defaults_of_the_client() -> None:
    names = ("timeout", "connect_timeout", "acquire_timeout")
    for cls in (pgml.OpenSourceAI, pgml.AsyncOpenSourceAI):
        parameters = inspect.signature(cls).parameters
        rows = re.findall(
            r"^\| `(\w*timeout)` \| `([\d.]+)` \|",
            (ROOT / "docs" / "configuration.md").read_text(),
            re.MULTILINE,
        )
        assert {name: float(value) for name, value in rows} == {
            name: parameters[name].default for name in names
        }


def test_defaults_of_a_server() -> None:
    # Ten seconds and ten minutes are too long to wait for: what the extension is built from says.
    source = (ROOT / "extension" / "src" / "options.rs").read_text()
    built = re.findall(r"(\w+_timeout): Duration::from_secs\((\d+)\)", source)
    rows = re.findall(
        r"^\| `(\w+_timeout)` \| .* \| (\d+) \|$",
        (ROOT / "docs" / "your-own-engine.md").read_text(),
        re.MULTILINE,
    )
    assert dict(rows) == dict(built)
    assert set(dict(built)) == {"connect_timeout", "read_timeout"}


# A peer that accepts, and says nothing; and one that does not even accept ----------------------


@pytest.fixture(params=["silent", "full"])
def nobody(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port where connecting gets nowhere."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port: int = server.getsockname()[1]
        if request.param == "silent":
            # The kernel accepts for a program that does not.
            server.listen(10)
            yield port
            return
        # Linux takes one more than its backlog, and then drops what comes.
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        yield port
        for each in waiting:
            each.close()


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
async def test_connecting_to_postgres(call: Call, nobody: int, sslmode: str) -> None:
    url = f"postgresql://app@127.0.0.1:{nobody}/pgml?sslmode={sslmode}"
    client = pgml.OpenSourceAI(url, connect_timeout=0.3, max_retries=0)
    with pytest.raises(pgml.APITimeoutError, match="did not answer within 300ms") as caught:
        await call.of(client).create("scripted", QUESTION)
    assert caught.value.sqlstate == "08001"


# An engine that has accepted is given read_timeout to answer: silence is for TLS only.
@pytest.mark.parametrize(
    ("nobody", "scheme"),
    [("full", "http"), ("full", "https"), ("silent", "https")],
    indirect=["nobody"],
)
async def test_connecting_to_an_engine(
    call: Call, engine: Engine, admin: psycopg.Connection[Any], nobody: int, scheme: str
) -> None:
    [(url,)] = admin.execute(
        "SELECT option_value FROM pg_foreign_server, pg_options_to_table(srvoptions) "
        "WHERE srvname = 'standin' AND option_name = 'base_url'"
    ).fetchall()
    admin.execute(
        f"ALTER SERVER standin OPTIONS (SET base_url '{scheme}://127.0.0.1:{nobody}/v1', "
        "ADD connect_timeout '0.3')"
    )
    with pytest.raises(pgml.APIConnectionError, match="did not answer within 300ms") as caught:
        await call.create("scripted", QUESTION)
    assert caught.value.sqlstate == "08001"
    assert "connect_timeout" in (caught.value.hint or "")
    admin.execute(f"ALTER SERVER standin OPTIONS (SET base_url '{url}')")
    engine.expect(answer("hello"))
    assert (await call.create("scripted", QUESTION)).choices[0].message.content == "hello"


async def test_silence_of_an_engine_between_tokens(
    call: Call, engine: Engine, admin: psycopg.Connection[Any]
) -> None:
    admin.execute("ALTER SERVER standin OPTIONS (ADD read_timeout '0.3')")
    exchange = engine.expect(head(), chunk("a"), HANG)
    stream = await call.stream("scripted", QUESTION)
    assert (await stream.next()).choices[0].delta.content == "a"
    with pytest.raises(pgml.APITimeoutError, match="sent nothing for 300ms") as caught:
        await stream.next()
    assert caught.value.sqlstate == "08000"
    exchange.wait_gone()
