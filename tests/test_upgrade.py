"""`ALTER EXTENSION pgml UPDATE`: an upgraded catalog is that of a new installation."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import server as servers
from pgml.local import postgres

EXTENSION = Path(postgres.__file__).parent / "extension"
OLD_SCRIPT = Path(__file__).parent / "fixtures" / "pgml--2.0.0.sql"
OLD_CONTROL = (
    "default_version = '2.0.0'\nmodule_pathname = '$libdir/pgml'\n"
    "relocatable = false\nsuperuser = true\n"
)

CATALOG = (Path(__file__).parent / "fixtures" / "catalog.sql").read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Server]:
    """A server that finds its extensions in a tree of the test's own."""
    made = servers.make()
    tree = made.path / "tree"
    shutil.copytree(EXTENSION, tree, copy_function=shutil.copy)
    # Version 2.0.0's functions were in a library of this name.
    shutil.copy(next((tree / "lib").glob("pgml-*.so")), tree / "lib" / "pgml.so")
    control = tree / "share" / "extension" / "pgml.control"
    (control.parent / OLD_SCRIPT.name).write_text(OLD_SCRIPT.read_text())
    for path in (tree, *tree.rglob("*")):
        path.chmod(0o755)
    made.set(
        extension_control_path=f"{tree}/share:$system", dynamic_library_path=f"{tree}/lib:$libdir"
    )
    current = control.read_text()
    control.write_text(OLD_CONTROL)
    with made.connect() as connection:
        connection.execute("CREATE DATABASE old")
    with made.connect("old") as connection:
        connection.execute("CREATE EXTENSION pgml")
        connection.execute(
            "CREATE SERVER engine FOREIGN DATA WRAPPER pgml"
            " OPTIONS (base_url 'http://127.0.0.1:1/v1');"
            "CREATE USER MAPPING FOR PUBLIC SERVER engine OPTIONS (api_key 'kept');"
            "INSERT INTO pgml.models (name, server, engine_model) VALUES ('kept', 'engine', 'em');"
            "CREATE ROLE reader; GRANT USAGE ON FOREIGN SERVER engine TO reader;"
            "CREATE VIEW of_users AS SELECT * FROM pgml.stat_requests;"
            "CREATE FUNCTION of_users() RETURNS json RETURN pgml.chat_completion('{}'::json)"
        )
    control.write_text(current)
    with made.connect("old") as connection:
        connection.execute("ALTER EXTENSION pgml UPDATE")
    yield made
    made.remove()


def catalog(server: servers.Server, database: str) -> list[Any]:
    with server.connect(database) as connection:
        return connection.execute(CATALOG).fetchall()


def test_an_upgraded_catalog_is_that_of_a_new_installation(server: servers.Server) -> None:
    new = catalog(server, "pgml")
    assert len(new) > 20
    assert catalog(server, "old") == new


def test_what_users_made_is_kept(server: servers.Server) -> None:
    with server.connect("old") as connection:
        rows = connection.execute("SELECT name, server, engine_model FROM pgml.models").fetchall()
        assert rows == [("kept", "engine", "em")]
        options = "SELECT umoptions FROM pg_user_mappings WHERE srvname = 'engine'"
        assert connection.execute(options).fetchone() == (["api_key=kept"],)
        assert connection.execute("TABLE of_users").fetchall() == []
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="model"):
            connection.execute("SELECT of_users()")
        connection.execute("SET ROLE reader")
        assert connection.execute("SELECT name FROM pgml.callable_models").fetchall() == [("kept",)]


def test_emptying_the_schema_public_drops_nothing_of_ours(server: servers.Server) -> None:
    with server.connect("old") as connection:
        connection.execute("BEGIN; DROP SCHEMA public CASCADE")
        counts = "SELECT count(*) FROM pg_extension WHERE extname = 'pgml'"
        assert connection.execute(counts).fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM pgml.models").fetchone() == (1,)
        connection.execute("ROLLBACK")


def test_a_database_without_the_schema_public_can_have_it(server: servers.Server) -> None:
    with server.connect() as connection:
        connection.execute("CREATE DATABASE hardened")
    with server.connect("hardened") as connection:
        connection.execute("DROP SCHEMA public; CREATE EXTENSION pgml")
        assert connection.execute("SELECT pgml.version()").fetchone() == ("3.0.0",)
    with server.connect() as connection:
        connection.execute("DROP DATABASE hardened")


def test_there_is_a_way_from_every_version(server: servers.Server) -> None:
    with server.connect() as connection:
        paths = "SELECT source, path FROM pg_extension_update_paths('pgml') WHERE target = '3.0.0'"
        assert connection.execute(paths).fetchall() == [("2.0.0", "2.0.0--3.0.0")]


def test_a_session_with_another_version_of_the_library_is_told(server: servers.Server) -> None:
    with server.connect() as connection:
        connection.execute("LOAD 'pgml'")  # as version 2.0.0's functions do
        with pytest.raises(
            psycopg.errors.ObjectNotInPrerequisiteState, match="another version"
        ) as e:
            connection.execute("SELECT pgml.version()")
    assert e.value.diag.message_hint == "Connect again, and repeat the statement."
