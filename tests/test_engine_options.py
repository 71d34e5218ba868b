"""The options of an engine's foreign server: what it is asked, how, and over which connection."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trustme
from conftest import Call
from engine import Engine, answer
from http_engine import HttpEngine, Proxy, running
from psycopg import sql

QUESTION = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
ASK = "SELECT pgml.chat_completion(%s::json) #>> '{choices,0,message,content}'"


class World:
    """A database session, and a server `tested` for the model `m` that is gone afterwards."""

    def __init__(self, session: psycopg.Connection[Any]) -> None:
        self.session = session

    def serve(self, base_url: str, **options: str) -> None:
        named = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in {"base_url": base_url, **options}.items()
        )
        create = "CREATE SERVER tested FOREIGN DATA WRAPPER pgml OPTIONS ({})"
        self.session.execute(sql.SQL(create).format(named))
        self.session.execute("INSERT INTO pgml.models VALUES ('m', 'tested', 'em')")

    def map_user(self, **options: str) -> None:
        named = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in options.items()
        )
        create = "CREATE USER MAPPING FOR PUBLIC SERVER tested OPTIONS ({})"
        self.session.execute(sql.SQL(create).format(named))

    def ask(self) -> str:
        row = self.session.execute(ASK, (QUESTION,)).fetchone()
        assert row is not None
        return str(row[0])


@pytest.fixture
def world(database_url: str, deadline: None) -> Iterator[World]:
    with psycopg.connect(database_url, autocommit=True) as session:
        yield World(session)
        session.execute("DELETE FROM pgml.models WHERE name = 'm'")
        session.execute("DROP SERVER IF EXISTS tested CASCADE")


@pytest.fixture
def plain() -> Iterator[HttpEngine]:
    engine = HttpEngine()
    with running(engine):
        yield engine


@pytest.fixture
def secure(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[HttpEngine]:
    """Over TLS, with a certificate that the database's account can read."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    engine = HttpEngine(context)
    row = world.session.execute("SHOW data_directory").fetchone()
    assert row is not None
    root = Path(row[0]) / "engine-ca.pem"
    root.write_bytes(authority.cert_pem.bytes())
    root.chmod(0o644)
    engine.root = str(root)  # type: ignore[attr-defined]
    with running(engine):
        yield engine
    root.unlink()


def test_azure(world: World, plain: HttpEngine) -> None:
    world.serve(
        f"http://127.0.0.1:{plain.port}/openai/deployments/d?tenant=1",
        api_version="2024-10-21",
        api_key_header="api-key",
    )
    world.map_user(api_key="secret")
    assert world.ask() == "hello"
    ((path, headers, _),) = plain.requests
    assert path == "/openai/deployments/d/chat/completions?tenant=1&api-version=2024-10-21"
    assert headers["api-key"] == "secret"
    assert "Authorization" not in {name.title() for name in headers}


def test_headers(world: World, plain: HttpEngine) -> None:
    world.serve(
        f"http://127.0.0.1:{plain.port}/v1",
        headers='{"HTTP-Referer": "me", "X-Title": "app"}',
    )
    assert world.ask() == "hello"
    ((_, headers, _),) = plain.requests
    assert {name.lower(): value for name, value in headers.items()}.items() >= {
        "http-referer": "me",
        "x-title": "app",
    }.items()


@pytest.mark.parametrize("kept", [True, False])
def test_a_connection_is_kept_where_that_is_asked_for(
    world: World, plain: HttpEngine, kept: bool
) -> None:
    options = {"keepalive": "60"} if kept else {}
    world.serve(f"http://127.0.0.1:{plain.port}/v1", **options)
    for _ in range(5):
        assert world.ask() == "hello"
    assert len(plain.requests) == 5
    assert len(plain.connections) == (1 if kept else 5)


def test_a_connection_over_tls_is_kept(world: World, secure: Any) -> None:
    world.serve(f"https://localhost:{secure.port}/v1", sslrootcert=secure.root)
    for _ in range(5):
        assert world.ask() == "hello"
    assert len(secure.connections) == 1


def test_a_kept_connection_that_the_engine_has_closed_is_replaced(
    world: World, secure: Any
) -> None:
    world.serve(f"https://127.0.0.1:{secure.port}/v1", sslrootcert=secure.root)
    for asked in range(1, 4):
        assert world.ask() == "hello"
        assert len(secure.connections) == asked
        secure.close_connections()


