"""An engine that refuses, fails, dies or talks nonsense: each way is an error that says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pgml
import psycopg
import pytest
from conftest import QUESTION, Call
from engine import CLOSE, DONE, HANG, RESET, ROLE, Engine, Step, answer, chunk, error, event, head

KEY = "sk-SECRET-KEY"
HTML = b"<html>It works!</html>"
CHUNKED = head(Transfer_Encoding="chunked")
FIRST = chunk("first")
BLOCK = b"x" * (1 << 20)


@dataclass
class Failure:
    """What the engine does, and what is raised then."""

    name: str
    steps: list[Step]
    raised: type[pgml.APIError]
    sqlstate: str
    words: list[str] = field(default_factory=list)


def status(code: int, raised: type[pgml.APIError], sqlstate: str, **headers: str) -> Failure:
    """An answer with this HTTP status, and an error object as OpenAI's."""
    words = [f"{code}: because"] + [f"{name}: {value}" for name, value in headers.items()]
    headers = {name.replace("-", "_"): value for name, value in headers.items()}
    return Failure(str(code), [error(code, "because", **headers)], raised, sqlstate, words)


def nonsense(name: str, *steps: Step, words: str = "") -> Failure:
    return Failure(name, [*steps, HANG], pgml.APIConnectionError, "08P01", [words])


def lost(name: str, *steps: Step, words: str = "the connection") -> Failure:
    return Failure(name, [*steps, CLOSE], pgml.APIConnectionError, "08006", [words])


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


HALF = "before choice 0 was finished"
REDIRECT = head(302, Location="http://127.0.0.1:1/", Content_Length="0")

FAILURES = [
    status(400, pgml.BadRequestError, "22023"),
    status(401, pgml.AuthenticationError, "28000"),
    status(403, pgml.PermissionDeniedError, "42501"),
    status(404, pgml.NotFoundError, "42704"),
    status(409, pgml.ConflictError, "55000"),
    status(422, pgml.UnprocessableEntityError, "22000"),
    status(429, pgml.RateLimitError, "53000", **{"Retry-After": "7"}),
    status(500, pgml.InternalServerError, "58000"),
    status(501, pgml.BadRequestError, "0A000"),
    status(503, pgml.RateLimitError, "53000"),
    status(504, pgml.APITimeoutError, "08000"),
    # A redirect is not followed, for it leads where no administrator meant it to.
    nonsense("302", REDIRECT, words="302"),
    nonsense(
        "html", head(200, "text/html", Content_Length="22"), HTML, words="Is base_url that of"
    ),
    nonsense("no http", b"220 smtp.example ESMTP\r\n\r\n", words="Is base_url that of"),
    nonsense("no json", head(), FIRST, event("{"), words="no chunk"),
    nonsense("no utf-8", head(), FIRST, chunk("@").replace(b"@", b"\xff\xfe")),
    nonsense("endless line", head(), FIRST, b"data: " + BLOCK * 17, words="of over 16 MiB"),
    nonsense("endless event", head(), FIRST, b"data: %s\n" % BLOCK * 17, words="of over 16 MiB"),
    nonsense("endless head", b"HTTP/1.1 200 OK\r\nX: ", BLOCK, words="of over 256 KiB"),
    nonsense("broken HTTP chunk", CHUNKED, http_chunk(FIRST), b"zz\r\n", words="nonsense"),
    lost("nothing"),
    lost("half a head", b"HTTP/1.1 200 OK\r\nConte"),
    lost("half an error", head(500, "application/json", Content_Length="99"), b"{"),
    lost("no chunk", head(), DONE, words=HALF),
    lost("cut between events", head(), ROLE, FIRST, words=HALF),
    lost("done too early", head(), ROLE, FIRST, DONE, words=HALF),
    lost("cut in an event", head(), FIRST, b'data: {"choi'),
    lost("cut between HTTP chunks", CHUNKED, http_chunk(FIRST)),
    lost("cut in an HTTP chunk", CHUNKED, http_chunk(FIRST), b"ff\r\ndata"),
    Failure(
        "error event",
        [head(), ROLE, FIRST, event({"error": {"message": "no memory", "code": 500}}), HANG],
        pgml.InternalServerError,
        "58000",
        ["500: no memory"],
    ),
    Failure(
        "error event of the caller's making",
        [head(), ROLE, FIRST, event({"error": {"message": "too long", "code": 400}}), HANG],
        pgml.BadRequestError,
        "22023",
        ["400: too long"],
    ),
    Failure(
        "error in other words",
        [head(422, "application/json", Content_Length="17"), b'{"detail": "no!"}'],
        pgml.UnprocessableEntityError,
        "22000",
        ["422: no!"],
    ),
    Failure(
        "error with the key",
        [error(401, f"bad key {KEY}")],
        pgml.AuthenticationError,
        "28000",
        ["401: bad key ***"],
    ),
]


