"""The command `pgml`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pgml
import pytest
from pgml import cli, local

URL = "postgresql://elsewhere/pgml"
STATISTICS = r"first token after \d+\.\d\d s, {} tokens(, \d+\.\d tokens/s)?\n"


def chunk(content: str | None, **more: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}}], **more}


class Client:
    """Stands in for OpenSourceAI: notes what it is asked, answers what a test wants."""

    asked: list[tuple[object, ...]]
    answers: list[Sequence[dict[str, Any] | BaseException]]

    def __init__(self, url: str) -> None:
        self.url = url

    @contextlib.contextmanager
    def chat_completions_create_stream(
        self,
        model: str,
        messages: list[dict[str, str]],
        max_tokens: int | None = None,
        temperature: float = 0.8,
    ) -> Iterator[Iterator[dict[str, Any]]]:
        self.asked.append((self.url, model, [*messages], max_tokens, temperature))

        def chunks() -> Iterator[dict[str, Any]]:
            for item in self.answers.pop(0):
                if isinstance(item, BaseException):
                    raise item
                yield item

        yield chunks()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    Client.asked, Client.answers = [], []
    monkeypatch.setattr(pgml, "OpenSourceAI", Client)
    monkeypatch.setenv("DATABASE_URL", URL)
    return Client


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A running local instance, which `pgml up` has started."""
    with tempfile.TemporaryDirectory(prefix="pgml-test-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGML_HOME", f"{path}/home")
            patch.delenv("DATABASE_URL", raising=False)
            patch.delenv("PGML_DATABASE_URL", raising=False)
            up = run("up")
            assert up.returncode == 0, up.stderr
            assert "pgml: creating the database\n" in up.stderr
            yield up.stdout.removesuffix("\n")
            down = run("down")
            assert (down.returncode, down.stderr) == (0, "stopped\n")
            status = run("status")
            assert (status.returncode, status.stderr) == (3, "not running\n")
            assert run("down").stderr == "not running\n"


def run(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pgml.cli", *argv],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_up_prints_the_url_and_nothing_else(url: str) -> None:
    again = run("up")
    assert (again.stdout, again.stderr) == (f"{url}\n", "")


def test_status_for_people(url: str) -> None:
    shown = run("status")
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"running    {url}\n")
    assert re.search(rf"^model      {local.DEFAULT_MODEL}, process \d+$", shown.stdout, re.M)


def test_status_for_programs(url: str) -> None:
    shown = json.loads(run("status", "--json").stdout)
    assert shown["url"] == url
    assert shown["models"][0]["name"] == local.DEFAULT_MODEL


def test_add_prints_the_name(url: str) -> None:
    [model, *_] = json.loads(run("status", "--json").stdout)["models"]
    assert run("add", model["path"], "--name", "org/other").stdout == "org/other\n"
    names = [model["name"] for model in json.loads(run("status", "--json").stdout)["models"]]
    assert names == [local.DEFAULT_MODEL, "org/other"]


def test_add_says_what_is_wrong_in_one_line(url: str) -> None:
    failed = run("add", "/no/such/file.gguf")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert re.fullmatch(r"pgml: there is no file '/no/such/file.gguf': .*\n", failed.stderr)