@pytest.mark.parametrize(
    "statement",
    [
        "DISCARD ALL",
        "ALTER SERVER tested OPTIONS (ADD read_timeout '5')",
        "CREATE USER MAPPING FOR PUBLIC SERVER tested OPTIONS (api_key 'other')",
        "ALTER SERVER tested OPTIONS (SET keepalive '0')",
    ],
)
def test_what_ends_a_kept_connection(world: World, plain: HttpEngine, statement: str) -> None:
    world.serve(f"http://127.0.0.1:{plain.port}/v1", keepalive="60")
    for _ in range(2):
        assert world.ask() == "hello"
    assert len(plain.connections) == 1
    world.session.execute(statement)
    assert world.ask() == "hello"
    assert len(plain.connections) == 2


def test_the_idle_limit_ends_a_kept_connection(world: World, plain: HttpEngine) -> None:
    # Shorter than the way back to the database.
    world.serve(f"http://127.0.0.1:{plain.port}/v1", keepalive="0.000001")
    for _ in range(2):
        assert world.ask() == "hello"
    assert len(plain.connections) == 2


def test_a_proxy_forwards_requests_without_tls(world: World, plain: HttpEngine) -> None:
    proxy = Proxy()
    with running(proxy):
        world.serve(f"http://127.0.0.1:{plain.port}/v1", proxy=proxy.url)
        world.map_user(proxy_user="me", proxy_password="secret")
        assert world.ask() == "hello"
    ((line, headers),) = proxy.asked
    assert line == f"POST http://127.0.0.1:{plain.port}/v1/chat/completions HTTP/1.1"
    credentials = {name.lower(): value for name, value in headers.items()}["proxy-authorization"]
    assert credentials == "Basic " + base64.b64encode(b"me:secret").decode()


def test_a_proxy_is_a_tunnel_for_tls(world: World, secure: Any) -> None:
    proxy = Proxy()
    with running(proxy):
        world.serve(f"https://localhost:{secure.port}/v1", sslrootcert=secure.root, proxy=proxy.url)
        world.map_user(api_key="of the engine", proxy_user="me")
        assert world.ask() == "hello"
        ((line, headers),) = proxy.asked
        assert line == f"CONNECT localhost:{secure.port} HTTP/1.1"
        assert "of the engine" not in str(headers)
        ((_, asked, _),) = secure.requests
        assert "Proxy-Authorization" not in {name.title() for name in asked}
        world.session.execute("DISCARD ALL")
        proxy.refuses = True
        with pytest.raises(psycopg.errors.SqlclientUnableToEstablishSqlconnection, match="407"):
            world.ask()


def test_a_silent_address_leaves_time_for_the_next(world: World, secure: Any) -> None:
    # `localhost` is ::1 and 127.0.0.1. At the first, something accepts on the same port, silently.
    with socket.socket(socket.AF_INET6) as silent:
        try:
            silent.bind(("::1", secure.port))
        except OSError as error:
            pytest.skip(f"this machine has no IPv6: {error}")
        silent.listen()
        world.serve(
            f"https://localhost:{secure.port}/v1", sslrootcert=secure.root, connect_timeout="2"
        )
        assert world.ask() == "hello"


def test_a_host_that_does_not_exist(world: World) -> None:
    world.serve("http://engine.invalid/v1")
    with pytest.raises(psycopg.errors.SqlclientUnableToEstablishSqlconnection, match="tested"):
        world.ask()


async def test_the_temperature_of_calls_that_have_none(
    call: Call, engine: Engine, admin: psycopg.Connection[Any]
) -> None:
    hi = [{"role": "user", "content": "hi"}]
    admin.execute("ALTER SERVER standin OPTIONS (ADD default_temperature 'none')")
    exchange = engine.expect(answer("hello"))
    await call.create("scripted", hi)
    assert "temperature" not in exchange.body
    exchange = engine.expect(answer("hello"))
    await call.create("scripted", hi, temperature=0.8)
    assert exchange.body["temperature"] == 0.8
    admin.execute("ALTER SERVER standin OPTIONS (SET default_temperature '0.2')")
    for given, expected in (({}, 0.2), ({"temperature": None}, None)):
        exchange = engine.expect(answer("hello"))
        await call.create("scripted", hi, **given)
        assert exchange.body.get("temperature") == expected
