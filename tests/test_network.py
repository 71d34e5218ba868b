"""A network that fails: between the client and Postgres, and between a backend and its engine.

Whatever it does, an answer is whole or an error in its place, in bounded time; and as soon as the
network works again, so does the same client.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pgml
import psycopg
import pytest
from conftest import QUESTION, Call, text
from engine import HANG, Engine, answer, chunk, head
from pgml import local
from proxy import Proxy

WORDS = ["naïve ", "日本 ", "🚁 ", "end"]
WHOLE = "".join(WORDS)
SILENCE = 0.4  # seconds after which a test gives up a silent network


@dataclass
class Network:
    """A proxy, and a client whose completions go through it."""

    proxy: Proxy
    call: Call
    url: str

    def anew(self, **options: Any) -> Network:
        """The same for another client."""
        client = pgml.OpenSourceAI(self.url, **{"max_retries": 0, **options})
        return Network(self.proxy, self.call.of(client), self.url)

    async def ask(self, **options: Any) -> str:
        """The text of a stream."""
        return text(await (await self.call.stream("scripted", QUESTION, **options)).rest())


@pytest.fixture
def to_postgres(call: Call, instance: local.Status) -> Iterator[Network]:
    """The network between client and Postgres."""
    proxy = Proxy(str(instance.home / "run" / ".s.PGSQL.5432"))
    url = f"postgresql://postgres@127.0.0.1:{proxy.start()}/pgml"
    yield Network(proxy, call, url).anew(connect_timeout=SILENCE)
    proxy.stop()


@pytest.fixture
def to_engine(
    call: Call, engine: Engine, admin: psycopg.Connection[Any], database_url: str
) -> Iterator[Network]:
    """The network between backend and engine."""
    [(url,)] = admin.execute(
        "SELECT option_value FROM pg_foreign_server, pg_options_to_table(srvoptions) "
        "WHERE srvname = 'standin' AND option_name = 'base_url'"
    ).fetchall()
    proxy = Proxy(("127.0.0.1", int(url.rpartition(":")[2].removesuffix("/v1"))))
    admin.execute(
        f"ALTER SERVER standin OPTIONS (SET base_url 'http://127.0.0.1:{proxy.start()}/v1', "
        f"ADD connect_timeout '{SILENCE}', ADD read_timeout '{SILENCE}')"
    )
    yield Network(proxy, call, database_url)
    proxy.stop()


@pytest.fixture(params=["postgres", "engine"])
def network(request: pytest.FixtureRequest, call: Call) -> Network:
    # `call` is named so that pytest knows its faces before it comes to the fixtures that need it.
    return request.getfixturevalue(f"to_{request.param}")


# What breaks -----------------------------------------------------------------------------------


async def test_a_network_that_trickles(network: Network, engine: Engine) -> None:
    network.proxy.trickle()
    engine.expect(answer(*WORDS))
    assert await network.ask() == WHOLE


async def test_a_reset_half_way(network: Network, engine: Engine) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    stream = await network.call.stream("scripted", QUESTION)
    assert (await stream.next()).choices[0].delta.content == "a"
    network.proxy.reset()
    with pytest.raises(pgml.APIConnectionError) as caught:
        await stream.next()
    assert caught.value.sqlstate == "08006"
    assert await stream.rest() == []
    exchange.wait_gone()
    engine.expect(answer(*WORDS))
    assert await network.ask() == WHOLE


async def test_a_reset_between_calls_is_not_noticed(network: Network, engine: Engine) -> None:
    for _ in range(2):
        engine.expect(answer(*WORDS))
        assert await network.ask() == WHOLE
        network.proxy.reset()


async def test_a_network_that_stalls_half_way(network: Network, engine: Engine) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    stream = await network.call.stream("scripted", QUESTION, timeout=2 * SILENCE)
    assert (await stream.next()).choices[0].delta.content == "a"
    network.proxy.stall()
    with pytest.raises(pgml.APITimeoutError, match="timeout"):
        await stream.next()
    assert await stream.rest() == []
    network.proxy.resume()
    exchange.wait_gone()
    engine.expect(answer(*WORDS))
    assert await network.ask() == WHOLE


# The client's first question to a database, and what it sends for a completion.
STATEMENTS = {
    "dialect": ("push", b"has_schema_privilege"),
    "completion": ("push", b"chat_completion_stream"),
    "begin": ("cursor", b"BEGIN"),
    "declare": ("cursor", b"DECLARE"),
    "fetch": ("cursor", b"FETCH"),
    "commit": ("cursor", b"COMMIT"),
}


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_a_network_that_stalls_at_a_statement(
    to_postgres: Network, engine: Engine, statement: str
) -> None:
    streaming, words = STATEMENTS[statement]
    network = to_postgres.anew(streaming=streaming)
    if statement == "commit":
        engine.expect(answer(*WORDS))
    network.proxy.stall_at(words)
    with pytest.raises(pgml.APITimeoutError, match="timeout"):
        await network.ask(timeout=SILENCE)
    # Nothing of what was held back gets through any more.
    network.proxy.reset()
    network.proxy.resume()
    engine.expect(answer(*WORDS))
    assert await network.ask() == WHOLE


async def test_a_network_that_stalls_from_the_start(to_postgres: Network, engine: Engine) -> None:
    to_postgres.proxy.stall()
    with pytest.raises(pgml.APITimeoutError, match="did not answer within 400ms") as caught:
        await to_postgres.ask()
    assert caught.value.sqlstate == "08001"
    to_postgres.proxy.resume()
    engine.expect(answer(*WORDS))
    assert await to_postgres.ask() == WHOLE


async def test_an_engine_behind_a_network_that_stalls(to_engine: Network, engine: Engine) -> None:
    # It accepts, and that is all: to the backend an engine that does not answer.
    to_engine.proxy.stall()
    with pytest.raises(pgml.APITimeoutError, match="sent nothing for 400ms") as caught:
        await to_engine.ask()
    assert caught.value.sqlstate == "08000"
    to_engine.proxy.reset()
    to_engine.proxy.resume()
    engine.expect(answer(*WORDS))
    assert await to_engine.ask() == WHOLE


async def test_a_cut_after_any_byte(network: Network, engine: Engine, soak: bool) -> None:
    engine.always(answer(*WORDS))
    assert await network.anew().ask() == WHOLE
    length = network.proxy.passed
    broken = 0
    # From the first byte of the connection on, hence a new client each time.
    for count in range(0, length, 1 if soak else 11):
        one = network.anew()
        network.proxy.cut_after(count)
        try:
            assert await one.ask() == WHOLE
        except pgml.APIConnectionError as error:
            assert (error.sqlstate or "").startswith("08"), error  # noqa: PT017 (some get through)
            broken += 1
        network.proxy.cut_after(None)
        assert await one.ask() == WHOLE
    assert broken > length // (2 if soak else 22)
