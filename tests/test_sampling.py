"""Parameters of how tokens are chosen and told of, in force on the real model."""

from __future__ import annotations

from typing import Any

import pgml
import pytest
from asked import FRUITS, honours, said
from conftest import QUESTION, Call, Slots
from engine import ROLE, Engine, ending, event, head


@honours("max_tokens", "max_completion_tokens")
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("template", [None, "{{ messages[0].content }}"])
def test_a_limit_of_tokens(
    client: pgml.OpenSourceAI, model: str, name: str, template: str | None
) -> None:
    completion = client.chat_completions_create(
        model, FRUITS, temperature=0, chat_template=template, **{name: 3}
    )
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 3


@honours("temperature", "top_p")
def test_the_top_of_all_tokens_alone(client: pgml.OpenSourceAI, model: str) -> None:
    greedy = client.chat_completions_create(model, FRUITS, 20, 0)
    for seed in (1, 2):
        hot = client.chat_completions_create(model, FRUITS, 20, 2, seed=seed)
        assert said(hot) != said(greedy)
        # However hot: of the likeliest tokens that make up a millionth there is one only.
        top = client.chat_completions_create(model, FRUITS, 20, 2, top_p=1e-6, seed=seed)
        assert said(top) == said(greedy)


@honours("stop")
def test_stop(client: pgml.OpenSourceAI, model: str) -> None:
    whole = said(client.chat_completions_create(model, FRUITS, 20, 0))
    first, second = whole.split()[1], whole.split()[2]
    for stop in (first, [first], [second, first], (first, second)):
        completion = client.chat_completions_create(model, FRUITS, 20, 0, stop=stop)
        assert said(completion) == whole[: whole.index(first)]
        assert completion.choices[0].finish_reason == "stop"
        streamed = client.chat_completions_create_stream(model, FRUITS, 20, 0, stop=stop)
        text = "".join(c.choices[0].delta.content or "" for c in streamed if c.choices)
        assert text == whole[: whole.index(first)]


@honours("seed")
def test_seed(client: pgml.OpenSourceAI, model: str) -> None:
    def create(seed: int) -> str:
        return said(client.chat_completions_create(model, FRUITS, 20, 1.5, seed=seed))

    assert create(7) == create(7)
    assert len({create(7), create(8), create(9)}) > 1
    assert create(2**63 - 1)


@honours("frequency_penalty", "presence_penalty")
@pytest.mark.parametrize("name", ["frequency_penalty", "presence_penalty"])
def test_a_penalty_on_repetition(client: pgml.OpenSourceAI, model: str, name: str) -> None:
    again = [{"role": "user", "content": "Repeat the word banana forty times."}]

    def repetitions(penalty: float) -> int:
        words = said(client.chat_completions_create(model, again, 40, 0, **{name: penalty})).split()
        return max(words.count(word) for word in words)

    assert repetitions(2) < repetitions(0)


@honours("logit_bias")
def test_logit_bias(client: pgml.OpenSourceAI, model: str, slots: Slots) -> None:
    (banana,) = slots.post("/tokenize", {"content": " banana"})["tokens"]
    forced = client.chat_completions_create(model, FRUITS, 3, 0, logit_bias={str(banana): 100})
    assert said(forced) == " banana banana banana"

    greedy = said(client.chat_completions_create(model, FRUITS, 1, 0))
    (likeliest,) = slots.post("/tokenize", {"content": greedy})["tokens"]
    banned = client.chat_completions_create(model, FRUITS, 1, 0, logit_bias={str(likeliest): -100})
    assert said(banned) != greedy


def check_logprobs(tokens: list[Any], text: str, count: int) -> None:
    assert "".join(token.token for token in tokens) == text
    for token in tokens:
        assert bytes(token.bytes).decode() == token.token
        assert token.logprob <= 0
        assert len(token.top_logprobs) == count
        ranked = [top.logprob for top in token.top_logprobs]
        assert ranked == sorted(ranked, reverse=True)
        if count:
            # At temperature 0 the likeliest is taken.
            assert token.top_logprobs[0].token == token.token


@honours("logprobs", "top_logprobs")
@pytest.mark.parametrize("template", [None, "{{ messages[0].content }}"])
@pytest.mark.parametrize("count", [None, 0, 1, 3])
def test_logprobs(
    client: pgml.OpenSourceAI, model: str, count: int | None, template: str | None
) -> None:
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": count, "chat_template": template}
    completion = client.chat_completions_create(model, FRUITS, 4, 0, **asked)
    check_logprobs(completion.choices[0].logprobs.content, said(completion), count or 0)
    chunks = list(client.chat_completions_create_stream(model, FRUITS, 4, 0, **asked))
    tokens = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    check_logprobs(tokens, said(completion), count or 0)


async def test_a_token_that_is_part_of_a_letter_has_logprobs(call: Call, engine: Engine) -> None:
    """Its bytes say something, while its text has to wait for the next token."""

    def token(text: str, number: int, content: str) -> bytes:
        this = {"token": text, "bytes": [number], "logprob": -1.0}
        logprobs = {"content": [{**this, "top_logprobs": [this]}]}
        choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
        return event({"choices": [{**choice, "logprobs": logprobs}]})

    script = [head(), ROLE, token("\\xc3", 0xC3, ""), token("\\xbc", 0xBC, "ü"), *ending()]
    exchange = engine.expect(script)
    whole = (await call.create("scripted", QUESTION, logprobs=True)).choices[0].logprobs.content
    # No engine tells a token's own log probability only, and every engine that of the likeliest.
    assert exchange.body["top_logprobs"] == 1
    assert [token.top_logprobs for token in whole] == [[], []]
    engine.expect(script)
    chunks = await (await call.stream("scripted", QUESTION, logprobs=True)).rest()
    tokens = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [token["bytes"] for token in whole] == [[0xC3], [0xBC]]
    assert tokens == whole


def test_no_logprobs_unless_asked_for(client: pgml.OpenSourceAI, model: str) -> None:
    for logprobs in (None, False):
        completion = client.chat_completions_create(model, FRUITS, 1, 0, logprobs=logprobs)
        assert completion.choices[0].logprobs is None


@honours("n")
def test_n(client: pgml.OpenSourceAI, model: str) -> None:
    completion = client.chat_completions_create(model, FRUITS, 10, 1.5, 3, seed=1)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert len({said(completion, index) for index in range(3)}) > 1


@honours("stream", "stream_options")
def test_stream_options(client: pgml.OpenSourceAI, model: str) -> None:
    for create in (
        client.chat_completions_create_stream,
        lambda *args, **more: client.chat.completions.create(
            model=args[0], messages=args[1], stream=True, **more
        ),
    ):
        plain = list(create(model, FRUITS, max_tokens=3))
        assert all(piece.choices and piece.usage is None for piece in plain)
        *chunks, last = create(model, FRUITS, max_tokens=3, stream_options={"include_usage": True})
        assert all(piece.choices for piece in chunks)
        assert last.choices == []
        assert last.usage.completion_tokens == 3
