"""Completions: OpenAI's shape, true numbers, and every parameter really in force."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pgml
import psycopg
import pytest
from conftest import COUNT, QUESTION, Call, Slots, text
from engine import DONE, ROLE, Engine, answer, chunk, ending, event, head, usage
from openai.types.chat import ChatCompletion as OpenAICompletion
from openai.types.chat import ChatCompletionChunk as OpenAIChunk
from pgml import local

ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""


async def test_a_completion_has_the_shape_of_openai(call: Call, model: str) -> None:
    completion = await call.create(model, QUESTION, max_tokens=5)
    assert type(completion) is pgml.ChatCompletion
    # Beside OpenAI's fields, what llama.cpp adds.
    assert set(completion) == {
        *("id", "object", "created", "model", "system_fingerprint", "choices", "usage"),
        "timings",
    }
    assert completion["object"] == "chat.completion"
    assert completion["model"] == model
    assert type(completion["created"]) is int
    assert completion["id"].startswith("chatcmpl-")
    (choice,) = completion["choices"]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
    assert set(choice["message"]) == {"role", "content"}
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]


async def test_openai_types_take_what_comes(call: Call, model: str) -> None:
    completion = await call.create(model, QUESTION, max_tokens=5, n=2)
    assert OpenAICompletion.model_validate(completion).choices[1].finish_reason == "length"
    stream = await call.stream(
        model, QUESTION, max_tokens=5, stream_options={"include_usage": True}
    )
    for chunk_ in await stream.rest():
        OpenAIChunk.model_validate(chunk_)


async def test_length_and_usage_are_true(call: Call, model: str, slots: Slots) -> None:
    completion = await call.create(model, QUESTION, max_tokens=5)
    assert completion.choices[0].finish_reason == "length"
    counted = slots.post("/v1/chat/completions", {"messages": QUESTION, "max_tokens": 1})
    assert completion.usage.prompt_tokens == counted["usage"]["prompt_tokens"]
    assert completion.usage.completion_tokens == 5
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + 5


async def test_stop_is_true(call: Call, model: str) -> None:
    question = [{"role": "user", "content": "Say: one two three four five six"}]
    completion = await call.create(model, question, temperature=0, max_tokens=64, stop=["three"])
    assert completion.choices[0].finish_reason == "stop"
    assert "three" not in completion.choices[0].message.content
    assert completion.usage.completion_tokens < 64


async def test_n_choices_are_n_answers(call: Call, model: str) -> None:
    completion = await call.create(model, QUESTION, max_tokens=12, temperature=1.5, n=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert [choice.message.role for choice in completion.choices] == ["assistant"] * 3
    assert len({choice.message.content for choice in completion.choices}) > 1
    # At this temperature the model may end a choice a little earlier.
    assert 24 < completion.usage.completion_tokens <= 36
    single = await call.create(model, QUESTION, max_tokens=1)
    assert completion.usage.prompt_tokens == single.usage.prompt_tokens


async def test_n_choices_are_streamed(call: Call, model: str) -> None:
    chunks = await (await call.stream(model, QUESTION, max_tokens=4, n=3, temperature=1.5)).rest()
    choices = [choice for chunk_ in chunks for choice in chunk_["choices"]]
    for index in range(3):
        own = [choice for choice in choices if choice["index"] == index]
        assert [choice["delta"].get("role") for choice in own] == (
            ["assistant"] + [None] * (len(own) - 1)
        )
        assert own[-1]["finish_reason"] == "length"
        assert text(chunks, index)
    assert {choice["index"] for choice in choices} == {0, 1, 2}


async def test_n_with_one_seed_can_be_repeated(call: Call, model: str) -> None:
    settings: dict[str, Any] = {"max_tokens": 8, "temperature": 1.2, "n": 2, "seed": 3}
    first, second = [
        [
            choice.message.content
            for choice in (await call.create(model, QUESTION, **settings)).choices
        ]
        for _ in range(2)
    ]
    assert first == second
    assert first[0] != first[1]


@pytest.mark.parametrize("seed", [7, -1, 2**63])
async def test_each_choice_has_a_seed_of_its_own(call: Call, engine: Engine, seed: int) -> None:
    exchanges = [engine.expect(answer("a")) for _ in range(3)]
    await call.create("scripted", QUESTION, n=3, seed=seed)
    assert sorted(exchange.body["seed"] for exchange in exchanges) == [seed, seed + 1, seed + 2]


async def test_temperature_and_seed_decide(call: Call, model: str) -> None:
    async def say(**settings: Any) -> str:
        completion = await call.create(model, QUESTION, max_tokens=8, **settings)
        return completion.choices[0].message.content

    assert await say(temperature=0) == await say(temperature=0)
    assert await say(temperature=1.5, seed=1) == await say(temperature=1.5, seed=1)
    assert await say(temperature=1.5, seed=1) != await say(temperature=1.5, seed=2)


async def test_the_engine_gets_what_was_asked(call: Call, engine: Engine) -> None:
    exchange = engine.expect(answer("hi"))
    completion = await call.create(
        "scripted",
        QUESTION,
        max_tokens=9,
        temperature=0.85,
        top_p=0.5,
        stop=["x"],
        extra_body={"top_k": 3},
    )
    assert completion.model == "scripted"
    assert completion.system_fingerprint == "fp_engine"
    assert completion.id != "chatcmpl-engine"
    assert (exchange.method, exchange.path) == ("POST", "/v1/chat/completions")
    assert exchange.headers["x-request-id"] == completion.id
    assert "authorization" not in exchange.headers
    assert exchange.body == {
        "model": "engine-model",
        "messages": QUESTION,
        "max_tokens": 9,
        "temperature": 0.85,
        "top_p": 0.5,
        "stop": ["x"],
        "top_k": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_the_defaults_are_those_of_the_spec(call: Call, engine: Engine) -> None:
    exchange = engine.expect(answer("hi"))
    await call.create("scripted", QUESTION)
    assert exchange.body["temperature"] == 0.8
    assert exchange.body.keys() == {
        *("model", "messages", "temperature", "stream", "stream_options")
    }


async def test_arguments_may_stand_in_the_order_of_the_spec(call: Call, engine: Engine) -> None:
    exchange = engine.expect(answer("hi"))
    await call.create("scripted", QUESTION, 12, 0.25, 1, "{{ messages[0].content }}!")
    assert exchange.path == "/v1/completions"
    assert exchange.body["max_tokens"] == 12
    assert exchange.body["temperature"] == 0.25
    assert exchange.body["prompt"] == QUESTION[0]["content"] + "!"


def counts(completion: Any) -> dict[str, Any]:
    return {name: value for name, value in completion.usage.items() if name != "resources"}


async def test_usage_tells_what_a_request_cost(call: Call, model: str) -> None:
    """The real model: its engine's process is one of this machine."""
    resources = (
        await call.create(model, QUESTION, max_tokens=8, extra_body={"resources": True})
    ).usage.resources
    times = ["first_token_ms", "prompt_ms", "completion_ms", "total_ms", "engine_cpu_ms"]
    assert all(resources[name] > 0 for name in [*times, "tokens_per_second", "backend_cpu_ms"])
    assert resources["first_token_ms"] < resources["total_ms"]
    assert resources["prompt_ms"] < resources["total_ms"]
    assert resources["basis"] == "measured"
    assert (resources["queue_ms"], resources["energy_j"]) == (None, None)
    unasked = await call.create(model, QUESTION, max_tokens=1)
    assert "resources" not in unasked.usage


