"""pgml: ours, and the published one, which has the same methods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pgml
from common import MESSAGES, Job, main


class Sync:
    count = None

    def __init__(self, job: Job) -> None:
        settings = {}
        # The published one takes nothing but the URL, and a model as an object.
        self._published = job["published"]
        if not self._published and job.get("concurrent"):
            settings["max_connections"] = job["concurrent"]
        self._client = pgml.OpenSourceAI(job["url"], **settings)

    def _model(self, name: str) -> Any:
        return {"model": name} if self._published else name

    def stream(self, model: str) -> Iterator[Any]:
        return self._client.chat_completions_create_stream(self._model(model), MESSAGES)

    def text(self, item: Any) -> str:
        return item["choices"][0]["delta"].get("content") or ""

    def complete(self, model: str, _: int) -> str:
        completion = self._client.chat_completions_create(self._model(model), MESSAGES)
        return completion["choices"][0]["message"]["content"]


class Async(Sync):
    async def stream(
        self, model: str, messages: Any = MESSAGES, **parameters: Any
    ) -> AsyncIterator[Any]:
        return await self._client.chat_completions_create_stream_async(
            self._model(model), messages, **parameters
        )

    async def complete(self, model: str, _: int) -> str:
        completion = await self._client.chat_completions_create_async(self._model(model), MESSAGES)
        return completion["choices"][0]["message"]["content"]


if __name__ == "__main__":
    main(Sync, Async)
