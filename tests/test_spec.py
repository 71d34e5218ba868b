"""Every Python example of the specification runs as it stands, and shows what it says."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pytest
from pgml import local

SPEC = (Path(__file__).parent / "spec" / "opensourceai.md").read_text()

# Python's examples and the JSON that is shown after them, in the order of the text.
BLOCK = re.compile(
    r"^```(?P<language>python|json)\n(?P<code>.*?)^```$"
    r"|^<pre class=\"language-json\">(?P<pre>.*?)</pre>$",
    re.MULTILINE | re.DOTALL,
)
NAME = re.compile(r'"([\w-]+/[\w.-]+)"')
METHODS = [
    "chat_completions_create",
    "chat_completions_create_async",
    "chat_completions_create_stream",
    "chat_completions_create_stream_async",
]


@dataclass
class Example:
    """An example, and the objects that the text shows as its output."""

    line: int
    code: str
    shown: list[Any]

    @property
    def streams(self) -> bool:
        return "_stream" in self.code


def examples() -> Iterator[Example]:
    example: Example | None = None
    for block in BLOCK.finditer(SPEC):
        if block["language"] == "python":
            if example:
                yield example
            example = Example(SPEC[: block.start()].count("\n") + 2, block["code"], [])
        elif example:
            text = re.sub(r"<[^>]*>", "", block["pre"] or block["code"]).strip()
            while text:
                shown, end = json.JSONDecoder().raw_decode(text)
                example.shown.append(shown)
                text = text[end:].strip()
    if example:
        yield example


EXAMPLES = list(examples())


# The examples set no limit, and a small model may talk for minutes: this engine has one of its own.
ENGINE = """
import sys
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_parallel = 1
params.n_ctx = 1024
params.n_predict = 48
params.verbosity = 0
server = xllamacpp.Server(params)
print(server.listening_address, file=sys.stderr, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def address(instance: local.Status) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-c", ENGINE, instance.models[0].path],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        yield next(line.strip() for line in process.stderr if line.startswith("http://"))
        assert process.poll() is None, "the engine ended by itself"
        process.kill()


@pytest.fixture
def models(admin: psycopg.Connection[Any], address: str) -> Iterator[None]:
    """All models of the specification, played by the one that there is."""
    examples = {name for example in EXAMPLES for name in NAME.findall(example.code)}
    listed = re.findall(r"^\* ([\w-]+/[\w.-]+)$", SPEC, re.MULTILINE)
    assert (len(examples), len(listed)) == (4, 11)
    admin.execute(
        f"CREATE SERVER brief FOREIGN DATA WRAPPER pgml OPTIONS (base_url '{address}/v1')"
    )
    for name in {*examples, *listed}:
        admin.execute("INSERT INTO pgml.models VALUES (%s, 'brief', 'smollm2')", [name])
    yield
    admin.execute("DELETE FROM pgml.models WHERE server = 'brief'")
    admin.execute("DROP SERVER brief")


def assert_form(got: Any, shown: Any, path: str = "") -> None:
    """All that is shown is there, and of the same type."""
    assert isinstance(got, type(shown)), f"{path} is {got!r}"
    if isinstance(shown, dict):
        for key in shown:
            # The text shows the role in two chunks; OpenAI has it in the first only.
            if path.endswith("delta") and key not in got:
                continue
            assert key in got, f"{path} has no {key}"
            assert_form(got[key], shown[key], f"{path}.{key}")
    elif isinstance(shown, list):
        for item in got:
            assert_form(item, shown[0], path)
    elif isinstance(shown, str):
        assert got, f"{path} is empty"


def test_the_specification_has_its_examples() -> None:
    assert len(EXAMPLES) == 7
    assert [len(example.shown) for example in EXAMPLES] == [0, 1, 2, 1, 2, 0, 0]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line {example.line}")
async def test_example(
    example: Example,
    models: None,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    namespace: dict[str, Any] = {"YOUR_DATABASE_URL": database_url}
    code = compile(example.code, "opensourceai.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, namespace)
    if inspect.iscoroutine(running):
        await running
    assert isinstance(namespace["client"], pgml.OpenSourceAI)
    if "results" not in namespace:
        return
    printed = [ast.literal_eval(line) for line in capsys.readouterr().out.splitlines()]
    if "print(" not in example.code:
        assert printed == []
        printed = [namespace["results"]]
    (called_by,) = set(NAME.findall(example.code))
    for result in printed:
        assert result["model"] == called_by
        if example.shown:
            assert_form(result, example.shown[0])
    if example.streams:
        assert_stream(printed)
    else:
        assert_completion(printed)


def assert_completion(printed: list[Any]) -> None:
    (result,) = printed
    assert result["object"] == "chat.completion"
    (choice,) = result["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] in ("stop", "length")
    usage = result["usage"]
    assert usage["completion_tokens"] > 0
    assert usage["prompt_tokens"] > 20
    assert usage["total_tokens"] == usage["completion_tokens"] + usage["prompt_tokens"]


def assert_stream(printed: list[Any]) -> None:
    assert len(printed) > 1
    assert {result["object"] for result in printed} == {"chat.completion.chunk"}
    assert len({result["id"] for result in printed}) == 1
    choices = [choice for result in printed for choice in result["choices"]]
    roles = [choice["delta"].get("role") for choice in choices]
    assert roles == ["assistant"] + [None] * (len(choices) - 1)
    assert "".join(choice["delta"].get("content", "") for choice in choices)
    reasons = [choice["finish_reason"] for choice in choices]
    assert set(reasons[:-1]) <= {None}
    assert reasons[-1] in ("stop", "length")


@pytest.mark.parametrize("name", METHODS)
def test_all_methods_take_the_same_arguments(name: str) -> None:
    method = getattr(pgml.OpenSourceAI, name)
    assert inspect.iscoroutinefunction(method) == name.endswith("_async")
    parameters = inspect.signature(method).parameters
    positional = [
        parameter
        for parameter in parameters.values()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    assert [(parameter.name, parameter.default) for parameter in positional[1:]] == [
        ("model", inspect.Parameter.empty),
        ("messages", inspect.Parameter.empty),
        ("max_tokens", None),
        ("temperature", 0.8),
        ("n", 1),
        ("chat_template", None),
    ]


def test_the_specification_is_the_users_own() -> None:
    documented = re.findall(r"^\* `(\w+)`$", SPEC, re.MULTILINE)
    assert documented == METHODS