async def run(call: Call, verb: str, **arguments: Any) -> None:
    """Read a completion, streamed or not, to its end."""
    if verb == "create":
        await call.create("scripted", QUESTION, **arguments)
    else:
        await (await call.stream("scripted", QUESTION, **arguments)).rest()


@pytest.mark.parametrize("verb", ["create", "stream"])
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
async def test_failure(
    call: Call, engine: Engine, admin: psycopg.Connection[Any], failure: Failure, verb: str
) -> None:
    admin.execute(f"CREATE USER MAPPING FOR PUBLIC SERVER standin OPTIONS (api_key '{KEY}')")
    exchange = engine.expect(failure.steps)
    with pytest.raises(pgml.APIError) as caught:
        await run(call, verb)
    raised = caught.value
    assert type(raised) is failure.raised, raised
    assert raised.sqlstate == failure.sqlstate
    for word in ['engine "standin"', *failure.words]:
        assert word in str(raised)
    assert exchange.headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(raised) + repr(raised)
    # The client is as good as before.
    engine.expect(answer("hello"))
    assert (await call.create("scripted", QUESTION)).choices[0].message.content == "hello"


async def test_an_engine_names_the_parameter(call: Call, engine: Engine) -> None:
    body = b'{"error": {"message": "seed: too large", "param": "seed"}}'
    engine.expect(head(400, "application/json", Content_Length=str(len(body))) + body)
    with pytest.raises(pgml.BadRequestError, match="too large") as caught:
        await call.create("scripted", QUESTION, seed=1)
    assert caught.value.param == "seed"


@pytest.mark.parametrize("last", [CLOSE, RESET])
async def test_an_engine_that_dies_half_way(call: Call, engine: Engine, last: str) -> None:
    gate = engine.gate()
    engine.expect(head(), chunk("a"), gate, last)
    stream = await call.stream("scripted", QUESTION)
    assert (await stream.next()).choices[0].delta.content == "a"
    gate.open()
    with pytest.raises(pgml.APIConnectionError, match='engine "standin"') as caught:
        await stream.next()
    assert caught.value.sqlstate == "08006"
    # After its error it is over, and never looks complete before.
    assert await stream.rest() == []


async def test_one_of_n_engines_fails(call: Call, engine: Engine) -> None:
    others = [engine.expect(head(), chunk("a"), HANG) for _ in range(2)]
    engine.expect(error(500, "oops"))
    with pytest.raises(pgml.InternalServerError, match="oops"):
        await call.create("scripted", QUESTION, n=3)
    for other in others:
        other.wait_gone()


async def test_an_engine_that_says_nothing(
    call: Call, engine: Engine, admin: psycopg.Connection[Any]
) -> None:
    admin.execute("ALTER SERVER standin OPTIONS (ADD read_timeout '0.2')")
    exchange = engine.expect(HANG)
    with pytest.raises(pgml.APITimeoutError, match=r"sent nothing(.|\n)*read_timeout") as caught:
        await call.create("scripted", QUESTION)
    assert caught.value.sqlstate == "08000"
    exchange.wait_gone()
