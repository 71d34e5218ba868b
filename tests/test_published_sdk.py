"""The SDK that PostgresML published, version 1.1.1, against our extension."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import PATIENCE, QUESTION, environment
from engine import Engine, answer

VERSION = "1.1.1"

SCRIPT = """
import asyncio, json, os, sys
import pgml

model, messages = json.loads(sys.argv[1])
client = pgml.OpenSourceAI()


async def asynchronously():
    whole = await client.chat_completions_create_async(model, messages, max_tokens=6)
    stream = await client.chat_completions_create_stream_async(model, messages, max_tokens=6)
    return whole, [chunk async for chunk in stream]


whole = client.chat_completions_create(model, messages, max_tokens=6, temperature=0.85)
stream = list(client.chat_completions_create_stream(model, messages, max_tokens=6))
print(json.dumps([[whole, stream], asyncio.run(asynchronously())]), flush=True)
# At an orderly exit that version sometimes aborts: its thread still calls into Python.
os._exit(0)
"""


@pytest.fixture(scope="session")
def published_python() -> Path:
    """The interpreter of an environment that has the published SDK, made once."""
    directory = Path(sys.prefix) / "published-sdk"
    python = directory / "bin" / "python"
    done = directory / VERSION
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--no-input", f"pgml=={VERSION}"]
        subprocess.run([*install, "--disable-pip-version-check"], check=True)
        done.touch()
    return python


def run(python: Path, url: str, model: dict[str, Any]) -> list[Any]:
    finished = subprocess.run(
        [python, "-I", "-c", SCRIPT, json.dumps([model, QUESTION])],
        stdout=subprocess.PIPE,
        text=True,
        timeout=2 * PATIENCE,
        check=True,
        env=environment(DATABASE_URL=url),
    )
    answers: list[Any] = json.loads(finished.stdout.splitlines()[-1])
    return answers


def test_the_real_model(published_python: Path, database_url: str, model: str) -> None:
    asked = {"model": model, "device_map": "auto", "revision": "main"}
    for whole, stream in run(published_python, database_url, asked):
        assert whole["object"] == "chat.completion"
        assert whole["choices"][0]["message"]["role"] == "assistant"
        assert whole["choices"][0]["message"]["content"]
        assert {chunk["object"] for chunk in stream} == {"chat.completion.chunk"}
        assert 1 < len(stream) <= 6
        assert all(chunk["choices"][0]["delta"]["content"] for chunk in stream)


def test_what_the_engine_is_asked(
    published_python: Path, database_url: str, engine: Engine, admin: psycopg.Connection[Any]
) -> None:
    exchanges = [engine.expect(answer("Ahoy", "!")) for _ in range(4)]
    for whole, stream in run(published_python, database_url, {"model": "scripted"}):
        assert whole["choices"][0]["message"]["content"] == "Ahoy!"
        assert [chunk["choices"][0]["delta"]["content"] for chunk in stream] == ["Ahoy", "!"]
    for exchange in exchanges:
        assert exchange.path == "/v1/chat/completions"
        assert exchange.body["messages"] == QUESTION
        assert exchange.body["max_tokens"] == 6
    temperatures = [round(exchange.body["temperature"], 6) for exchange in exchanges]
    assert temperatures == [0.85, 0.8, 0.8, 0.8]
