"""What a role may reach and read, beyond what the SQL tests show (extension/test/sql/roles.sql)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pgml
import psycopg
import pytest
from conftest import QUESTION
from engine import Engine, answer, head
from leaks import KEY
from psycopg import sql
from server import Server

# Percent-encoded in a URL, each of them.
PASSWORDS = {
    "url": "p@ss:w/ord?#[]%25&=+",
    "spaces": " leading, and trailing ",
    "quotes": 'it\'s "quoted" and back\\slashed',
    "unicode": "pässwörd✓ пароль 密码",
}


@pytest.fixture
def admin(own_server: Server, deadline: None) -> Iterator[psycopg.Connection[Any]]:
    with own_server.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def methods(own_server: Server) -> None:
    own_server.allow("host all with_md5 127.0.0.1/32 md5")


@pytest.mark.parametrize("method", ["md5", "scram-sha-256"])
@pytest.mark.parametrize("kind", PASSWORDS)
def test_passwords(
    own_server: Server,
    methods: None,
    admin: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    kind: str,
    method: str,
) -> None:
    password = PASSWORDS[kind]
    role = "with_md5" if method == "md5" else "with_scram"
    admin.execute(sql.SQL("SET password_encryption = {}").format(sql.Literal(method)))
    create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
    admin.execute(create.format(sql.Identifier(role), sql.Literal(password)))
    try:
        plain = own_server.url(role, "")
        urls = [own_server.url(role, password), f"{plain}&password={quote(password, safe='')}"]
        for url in urls:
            assert ask(url).sqlstate == "42704"
        wrong = ask(own_server.url(role, password + "x"))
        assert (type(wrong), wrong.sqlstate) == (pgml.AuthenticationError, "28P01")
        assert password not in str(wrong) + repr(wrong)
        # Or from a file, in which backslashes and colons are escaped.
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        file = tmp_path / "pgpass"
        file.write_text(f"*:*:*:{role}:{escaped}\n")
        file.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(file))
        nameless = plain.replace(f"{role}:@", f"{role}@")
        assert ask(nameless).sqlstate == "42704"
    finally:
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def ask(url: str) -> pgml.APIError:
    """What a client finds out about a model that there is not."""
    with pytest.raises(pgml.APIError) as caught:
        pgml.OpenSourceAI(url, max_retries=0).chat_completions_create("no such model", QUESTION)
    return caught.value


@pytest.fixture
def as_role(
    own_server: Server, admin: psycopg.Connection[Any], engine: Engine
) -> Iterator[Callable[[str], psycopg.Connection[Any]]]:
    """Sessions of two roles: `app` has a key, and `guest` may use the same engine without."""
    sessions: list[psycopg.Connection[Any]] = []
    for name in ("app", "guest"):
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'hunter2'")
        admin.execute(f"GRANT USAGE ON FOREIGN SERVER standin TO {name}")
    admin.execute(f"CREATE USER MAPPING FOR app SERVER standin OPTIONS (api_key '{KEY}')")

    def session(name: str, **options: Any) -> psycopg.Connection[Any]:
        url = own_server.url(name, "hunter2")
        sessions.append(psycopg.connect(url, autocommit=True, **options))
        return sessions[-1]

    yield session
    for each in sessions:
        each.close()
    admin.execute("DROP OWNED BY app, guest CASCADE")
    admin.execute("DROP ROLE app, guest")


def test_no_catalog_shows_the_key_of_another(
    as_role: Callable[[str], psycopg.Connection[Any]], admin: psycopg.Connection[Any]
) -> None:
    relations = """
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE nspname IN ('pg_catalog', 'information_schema', 'pgml') AND relkind IN ('r', 'v')
    """

    def showing(session: psycopg.Connection[Any]) -> set[str]:
        found = set()
        for (relation,) in session.execute(relations).fetchall():
            try:
                rows = session.execute(f"SELECT t::text FROM {relation} t").fetchall()
            except psycopg.Error:
                continue  # this role may not read it
            if any(KEY in (row[0] or "") for row in rows):
                found.add(relation)
        return found

    assert showing(as_role("guest")) == set()
    # The search finds the key where it may be read.
    own = showing(as_role("app"))
    assert own == {"pg_user_mappings", "information_schema.user_mapping_options"}
    assert "pg_user_mapping" in showing(admin)


def test_a_key_goes_out_for_its_role_only(
    as_role: Callable[[str], psycopg.Connection[Any]], engine: Engine
) -> None:
    statement = """SELECT pgml.chat_completion(
        '{"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}')"""
    for role, header in (("app", f"Bearer {KEY}"), ("guest", None)):
        exchange = engine.expect(answer("fine"))
        as_role(role).execute(statement)
        assert exchange.headers.get("authorization") == header


def test_the_default_server_is_out_of_reach(
    as_role: Callable[..., psycopg.Connection[Any]], engine: Engine
) -> None:
    """Also before the library is loaded, when Postgres does not know the setting yet."""
    call = """SELECT pgml.chat_completion(
        '{"model": "any name", "messages": [{"role": "user", "content": "hi"}]}')"""
    with pytest.raises(psycopg.errors.UndefinedObject):
        as_role("guest", options="-c pgml.default_server=standin").execute(call)
    session = as_role("guest")
    session.execute("SET pgml.default_server = 'standin'")
    with pytest.raises(psycopg.errors.UndefinedObject):
        session.execute(call)
    assert session.execute("SHOW pgml.default_server").fetchone() == ("",)
    for attempt in (
        "SET pgml.default_server = 'standin'",
        "SELECT set_config('pgml.default_server', 'standin', false)",
        "ALTER ROLE guest SET pgml.default_server = 'standin'",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(attempt)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(
    own_server: Server,
    as_role: Callable[[str], psycopg.Connection[Any]],
    engine: Engine,
    status: int,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        where = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1/chat/completions"
        engine.expect(head(status, Location=where, Content_Length="0"))
        client = pgml.OpenSourceAI(own_server.url("app", "hunter2"), max_retries=0)
        with pytest.raises(pgml.APIError) as caught:
            client.chat_completions_create("scripted", QUESTION)
        assert where not in str(caught.value)
        # A connection would be waiting here by now: the engine's answer has been dealt with.
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