async def test_an_engines_time_is_apportioned_to_its_requests(call: Call, model: str) -> None:
    asked = [
        call.stream(
            model,
            QUESTION,
            max_tokens=n,
            stream_options={"include_usage": True},
            extra_body={"resources": True},
        )
        for n in (40, 10)
    ]
    streams = [await stream for stream in asked]
    ends = [(await stream.rest())[-1].usage for stream in streams]
    first, second = (usage.resources for usage in ends)
    assert (first["basis"], second["basis"]) == ("apportioned", "apportioned")
    assert 0 < second["engine_cpu_ms"] < first["engine_cpu_ms"]


async def test_usage_is_summed_over_choices(call: Call, engine: Engine) -> None:
    engine.expect(answer("one", prompt=10, completion=2, finish_reason="length"))
    engine.expect(answer("two", prompt=10, completion=5))
    completion = await call.create("scripted", QUESTION, n=2)
    assert [choice.message.content for choice in completion.choices] == ["one", "two"]
    assert [choice.finish_reason for choice in completion.choices] == ["length", "stop"]
    assert counts(completion) == {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}


async def test_model_object(call: Call, engine: Engine, admin: psycopg.Connection) -> None:
    admin.execute("INSERT INTO pgml.models VALUES ('scripted@v2', 'standin', 'engine-model-2')")
    for revision, served in (
        ("v2", "engine-model-2"),
        ("v3", "engine-model"),
        (None, "engine-model"),
    ):
        exchange = engine.expect(answer("hi"))
        asked = {
            "model": "scripted",
            "revision": revision,
            "device_map": "auto",
            "torch_dtype": "bfloat16",
            "trust_remote_code": True,
        }
        given = copy.deepcopy(asked)
        completion = await call.create(asked, QUESTION)
        assert completion.model == "scripted"
        assert exchange.body["model"] == served
        assert asked == given


