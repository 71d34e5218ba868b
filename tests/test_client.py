"""What the openai package's clients can do besides completions: closing, copying, options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pgml
import psycopg
import pytest
from asked import ASKED, AT_ONCE
from conftest import Face, text
from engine import DONE, HANG, ROLE, Engine, answer, chunk, head

# close --------------------------------------------------------------------------------------------


async def close(face: Face) -> None:
    await face._wait(face.client.close())


def connections(admin: psycopg.Connection[Any], role: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
    row = admin.execute(query, [role]).fetchone()
    assert row is not None
    return row[0]


def wait_for_connections(admin: psycopg.Connection[Any], role: str, count: int) -> None:
    # A backend goes when it notices that its client has. `deadline` ends a vain wait.
    while connections(admin, role) != count:
        pass


async def test_closing_closes_connections(
    face: Face, engine: Engine, role: Callable[..., str], admin: psycopg.Connection[Any]
) -> None:
    url = role("closer")
    admin.execute("GRANT USAGE ON FOREIGN SERVER standin TO closer")
    closer = Face(type(face.client)(url, max_retries=0))
    engine.expect(answer("hi"))
    await closer.create(**ASKED)
    assert connections(admin, "closer") == 1
    await close(closer)
    wait_for_connections(admin, "closer", 0)


async def test_what_runs_when_a_client_is_closed_runs_to_its_end(
    face: Face, engine: Engine, role: Callable[..., str], admin: psycopg.Connection[Any]
) -> None:
    url = role("closer")
    admin.execute("GRANT USAGE ON FOREIGN SERVER standin TO closer")
    closer = Face(type(face.client)(url, max_retries=0))
    gate = engine.gate()
    engine.expect(head(), ROLE, chunk("Hel"), gate, chunk("lo"), chunk(finish_reason="stop"), DONE)
    stream = await closer.stream(**ASKED)
    await close(closer)
    gate.open()
    assert text(await stream.rest()) == "Hello"
    wait_for_connections(admin, "closer", 0)


async def test_a_closed_client_says_so(face: Face, engine: Engine) -> None:
    other = face.with_options(max_retries=2)
    assert not face.client.is_closed()
    await close(face)
    await close(face)
    for closed in (face, other):
        assert closed.client.is_closed()
        for method in (closed.create, closed.stream):
            with pytest.raises(pgml.APIConnectionError, match="the client has been closed"):
                await method(**ASKED)
        with pytest.raises(pgml.APIConnectionError, match="the client has been closed"):
            await closed.models()


def test_leaving_the_block_closes(database_url: str, engine: Engine) -> None:
    engine.expect(answer("hi"))
    with pgml.OpenSourceAI(database_url) as client:
        assert client.chat_completions_create(**ASKED).choices[0].message.content == "hi"
    assert client.is_closed()


async def test_leaving_the_asynchronous_block_closes(database_url: str, deadline: None) -> None:
    async with pgml.AsyncOpenSourceAI(database_url) as client:
        assert not client.is_closed()
    assert client.is_closed()


# timeout ------------------------------------------------------------------------------------------


async def test_no_limit(face: Face, engine: Engine) -> None:
    """As in the openai package, None is no limit, and not to say anything is the client's."""
    # Nothing can come within it.
    hasty = face.with_options(timeout=1e-9)
    assert hasty.with_options(max_retries=0).client.timeout == 1e-9
    assert hasty.with_options(timeout=None).client.timeout is None
    for patient, asked in ((hasty, {"timeout": None}), (hasty.with_options(timeout=None), {})):
        engine.expect(answer("hi"))
        completion = await patient.create(**ASKED, **asked)
        assert completion.choices[0].message.content == "hi"
    hasty = face.with_options(timeout=AT_ONCE)
    for timeout in (pgml.NOT_GIVEN, openai.NOT_GIVEN, openai.omit):
        exchange = engine.expect(HANG)
        with pytest.raises(pgml.APITimeoutError):
            await hasty.create(**ASKED, timeout=timeout)
        exchange.wait_gone()


