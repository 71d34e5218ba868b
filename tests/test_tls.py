"""TLS, to Postgres and to an engine, with a certificate authority made for the test."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pytest
import trustme
from conftest import QUESTION
from engine import HANG, Engine, answer
from pooler import PgBouncer, newest
from server import Server

PASSWORD = "hunter2"
RULES = b"""\
hostssl all certified 127.0.0.1/32 cert
hostssl all app 127.0.0.1/32 scram-sha-256
host pgbouncer postgres 127.0.0.1/32 trust
"""
LAST_YEAR = datetime(2025, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority: trustme.CA, own_server: Server) -> Path:
    return own_server.file("ca.pem", authority.cert_pem.bytes())


@pytest.fixture(scope="module")
def stranger(own_server: Server) -> Path:
    """An authority that has issued nothing here."""
    return own_server.file("stranger.pem", trustme.CA().cert_pem.bytes())


@pytest.fixture(scope="module")
def postgres(own_server: Server) -> Server:
    """A Postgres with the roles that log in here."""
    with own_server.connect() as connection:
        connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE ROLE certified LOGIN")
    return own_server


def secured(
    postgres: Server, authority: trustme.CA, certificate: trustme.LeafCert
) -> contextlib.AbstractContextManager[PgBouncer]:
    """That Postgres behind TLS. The embedded server is built without, so PgBouncer does it."""
    names = {"client_tls_cert_file": "cert.pem", "client_tls_key_file": "cert.key"}
    names["client_tls_ca_file"] = "ca.pem"
    pooler = PgBouncer(
        newest(), postgres.admin_url, client_tls_sslmode="allow", auth_type="hba",
        auth_hba_file="hba", **names,
    )  # fmt: skip
    pooler.file("cert.pem", b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    pooler.file("cert.key", certificate.private_key_pem.bytes())
    pooler.file("ca.pem", authority.cert_pem.bytes())
    pooler.file("hba", RULES)
    pooler.file("users", f'"app" "{PASSWORD}"\n"certified" ""\n"postgres" ""\n'.encode())
    return pooler


@pytest.fixture(scope="module")
def tls(postgres: Server, authority: trustme.CA) -> Iterator[PgBouncer]:
    """TLS with a certificate for `localhost`."""
    with secured(postgres, authority, authority.issue_cert("localhost")) as pooler:
        yield pooler


@pytest.fixture
def ask(deadline: None) -> Callable[..., Any]:
    """What a client at a URL finds out about a model that there is not."""

    def ask(url: str) -> pgml.APIError:
        client = pgml.OpenSourceAI(url, max_retries=0)
        with pytest.raises(pgml.APIError) as caught:
            client.chat_completions_create("no such model", QUESTION)
        assert PASSWORD not in str(caught.value) + repr(caught.value) + repr(client)
        # Open until here, so that the server still knows it.
        caught.value.__dict__["client"] = client
        return caught.value

    return ask


def cipher(tls: PgBouncer, name: str) -> str:
    """What encrypts the one connection of that application_name."""
    url = tls.url("postgres").replace("/pgml?", "/pgbouncer")
    # Its console answers simple queries only.
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as console:
        shown = console.execute("SHOW CLIENTS")
        names = [column.name for column in shown.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in shown]
    (row,) = (row for row in rows if row["application_name"] == name)
    return str(row["tls"])


@pytest.mark.parametrize(
    ("mode", "host"),
    [
        (None, "127.0.0.1"),
        ("prefer", "127.0.0.1"),
        ("require", "127.0.0.1"),
        ("verify-ca", "127.0.0.1"),
        ("verify-full", "localhost"),
    ],
)
def test_sslmode(
    tls: PgBouncer, trusted: Path, ask: Callable[..., Any], mode: str | None, host: str
) -> None:
    name = f"with {mode}"
    options: dict[str, object] = {"application_name": name}
    if mode is not None:
        options["sslmode"] = mode
    if mode in ("verify-ca", "verify-full"):
        options["sslrootcert"] = trusted
    error = ask(tls.url("app", PASSWORD, host, **options))
    assert error.sqlstate == "42704", error
    assert cipher(tls, name).startswith("TLSv1.3")


def refused(error: pgml.APIError) -> str:
    """The message of a connection that TLS has refused."""
    assert type(error) is pgml.APIConnectionError
    assert error.sqlstate == "08001", error
    assert "cannot connect to database" in str(error)
    return str(error)


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_an_unknown_authority(
    tls: PgBouncer, stranger: Path, ask: Callable[..., Any], mode: str
) -> None:
    url = tls.url("app", PASSWORD, "localhost", sslmode=mode, sslrootcert=stranger)
    assert "UnknownIssuer" in refused(ask(url))
    # And where no file names one, the machine's own do not know it either.
    assert "UnknownIssuer" in refused(ask(tls.url("app", PASSWORD, "localhost", sslmode=mode)))


def test_another_host(tls: PgBouncer, trusted: Path, ask: Callable[..., Any]) -> None:
    url = tls.url("app", PASSWORD, "127.0.0.1", sslmode="verify-full", sslrootcert=trusted)
    assert "not valid for name" in refused(ask(url))


def test_an_authority_that_cannot_be_read(tls: PgBouncer, ask: Callable[..., Any]) -> None:
    url = tls.url("app", PASSWORD, sslmode="verify-ca", sslrootcert="/nowhere/ca.pem")
    error = ask(url)
    assert type(error) is pgml.APIConnectionError
    assert "No such file" in str(error)


def test_an_expired_certificate(
    postgres: Server, authority: trustme.CA, trusted: Path, ask: Callable[..., Any]
) -> None:
    expired = authority.issue_cert("localhost", not_after=LAST_YEAR)
    with secured(postgres, authority, expired) as tls:
        url = tls.url("app", PASSWORD, "localhost", sslmode="verify-full", sslrootcert=trusted)
        assert "expired" in refused(ask(url))
        # Who does not check is not told.
        assert ask(tls.url("app", PASSWORD, "localhost", sslmode="require")).sqlstate == "42704"


def test_a_client_certificate(
    tls: PgBouncer, authority: trustme.CA, trusted: Path, ask: Callable[..., Any]
) -> None:
    own = authority.issue_cert(common_name="certified")
    files = {
        "sslcert": tls.file("app.pem", own.cert_chain_pems[0].bytes()),
        "sslkey": tls.file("app.key", own.private_key_pem.bytes()),
    }
    options = {"sslmode": "verify-full", "sslrootcert": trusted}
    error = ask(tls.url("certified", "", "localhost", **options, **files))
    assert error.sqlstate == "42704", error
    # Without it, the role is not let in.
    error = ask(tls.url("certified", "", "localhost", **options))
    assert isinstance(error, pgml.APIError)
    assert error.sqlstate != "42704"


def test_one_that_wants_tls_and_one_that_has_none(
    tls: PgBouncer, postgres: Server, ask: Callable[..., Any]
) -> None:
    assert ask(tls.url("app", PASSWORD, sslmode="disable")).sqlstate != "42704"
    for mode in ("require", "verify-ca", "verify-full"):
        assert "TLS" in refused(ask(postgres.url("app", PASSWORD, sslmode=mode)))
    for mode in ("prefer", "disable"):
        assert ask(postgres.url("app", PASSWORD, sslmode=mode)).sqlstate == "42704"


# To an engine ----------------------------------------------------------------------------------


@pytest.fixture
def engine(
    postgres: Server, authority: trustme.CA, request: pytest.FixtureRequest
) -> Iterator[Engine]:
    """An engine with a certificate for `localhost`, which nobody trusts yet."""
    options = getattr(request, "param", {})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", **options).configure_cert(context)
    stand_in = Engine()
    port = stand_in.start(context)
    with postgres.connect() as connection:
        connection.execute(
            "CREATE SERVER standin FOREIGN DATA WRAPPER pgml "
            f"OPTIONS (base_url 'https://localhost:{port}/v1')"
        )
        connection.execute(
            "CREATE USER MAPPING FOR app SERVER standin OPTIONS (api_key 'sk-secret')"
        )
        connection.execute("GRANT USAGE ON FOREIGN SERVER standin TO app")
        connection.execute("INSERT INTO pgml.models VALUES ('scripted', 'standin', 'm')")
        yield stand_in
        connection.execute("DELETE FROM pgml.models")
        connection.execute("DROP SERVER standin CASCADE")
    stand_in.stop()
    assert (stand_in.unexpected, stand_in.left) == ([], 0)


def alter(postgres: Server, options: str) -> None:
    with postgres.connect() as connection:
        connection.execute(f"ALTER SERVER standin OPTIONS ({options})")


@pytest.fixture
def client(postgres: Server, deadline: None) -> pgml.OpenSourceAI:
    return pgml.OpenSourceAI(postgres.url("app", PASSWORD), max_retries=0)


def test_an_https_engine(
    client: pgml.OpenSourceAI, engine: Engine, postgres: Server, trusted: Path
) -> None:
    alter(postgres, f"ADD sslrootcert '{trusted}'")
    exchange = engine.expect(answer("over", " TLS"))
    completion = client.chat_completions_create("scripted", QUESTION)
    assert completion.choices[0].message.content == "over TLS"
    assert exchange.headers["authorization"] == "Bearer sk-secret"
    # A stream, much longer than a record of TLS, and one that is left.
    piece = "x" * 5000
    engine.expect(answer(*[piece] * 50))
    chunks = list(client.chat_completions_create_stream("scripted", QUESTION))
    assert sum(len(chunk.choices[0].delta.content or "") for chunk in chunks) == 50 * len(piece)
    exchange = engine.expect(answer("first")[:-3], HANG)
    with client.chat_completions_create_stream("scripted", QUESTION) as stream:
        assert next(stream).choices[0].delta.content == "first"
    exchange.wait_gone()


def engine_refused(client: pgml.OpenSourceAI) -> str:
    """The message for an engine that TLS has refused. `engine` sees that it was asked nothing."""
    with pytest.raises(pgml.APIConnectionError) as caught:
        client.chat_completions_create("scripted", QUESTION)
    assert caught.value.sqlstate == "08001"
    assert 'engine "standin"' in str(caught.value)
    assert "sk-secret" not in str(caught.value)
    return str(caught.value)


def test_an_engine_of_an_unknown_authority(
    client: pgml.OpenSourceAI, engine: Engine, postgres: Server, stranger: Path
) -> None:
    assert "UnknownIssuer" in engine_refused(client)
    alter(postgres, f"ADD sslrootcert '{stranger}'")
    assert "UnknownIssuer" in engine_refused(client)


def test_an_engine_by_another_name(
    client: pgml.OpenSourceAI, engine: Engine, postgres: Server, trusted: Path
) -> None:
    with postgres.connect() as connection:
        options = connection.execute("SELECT srvoptions[1] FROM pg_foreign_server").fetchone()
    assert options is not None
    address = options[0].removeprefix("base_url=").replace("localhost", "127.0.0.1")
    alter(postgres, f"SET base_url '{address}', ADD sslrootcert '{trusted}'")
    assert "not valid for name" in engine_refused(client)


@pytest.mark.parametrize("engine", [{"not_after": LAST_YEAR}], indirect=True)
def test_an_engine_with_an_expired_certificate(
    client: pgml.OpenSourceAI, engine: Engine, postgres: Server, trusted: Path
) -> None:
    alter(postgres, f"ADD sslrootcert '{trusted}'")
    assert "expired" in engine_refused(client)


def test_an_engine_whose_authority_cannot_be_read(
    client: pgml.OpenSourceAI, engine: Engine, postgres: Server
) -> None:
    empty = postgres.file("empty.pem", b"")
    for path in ("/nowhere/ca.pem", empty):
        alter(postgres, f"ADD sslrootcert '{path}'")
        message = engine_refused(client)
        assert "sslrootcert" in message or "UnknownIssuer" in message
        alter(postgres, "DROP sslrootcert")


def test_an_engine_that_speaks_no_tls(
    client: pgml.OpenSourceAI, engine: Engine, postgres: Server, trusted: Path
) -> None:
    plain = Engine()
    port = plain.start()
    alter(
        postgres,
        f"SET base_url 'https://localhost:{port}/v1', ADD sslrootcert '{trusted}', "
        "ADD connect_timeout '0.2'",
    )
    # It waits for the end of a request that does not come: neither side says anything more.
    assert "within 200ms" in engine_refused(client)
    plain.stop()
    assert plain.unexpected == []
