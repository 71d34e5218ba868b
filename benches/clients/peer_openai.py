"""The openai package, straight at the engine: no database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
from common import MESSAGES, Job, main


class Sync:
    count = None

    def __init__(self, job: Job) -> None:
        self._client = openai.OpenAI(base_url=job["base_url"], api_key="none", max_retries=0)

    def stream(self, model: str) -> Iterator[Any]:
        return self._client.chat.completions.create(model=model, messages=MESSAGES, stream=True)

    def text(self, item: Any) -> str:
        return (item.choices[0].delta.content or "") if item.choices else ""

    def complete(self, model: str, _: int) -> str:
        completion = self._client.chat.completions.create(model=model, messages=MESSAGES)
        return completion.choices[0].message.content


class Async(Sync):
    def __init__(self, job: Job) -> None:
        http = None
        if job.get("socket"):
            from httpx2 import AsyncHTTPTransport

            transport = AsyncHTTPTransport(uds=job["socket"])
            http = openai.DefaultAsyncHttpxClient(transport=transport)
        self._client = openai.AsyncOpenAI(
            base_url=job["base_url"], api_key="none", max_retries=0, http_client=http
        )

    async def stream(
        self, model: str, messages: Any = MESSAGES, **parameters: Any
    ) -> AsyncIterator[Any]:
        return await self._client.chat.completions.create(
            model=model, messages=messages, stream=True, **parameters
        )

    async def complete(self, model: str, _: int) -> str:
        completion = await self._client.chat.completions.create(model=model, messages=MESSAGES)
        return completion.choices[0].message.content


if __name__ == "__main__":
    main(Sync, Async)
