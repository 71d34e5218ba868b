"""Results as FastAPI's return types, and as fields of pydantic's models."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pgml
from conftest import QUESTION
from engine import Engine, answer
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, TypeAdapter


def get(app: FastAPI, path: str) -> tuple[int, bytes]:
    """Ask an application, as a server for ASGI does."""
    sent: list[dict[str, Any]] = []

    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        if message := next(received, None):
            return message
        return await asyncio.get_running_loop().create_future()  # the client stays connected

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [],
        "scheme": "http", "server": ("testserver", 80), "client": ("testclient", 1),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], body


def test_a_completion_is_a_return_type(client: pgml.OpenSourceAI, engine: Engine) -> None:
    app = FastAPI()

    @app.get("/answer")
    async def ask() -> pgml.ChatCompletion:
        return await client.chat_completions_create_async("scripted", QUESTION)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        chunks = await client.chat_completions_create_stream_async("scripted", QUESTION)
        return StreamingResponse(chunk.model_dump_json() + "\n" async for chunk in chunks)

    engine.expect(answer("hello"))
    status, body = get(app, "/answer")
    assert status == 200
    assert json.loads(body)["choices"][0]["message"]["content"] == "hello"
    engine.expect(answer("a", "b"))
    status, body = get(app, "/stream")
    deltas = [json.loads(line)["choices"][0]["delta"] for line in body.splitlines()]
    assert "".join(delta.get("content") or "" for delta in deltas) == "ab"

    content = app.openapi()["paths"]["/answer"]["get"]["responses"]["200"]["content"]
    described = content["application/json"]["schema"]
    assert {"id", "choices", "created", "model", "object"} <= set(described["required"])


def test_a_completion_is_a_field(client: pgml.OpenSourceAI, engine: Engine) -> None:
    class Saved(BaseModel):
        note: str
        completion: pgml.ChatCompletion

    engine.expect(answer("hello"))
    completion = client.chat_completions_create("scripted", QUESTION)
    saved = Saved(note="n", completion=completion)
    again = Saved.model_validate_json(saved.model_dump_json())
    assert again.completion.choices[0].message.content == "hello"
    assert type(again.completion) is pgml.ChatCompletion
    assert TypeAdapter(list[pgml.ChatCompletion]).validate_python([completion])[0] == completion
