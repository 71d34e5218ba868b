"""Ask many questions at a time over one client, and print the answers in the order they come.

    python examples/async_many.py

The engine answers them together; the number under way is bounded, so that a long list neither
waits too long for a connection nor overruns the engine.
"""

from __future__ import annotations

import asyncio

import pgml

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
AT_A_TIME = 4
COLOURS = ["red", "green", "blue", "yellow", "black", "white"]


async def main() -> None:
    client = pgml.OpenSourceAI()
    free = asyncio.Semaphore(AT_A_TIME)

    async def ask(colour: str) -> tuple[str, str]:
        async with free:
            completion = await client.chat_completions_create_async(
                MODEL,
                [{"role": "user", "content": f"Name one thing that is {colour}."}],
                max_tokens=12,
            )
        return colour, completion.choices[0].message.content or ""

    for answer in asyncio.as_completed([ask(colour) for colour in COLOURS]):
        try:
            colour, content = await answer
        except pgml.APIError as error:  # one that fails leaves the others alone
            print(f"failed: {error.message}")
        else:
            print(f"{colour}: {content}")


if __name__ == "__main__":
    asyncio.run(main())
