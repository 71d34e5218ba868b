"""Chat templates that mean harm: each is refused, and the server does not notice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pytest
from conftest import QUESTION
from engine import Engine, answer

GROW = "{% set ns = namespace(l=['x'], m=['x']) %}{% for i in range(COUNT) %}STEP{% endfor %}"


def grow(step: str, count: int, then: str) -> str:
    """A template that does something to `ns` again and again, and something with it at the end."""
    return GROW.replace("COUNT", str(count)).replace("STEP", step) + then


def deep(then: str) -> str:
    return grow("{% set ns.l = [[[[[ns.l]]]]] %}", 90_000, then)


def doubled(then: str) -> str:
    return grow("{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}", 60, then)


CYCLE = "{% set ns = namespace() %}{% set ns.self = [ns] %}"

BOMBS = {
    "a long string": "{{ 'x' * 10**9 }}",
    "a long list": "{{ range(10**9) | list }}",
    "a big number": "{{ 9 ** 99999 }}",
    "a wide format": "{{ '%999999999d' | format(1) }}",
    "a long join": "{{ range(90000) | join('y' * 1000000) }}",
    "a string that doubles": grow("{% set ns.l = ns.l ~ ns.l %}", 60, "{{ ns.l }}"),
    # Python's methods build their result before anybody asks how much it is.
    "a joining method": "{{ ('y' * 1000000).join(range(90000)) }}",
    "a replacing method": "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
    "a formatting method": "{{ '{:>99999999999}'.format(1) }}",
    # Values share their parts, and what walks over them does not.
    "a list that doubles, as JSON": doubled("{{ ns.l | tojson }}"),
    "a list that doubles, as text": doubled("{{ ns.l }}"),
    # As deep as there are steps: each of these goes down by recursion.
    "a deep list, dropped": deep(""),
    "a deep list, as JSON": deep("{{ ns.l | tojson }}"),
    "a deep list, as text": deep("{{ ns.l }}"),
    "a deep list, compared": deep("{{ ns.l == [ns.l] }}"),
    "a deep list, as a key": deep("{{ {ns.l: 1} }}"),
    "a deep list, in an error": deep("{{ raise_exception(ns.l) }}"),
    "a value in itself, as text": CYCLE + "{{ ns }}",
    "a value in itself, as JSON": CYCLE + "{{ ns | tojson }}",
    "a macro in itself": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "a loop in itself": "{% for i in [[1]] recursive %}{{ loop([i]) }}{% endfor %}",
    # The parser's and the compiler's own recursion.
    "many minuses": "{{ " + "-" * 100_000 + "1 }}",
    "many additions": "{{ " + "1+" * 100_000 + "1 }}",
    "many attributes": "{{ a" + ".b" * 100_000 + " }}",
    "many filters": "{{ 'a'" + "|upper" * 100_000 + " }}",
    "many brackets": "{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}",
    "many branches": "{% if 0 %}" + "{% elif 0 %}" * 100_000 + "{% endif %}",
    # Comparing takes no steps.
    "an endless comparison": doubled("{{ ns.l == ns.m }}"),
}


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda name: name.replace(" ", "-"))
def test_bomb(
    bomb: str, client: pgml.OpenSourceAI, engine: Engine, admin: psycopg.Connection[Any]
) -> None:
    with pytest.raises(pgml.BadRequestError) as caught:
        client.chat_completions_create("scripted", QUESTION, chat_template=BOMBS[bomb])
    error = caught.value
    assert (error.sqlstate, error.param) == ("22023", "chat_template")
    assert len(str(error)) < 1000
    # Had any backend crashed, Postgres would have ended all the others, and this connection.
    assert admin.execute("SELECT 1").fetchone() == (1,)
    # The client's own connection is as good as before.
    engine.expect(answer("fine"))
    text = client.chat_completions_create("scripted", QUESTION, chat_template="Hello")
    assert text.choices[0].message.content == "fine"


def children(pid: int) -> list[int]:
    """The processes that a backend has started."""
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("end", ["cancel", "terminate", "leave"])
async def test_an_end_of_the_statement_is_an_end_of_the_template(
    end: str,
    client: pgml.OpenSourceAI,
    engine: Engine,
    admin: psycopg.Connection[Any],
    spin: Callable[[Callable[[], bool]], Any],
) -> None:
    endless = BOMBS["an endless comparison"]
    task = asyncio.create_task(
        client.chat_completions_create_async("scripted", QUESTION, chat_template=endless)
    )
    backends: list[tuple[int]] = []

    def rendering() -> bool:
        backends[:] = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgml' AND state = 'active'"
        ).fetchall()
        return bool(backends) and bool(children(backends[0][0]))

    await spin(rendering)
    ((backend,),) = backends
    (child,) = children(backend)
    if end == "cancel":
        admin.execute("SELECT pg_cancel_backend(%s)", [backend])
        expected: type[BaseException] = pgml.APITimeoutError
    elif end == "terminate":
        admin.execute("SELECT pg_terminate_backend(%s)", [backend])
        # The client may try it once more, on a new connection, and is told about the template.
        expected = pgml.APIError
    else:
        task.cancel()
        expected = asyncio.CancelledError
    with pytest.raises(expected):
        await task
    await spin(lambda: not Path(f"/proc/{child}").exists())


@pytest.fixture
def spin(deadline: None) -> Callable[[Callable[[], bool]], Any]:
    """Look until it is so: /proc tells nobody of a change. `deadline` ends a vain wait."""

    async def spin(condition: Callable[[], bool]) -> None:
        while not await asyncio.to_thread(condition):
            pass

    return spin


def test_what_a_template_may_see(client: pgml.OpenSourceAI, engine: Engine) -> None:
    """Only what it was given: no attribute leads out, and no file can be named."""
    for template in (
        "{{ messages.__class__ }}|{{ ''.__class__ }}|{{ messages[0]['__globals__'] }}",
        "{{ cycler }}|{{ self }}|{{ request }}|{{ config }}|{{ os }}|{{ env }}",
    ):
        exchange = engine.expect(answer("fine"))
        client.chat_completions_create("scripted", QUESTION, chat_template=template)
        assert exchange.body["prompt"].strip("|") == ""
    for template in (
        "{% include '/etc/passwd' %}", "{% extends '/etc/passwd' %}", "{{ open('/etc/passwd') }}",
        "{% import 'os' as os %}", "{{ ''.__class__.__mro__ }}", "{{ self.__init__() }}",
    ):  # fmt: skip
        with pytest.raises(pgml.BadRequestError) as caught:
            client.chat_completions_create("scripted", QUESTION, chat_template=template)
        assert "root:" not in str(caught.value)


def test_a_killed_template_is_no_crash(
    client: pgml.OpenSourceAI, engine: Engine, admin: psycopg.Connection[Any]
) -> None:
    """What the kernel's memory killer would do."""
    import threading

    raised: list[pgml.APIError] = []

    def ask() -> None:
        try:
            client.chat_completions_create(
                "scripted", QUESTION, chat_template=BOMBS["an endless comparison"]
            )
        except pgml.APIError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    found: list[int] = []
    while not found:
        for (pid,) in admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgml' AND state = 'active'"
        ).fetchall():
            found += children(pid)
    os.kill(found[0], signal.SIGKILL)
    thread.join()
    assert [error.sqlstate for error in raised] == ["22023"]
    assert admin.execute("SELECT 1").fetchone() == (1,)
