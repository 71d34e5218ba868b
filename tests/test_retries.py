"""Errors that may pass are tried again, as in the openai package; and nothing else is."""

from __future__ import annotations

import time

import pgml
import pytest
from conftest import QUESTION, Call, text
from engine import CLOSE, HANG, Engine, answer, chunk, error, head

# Asked to wait no time at all, so that the tests need not.
PASSING = {
    "429": [error(429, "slow down", Retry_After="0")],
    "503": [error(503, "loading", Retry_After="0")],
    "500": [error(500, "oops", Retry_After="0")],
}


@pytest.fixture
def twice(call: Call, database_url: str) -> Call:
    return call.of(pgml.OpenSourceAI(database_url, max_retries=2))


@pytest.mark.parametrize("name", PASSING)
async def test_an_error_that_passes(twice: Call, engine: Engine, name: str) -> None:
    engine.expect(PASSING[name])
    engine.expect(PASSING[name])
    engine.expect(answer("hello"))
    completion = await twice.create("scripted", QUESTION)
    assert completion.choices[0].message.content == "hello"


async def test_an_error_that_passes_before_a_stream(twice: Call, engine: Engine) -> None:
    engine.expect(PASSING["429"])
    engine.expect(answer("hel", "lo"))
    assert text(await (await twice.stream("scripted", QUESTION)).rest()) == "hello"


async def test_an_engine_that_asks_for_time_gets_it(twice: Call, engine: Engine) -> None:
    # Longer than the half second that is waited where nobody asks.
    engine.expect(error(429, "slow down", Retry_After="1"))
    engine.expect(answer("hello"))
    begun = time.monotonic()
    completion = await twice.create("scripted", QUESTION)
    assert time.monotonic() - begun >= 1
    assert completion.choices[0].message.content == "hello"


async def test_an_engine_that_closes_at_once(twice: Call, engine: Engine) -> None:
    engine.expect(CLOSE)
    engine.expect(answer("hello"))
    completion = await twice.create("scripted", QUESTION)
    assert completion.choices[0].message.content == "hello"


async def test_an_error_that_stays(twice: Call, engine: Engine) -> None:
    for attempt in range(3):
        engine.expect(error(503, f"attempt {attempt}", Retry_After="0"))
    with pytest.raises(pgml.RateLimitError, match="attempt 2"):
        await twice.create("scripted", QUESTION)


# A further request would find no script, and fail the test.


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501, 504])
async def test_an_error_of_the_callers_making(twice: Call, engine: Engine, status: int) -> None:
    engine.expect(error(status, "because"))
    with pytest.raises(pgml.APIError, match="because"):
        await twice.create("scripted", QUESTION)


async def test_a_stream_that_has_begun_is_not_begun_again(twice: Call, engine: Engine) -> None:
    gate = engine.gate()
    engine.expect(head(), chunk("a"), gate, CLOSE)
    stream = await twice.stream("scripted", QUESTION)
    assert (await stream.next()).choices[0].delta.content == "a"
    gate.open()
    with pytest.raises(pgml.APIConnectionError):
        await stream.rest()


@pytest.mark.parametrize("steps", [[], [head()]], ids=["silent", "head"])
async def test_a_timeout(twice: Call, engine: Engine, steps: list[bytes]) -> None:
    exchange = engine.expect(steps, HANG)
    with pytest.raises(pgml.APITimeoutError, match="timeout"):
        await twice.create("scripted", QUESTION, timeout=0.3)
    exchange.wait_gone()


async def test_a_timeout_is_for_each_chunk(twice: Call, engine: Engine) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    stream = await twice.stream("scripted", QUESTION, timeout=0.3)
    assert (await stream.next()).choices[0].delta.content == "a"
    with pytest.raises(pgml.APITimeoutError, match="timeout"):
        await stream.next()
    exchange.wait_gone()


async def test_a_client_with_other_options(call: Call, engine: Engine) -> None:
    assert call.client.max_retries == 0
    other = call.of(call.client.with_options(max_retries=1, timeout=30))
    assert (other.client.max_retries, other.client.timeout) == (1, 30)
    engine.expect(PASSING["503"])
    engine.expect(answer("hello"))
    assert (await other.create("scripted", QUESTION)).choices[0].message.content == "hello"
    assert call.client.max_retries == 0


@pytest.mark.parametrize("setting", ["timeout", "max_retries"])
async def test_settings_out_of_range(call: Call, setting: str) -> None:
    with pytest.raises(ValueError, match=f"^{setting}: must be"):
        call.client.with_options(**{setting: -1})
