"""What users get wrong. mypy and pyright find each line marked so, and no other."""

import asyncio

import pgml
from pgml.types import Parameters

client = pgml.OpenSourceAI()
async_client = pgml.AsyncOpenSourceAI()
MODEL = "m"
HI = [{"role": "user", "content": "hi"}]

pgml.OpenSourceAI(timeout="10")  # error
pgml.OpenSourceAI(api_key="sk-…")  # error
pgml.OpenSourceAI(streaming="pull")  # error
pgml.OpenSourceAi()  # error
client.with_options(retries=2)  # error
client.copy(base_url="http://localhost")  # error

client.chat_completions_create(MODEL)  # error
client.chat_completions_create(MODEL, "hi")  # error
client.chat_completions_create(MODEL, ["hi"])  # error
client.chat_completions_create(7, HI)  # error
client.chat_completions_create(MODEL, HI, max_token=5)  # error
client.chat_completions_create(MODEL, HI, max_tokens="5")  # error
client.chat_completions_create(MODEL, HI, temperature="hot")  # error
client.chat_completions_create(MODEL, HI, n=None)  # error
client.chat_completions_create(MODEL, HI, stream=True)  # error
client.chat_completions_create(MODEL, HI, top_k=1)  # error
client.chat_completions_create(MODEL, HI, stop=3)  # error
client.chat_completions_create(MODEL, HI, seed=1.5)  # error
client.chat_completions_create(MODEL, HI, verbosity="loud")  # error
client.chat_completions_create(MODEL, HI, logit_bias={15: -100})  # error
client.chat_completions_create(MODEL, HI, response_format="json")  # error
client.chat_completions_create(MODEL, HI, stream_options={"usage": True})  # error
client.chat_completions_create(MODEL, HI, 1, 0.5, 1, None, 3.0)  # error
client.chat.completions.create(MODEL, HI)  # error
client.chat.completions.create(model=MODEL, messages=HI, stream="yes")  # error
client.chat.completions.create(model=MODEL, messages=HI, tools={"type": "function"})  # error
client.chat.completions.create(model=MODEL, messages=HI, tool_choice="always")  # error
client.chat.completions.create(model=MODEL, messages=HI, timeout="10")  # error
client.chat.completions.create(model=MODEL, messages=HI, extra_headers="x: y")  # error
client.chat.completions.with_raw_answer  # error  # noqa: B018
client.chat.completions.parse(MODEL, HI, int)  # error
client.chat.completions.parse(model=MODEL, messages=HI, response_format="json")  # error
client.chat.completions.parse(model=MODEL, messages=HI, stream=True)  # error
client.chat.completions.parse(model=MODEL, messages=HI, top_k=1)  # error
client.chat.completions.stream(model=MODEL, messages=HI, top_k=1)  # error
for _ in client.chat.completions.stream(model=MODEL, messages=HI):  # error
    pass
pgml.pydantic_function_tool("Weather")  # error
client.responses  # error  # noqa: B018
client.models.list().next  # error  # noqa: B018
sampling: Parameters = {"top_q": 0.5}  # error

completion = client.chat_completions_create(MODEL, HI)
completion.choices["first"]  # error
completion.choices[0].message.content.strip()  # error
completion.choices[0].message.tool_calls[0]  # error
completion.usage.total_tokens  # error  # noqa: B018
completion.choices[0].logprobs.content  # error  # noqa: B018
number: int = completion.choices[0].message.content  # error
if completion.choices[0].finish_reason == "stopped":  # error
    print("never")

stream = client.chat.completions.create(model=MODEL, messages=HI, stream=True)
stream.choices  # error  # noqa: B018
stream[0]  # error
next(stream).choices[0].delta.content + "!"  # error
print(len(stream))  # error


async def forgetful() -> None:
    awaited = await client.chat_completions_create_async(MODEL, HI)
    print(awaited.id)
    print(client.chat_completions_create_async(MODEL, HI).id)  # error
    await client.chat_completions_create(MODEL, HI)  # error
    print(async_client.chat.completions.create(model=MODEL, messages=HI).id)  # error
    pieces = await async_client.chat.completions.create(model=MODEL, messages=HI, stream=True)
    for _ in pieces:  # error
        pass
    async for _ in client.chat_completions_create_stream(MODEL, HI):  # error
        pass
    with pieces:  # error
        pass
    with async_client:  # error
        pass
    async_client.close().real  # error  # noqa: B018


asyncio.run(forgetful())

try:
    client.chat_completions_create(MODEL, HI)
except pgml.RateLimitErr:  # error
    pass
except pgml.APIError as error:
    print(error.sql_state)  # error