async def test_a_token_never_reaches_the_database(
    call: Call,
    engine: Engine,
    role: Callable[..., str],
    admin: psycopg.Connection,
    instance: local.Status,
) -> None:
    url = role("logged")
    admin.execute("ALTER ROLE logged SET log_statement = 'all'")
    admin.execute("ALTER ROLE logged SET log_min_duration_statement = 0")
    admin.execute("GRANT USAGE ON FOREIGN SERVER standin TO logged")
    client = pgml.OpenSourceAI(url)
    exchange = engine.expect(answer("hi"))
    asked = {"model": "scripted", "revision": "r-1234", "token": "hf_SUPER_SECRET"}
    await call.of(client).create(asked, QUESTION)
    assert asked["token"] == "hf_SUPER_SECRET"
    log = (instance.home / "log" / "postgres.log").read_text()
    assert "r-1234" in log, "the request is in the log"
    assert "SUPER_SECRET" not in log
    seen = admin.execute("SELECT query FROM pg_stat_activity").fetchall()
    assert "SUPER_SECRET" not in str(seen)
    assert "SUPER_SECRET" not in json.dumps(exchange.body) + str(exchange.headers)


async def test_a_template_is_applied(call: Call, engine: Engine) -> None:
    messages = [{"role": "system", "content": "Be a pirate."}, *QUESTION]
    body = json.dumps({"bos_token": "<s>", "eos_token": "</s>"})
    asked = engine.expect(
        head(200, "application/json", Content_Length=str(len(body))), body.encode()
    )
    completed = engine.expect(
        head(),
        event({"choices": [{"index": 0, "text": "Ahoy", "finish_reason": None}]}),
        event({"choices": [{"index": 0, "text": "!", "finish_reason": "stop"}]}),
        usage(20, 2),
        DONE,
    )
    completion = await call.create("scripted", messages, chat_template=ZEPHYR)
    assert completion.choices[0].message == {"role": "assistant", "content": "Ahoy!"}
    assert (asked.method, asked.path) == ("GET", "/props")
    assert completed.path == "/v1/completions"
    assert "messages" not in completed.body
    assert "chat_template" not in completed.body
    assert completed.body["prompt"] == (
        f"<|system|>\nBe a pirate.</s>\n<|user|>\n{QUESTION[0]['content']}</s>\n<|assistant|>\n"
    )


async def test_a_template_without_special_tokens_asks_for_none(call: Call, engine: Engine) -> None:
    completed = engine.expect(answer("hi"))
    template = "{% for m in messages %}{{ m.role | upper }}: {{ m.content }}\n{% endfor %}A:"
    await call.create("scripted", QUESTION, chat_template=template)
    assert completed.body["prompt"] == f"USER: {QUESTION[0]['content']}\nA:"


async def test_an_engine_without_properties_has_no_special_tokens(
    call: Call, engine: Engine
) -> None:
    engine.expect(head(404, "text/plain", Content_Length="0"))
    completed = engine.expect(answer("hi"))
    await call.create("scripted", QUESTION, chat_template="[{{ eos_token }}{{ bos_token }}]")
    assert completed.body["prompt"] == "[]"


async def test_a_template_changes_what_the_real_model_is_told(
    call: Call, model: str, slots: Slots
) -> None:
    # The template hides the question and asks another one, between the model's own marks.
    start = "<|im_start|>user\nWhat is the capital of France?"
    end = "\n<|im_start|>assistant\n"
    template = f"{start}{{{{ eos_token }}}}{end}{{{{ '' }}}}"
    settings: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
    completion = await call.create(model, QUESTION, chat_template=template, **settings)
    assert "Paris" in completion.choices[0].message.content
    chunks = await (await call.stream(model, QUESTION, chat_template=template, **settings)).rest()
    assert text(chunks) == completion.choices[0].message.content
    without = await call.create(model, QUESTION, **settings)
    assert "Paris" not in without.choices[0].message.content
    # Token for token what the template says: nothing is added to it, and nothing taken away.
    asked = start + slots.get("/props")["eos_token"] + end
    counted = slots.post("/tokenize", {"content": asked, "add_special": False})["tokens"]
    assert completion.usage.prompt_tokens == len(counted)


async def test_the_models_own_template_is_its_template(
    call: Call, model: str, slots: Slots
) -> None:
    template = slots.get("/props")["chat_template"]
    settings: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
    own = await call.create(model, COUNT, **settings)
    given = await call.create(model, COUNT, chat_template=template, **settings)
    assert given.choices[0].message.content == own.choices[0].message.content
    assert given.usage.total_tokens == own.usage.total_tokens