def test_chat_on_the_local_instance(url: str) -> None:
    done = run("chat", "Say hello.", "--max-tokens", "8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert re.search(STATISTICS.format(r"[1-8]"), done.stderr)
    # With the URL in the environment the default model is known, too.
    again = run("chat", "Say hello.", "--max-tokens", "8", env={**os.environ, "DATABASE_URL": url})
    assert again.returncode == 0, again.stderr


def test_chat_streams_and_counts(client: type[Client], capsys: pytest.CaptureFixture[str]) -> None:
    usage = {"completion_tokens": 5}
    client.answers = [[chunk(""), chunk("Ahoy"), chunk(", me hearty"), chunk(None, usage=usage)]]
    argv = ["chat", "hi", "--model", "m", "--system", "a pirate", "--max-tokens", "9"]
    assert cli.main([*argv, "--temperature", "0"]) == 0
    messages = [{"role": "system", "content": "a pirate"}, {"role": "user", "content": "hi"}]
    assert client.asked == [(URL, "m", messages, 9, 0.0)]
    out, err = capsys.readouterr()
    assert out == "Ahoy, me hearty\n"
    assert re.fullmatch(STATISTICS.format(5), err)


def test_chat_counts_pieces_where_the_server_counts_nothing(
    client: type[Client], capsys: pytest.CaptureFixture[str]
) -> None:
    client.answers = [[chunk("a"), chunk("b"), chunk(None)]]
    assert cli.main(["chat", "hi", "--model", "m"]) == 0
    assert re.fullmatch(STATISTICS.format(2), capsys.readouterr().err)


def test_chat_reads_the_prompt_from_a_pipe(
    client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a long\nprompt\n"))
    client.answers = [[chunk("x")]]
    assert cli.main(["chat", "--model", "m"]) == 0
    assert client.asked[0][2] == [{"role": "user", "content": "a long\nprompt"}]


def test_chat_as_a_conversation(
    client: type[Client], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed: list[str | BaseException] = ["one", "", "two", KeyboardInterrupt(), "three", "four"]
    typed.append(EOFError())

    def read(_: str) -> str:
        item = typed.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    client.answers = [
        [chunk("1")],
        [chunk("2, and"), KeyboardInterrupt()],
        [pgml.APIError("the engine is gone")],
        [chunk("4")],
    ]
    assert cli.main(["chat", "--model", "m"]) == 0
    # What was cut off is remembered as it was seen; what failed was never said.
    said = ["one", "1", "two", "2, and", "four"]
    assert [message["content"] for message in client.asked[-1][2]] == said
    out, err = capsys.readouterr()
    assert out == "1\n2, and\n4\n"
    assert "pgml: the engine is gone\n" in err


def test_chat_on_another_database_wants_a_model(
    client: type[Client], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["chat", "hi"]) == 1
    assert re.fullmatch(r"pgml: which model\?.*--model NAME.*\n", capsys.readouterr().err)


def test_chat_prefers_the_url_that_it_is_given(
    client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.answers = [[chunk("x")], [chunk("x")]]
    cli.main(["chat", "hi", "--model", "m", "--database-url", "postgresql://given/db"])
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("PGML_DATABASE_URL", "postgresql://second/db")
    cli.main(["chat", "hi", "--model", "m"])
    assert [asked[0] for asked in client.asked] == [
        "postgresql://given/db",
        "postgresql://second/db",
    ]


def test_chat_errors_are_one_line(client: type[Client], capsys: pytest.CaptureFixture[str]) -> None:
    client.answers = [[pgml.APIError("no such model")]]
    assert cli.main(["chat", "hi", "--model", "m"]) == 1
    assert capsys.readouterr() == ("", "pgml: no such model\n")


def test_interrupted_chat(client: type[Client], capsys: pytest.CaptureFixture[str]) -> None:
    client.answers = [[chunk("half"), KeyboardInterrupt()]]
    assert cli.main(["chat", "hi", "--model", "m"]) == 130
    assert capsys.readouterr().out == "half\n"


def test_a_reader_that_leaves() -> None:
    script = (
        "import sys, contextlib, pgml; from pgml import cli\n"
        "def stream(*_, **__):\n"
        "    chunk = {'choices': [{'delta': {'content': 'word '}}]}\n"
        "    return contextlib.nullcontext(chunk for _ in range(1000000))\n"
        "class Client:\n"
        "    def __init__(self, url): self.chat_completions_create_stream = stream\n"
        "pgml.OpenSourceAI = Client\n"
        f"sys.exit(cli.main(['chat', 'hi', '--model', 'm', '--database-url', '{URL}']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"word"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([])
    assert "COMMAND" in capsys.readouterr().err
