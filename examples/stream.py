"""Stream an answer, and say how fast it came.

    python examples/stream.py 'How many helicopters can a human eat in one sitting?'

The database is that of DATABASE_URL, or the local instance.
"""

from __future__ import annotations

import sys
import time

import pgml

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def main() -> None:
    question = " ".join(sys.argv[1:]) or "How many helicopters can a human eat in one sitting?"
    client = pgml.OpenSourceAI()
    asked = time.perf_counter()
    with client.chat_completions_create_stream(
        MODEL,
        [{"role": "user", "content": question}],
        max_tokens=60,
        stream_options={"include_usage": True},
    ) as stream:
        first = time.perf_counter() - asked
        for chunk in stream:
            for choice in chunk.choices:  # the closing chunk, with the usage, has none
                print(choice.delta.content or "", end="", flush=True)
            if chunk.usage:
                tokens = chunk.usage.completion_tokens
    took = time.perf_counter() - asked
    print(f"\n{tokens} tokens, the first after {first:.2f} s, all after {took:.2f} s")


if __name__ == "__main__":
    main()