async def test_tool_calls_come_whole(call: Call, engine: Engine) -> None:
    def piece(finish_reason: str | None = None, **call_: Any) -> bytes:
        delta = {"tool_calls": [{"index": 0, **call_}]} if call_ else {}
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return event({"choices": [choice]})

    engine.expect(
        head(),
        ROLE,
        piece(id="call_1", type="function", function={"name": "weather", "arguments": ""}),
        piece(function={"arguments": '{"city": '}),
        piece(function={"arguments": '"Oslo"}'}),
        piece("tool_calls"),
        usage(9, 4),
        DONE,
    )
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    completion = await call.create("scripted", QUESTION, tools=[tool])
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls[0].function.arguments == '{"city": "Oslo"}'
    assert choice.message["tool_calls"] == [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
        }
    ]
    # And back into a conversation, as a dict and as an object of the openai package.
    message = OpenAICompletion.model_validate(completion).choices[0].message
    for assistant in (choice.message, message):
        result = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
        exchange = engine.expect(answer("It rains."))
        await call.create("scripted", [*QUESTION, assistant, result])
        assert exchange.body["messages"][1]["tool_calls"][0]["id"] == "call_1"


async def test_all_text_survives_the_way(call: Call, engine: Engine) -> None:
    said = 'naïve 日本 🚁 "quoted" \\ \n\t\x7f {}%s $1 \'; DROP TABLE x; --'
    exchange = engine.expect(answer(said))
    completion = await call.create("scripted", [{"role": "user", "content": said}])
    assert exchange.body["messages"][0]["content"] == said
    assert completion.choices[0].message.content == said


async def test_an_alias_is_the_name_that_comes_back(
    call: Call, model: str, admin: psycopg.Connection
) -> None:
    admin.execute(
        "INSERT INTO pgml.models SELECT 'alias of it', server, engine_model "
        "FROM pgml.models WHERE name = %s",
        [model],
    )
    try:
        completion = await call.create("alias of it", QUESTION, max_tokens=1)
        assert completion.model == "alias of it"
        chunks = await (await call.stream("alias of it", QUESTION, max_tokens=1)).rest()
        assert {chunk_.model for chunk_ in chunks} == {"alias of it"}
    finally:
        admin.execute("DELETE FROM pgml.models WHERE name = 'alias of it'")


def test_a_completion_is_a_dict(client: pgml.OpenSourceAI, engine: Engine) -> None:
    engine.expect(answer("hi"))
    completion = client.chat_completions_create("scripted", QUESTION)
    plain = json.loads(json.dumps(completion))
    assert completion == plain
    assert repr(completion) == repr(plain)
    assert completion["choices"][0]["message"]["content"] == "hi"
    assert completion.choices[0].message.content == "hi"
    assert type(completion.choices[0]) is pgml.objects.Choice
    assert completion.choices[0].message.refusal is None
    with pytest.raises(AttributeError, match="'ChatCompletion' object has no attribute 'chioces'"):
        _ = completion.chioces
    for copied in (copy.copy(completion), copy.deepcopy(completion), completion.copy()):
        assert type(copied) is pgml.ChatCompletion
        assert copied == completion
    again = pickle.loads(pickle.dumps(completion))
    assert type(again) is pgml.ChatCompletion
    assert again.choices[0].message.content == "hi"
    assert completion.to_dict() == completion.model_dump(exclude_unset=True) == plain
    assert type(completion.to_dict()["choices"][0]) is dict
    assert json.loads(completion.to_json()) == plain
    completion.choices[0].message.content = "bye"
    assert completion["choices"][0]["message"]["content"] == "bye"


def test_a_chunk_is_a_dict(client: pgml.OpenSourceAI, engine: Engine) -> None:
    engine.expect(head(), chunk("a"), chunk("b"), ending())
    chunks = list(client.chat_completions_create_stream("scripted", QUESTION))
    assert chunks[1].choices[0].delta.role is None
    assert "role" not in chunks[1]["choices"][0]["delta"]
    again = pickle.loads(pickle.dumps(chunks))
    assert again == chunks
    assert type(again[0]) is pgml.ChatCompletionChunk


def test_a_client_names_its_database_without_the_password() -> None:
    client = pgml.OpenSourceAI("postgresql://app:s3cret@db.example:6432/chat")
    assert repr(client) == '<OpenSourceAI of database "chat" at db.example:6432>'


@pytest.mark.parametrize("variable", ["DATABASE_URL", "PGML_DATABASE_URL"])
def test_the_environment_names_the_database(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("PGML_DATABASE_URL", "postgresql://app@second/chat")
    monkeypatch.setenv(variable, "postgresql://app@first/chat")
    assert "first" in repr(pgml.OpenSourceAI())
    assert "argument" in repr(pgml.OpenSourceAI("postgresql://app@argument/chat"))