@pytest.mark.parametrize("timeout", ["5", [5]], ids=repr)
async def test_a_timeout_is_a_number(face: Face, timeout: Any) -> None:
    words = "timeout: must be a number of seconds, a Timeout or None, not .* connect_timeout"
    with pytest.raises(TypeError, match=words):
        await face.create(**ASKED, timeout=timeout)
    with pytest.raises(TypeError, match=words):
        await face.with_options(timeout=timeout).create(**ASKED)


@pytest.mark.parametrize("cls", [httpx2.Timeout, openai.Timeout, pgml.Timeout])
async def test_a_timeout_object_gives_the_longest_silence(
    face: Face, engine: Engine, cls: Any
) -> None:
    for options, asked in (
        ({}, {"timeout": cls(60, read=AT_ONCE)}),
        ({"timeout": cls(60, read=AT_ONCE)}, {}),
    ):
        exchange = engine.expect(HANG)
        with pytest.raises(pgml.APITimeoutError):
            await face.with_options(**options).create(**ASKED, **asked)
        exchange.wait_gone()
    engine.expect(answer("hi"))
    # No limit, for reading.
    await face.create(**ASKED, timeout=cls(1e-9, read=None))


def test_timeouts_are_as_in_the_openai_package() -> None:
    for arguments, options in (((5,), {}), ((None,), {}), ((), dict.fromkeys(TIMES, 1.5))):
        ours, theirs = (cls(*arguments, **options) for cls in (pgml.Timeout, openai.Timeout))
        assert [getattr(ours, name) for name in TIMES] == [getattr(theirs, name) for name in TIMES]
        assert ours == pgml.Timeout(*arguments, **options)
    with pytest.raises(ValueError, match="timeout"):
        pgml.Timeout(read=5)


TIMES = ("connect", "read", "write", "pool")


def test_both_names_of_a_copy(database_url: str) -> None:
    client = pgml.OpenSourceAI(database_url, timeout=None)
    for other in (client.copy(max_retries=7), client.with_options(max_retries=7)):
        assert (type(other), other.timeout, other.max_retries) == (pgml.OpenSourceAI, None, 7)
    assert client.copy(max_retries=None).max_retries == client.max_retries == 2


@pytest.mark.parametrize(
    "scheme", ["sqlite", "mysql", "redis", "mongodb+srv", "mysql+aiomysql", "mssql+pyodbc"]
)
@pytest.mark.parametrize("variable", ["DATABASE_URL", "PGML_DATABASE_URL", None])
def test_the_url_of_another_database_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, scheme: str, variable: str | None
) -> None:
    url = f"{scheme}://user:hunter2@host/name"
    if variable:
        monkeypatch.setenv(variable, url)
    with pytest.raises(pgml.APIConnectionError) as caught:
        pgml.OpenSourceAI(None if variable else url)
    assert f"{variable or 'database_url'}: " in str(caught.value)
    assert scheme in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "psycopg2", "pg8000"])
def test_sqlalchemys_urls_are_understood(database_url: str, model: str, driver: str) -> None:
    url = database_url.replace("postgresql://", f"postgresql+{driver}://")
    with pgml.OpenSourceAI(url) as client:
        assert client.models.list().data[0].id == model


@pytest.mark.parametrize(
    "setting", ["max_connections", "max_retries", "connect_timeout", "acquire_timeout", "timeout"]
)
@pytest.mark.parametrize("value", [-1, -(10**400), 10**400, 2**64, float("nan"), "1", True, [1]])
def test_settings_that_cannot_be_are_named(setting: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{setting}: must be"):
        pgml.OpenSourceAI("postgresql://app@host/db", **{setting: value})


def test_the_local_instance_can_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGML_LOCAL", "0")
    with pytest.raises(pgml.APIConnectionError, match="PGML_LOCAL=0"):
        pgml.OpenSourceAI()


def test_the_local_instance_is_named_in_a_warning_once(
    instance: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PGML_HOME", str(instance.home))
    clients = [pgml.OpenSourceAI() for _ in range(3)]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len([text for text in warnings if instance.url in text]) <= 1
    assert len({repr(client) for client in clients}) == 1
