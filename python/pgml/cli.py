"""The command `pgml`: the local instance, and a chat in the terminal.

Standard output carries what was asked for (a URL, an answer), standard error everything else, so
that `DATABASE_URL=$(pgml up)` and `pgml chat … > file` do what they look like.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pgml

from . import local

_NOT_RUNNING = 3
_INTERRUPTED = 130
_BROKEN_PIPE = 141
# What goes wrong without being a defect of this program.
_EXPECTED = (pgml.APIError, local.LocalInstanceError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; by default the process's own.

    Returns:
        The exit status: 0, 1 after an error that was printed, 3 if `status` found nothing running,
        130 after Ctrl-C, 141 if the reader of standard output has gone.
    """
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except _EXPECTED as error:
        print(f"pgml: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgml", description="Chat completions from your own Postgres."
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start the local instance, and print its URL")
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="stop the local instance")
    down.set_defaults(run=_down)

    status = commands.add_parser("status", help="show what runs; exit with 3 if nothing does")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)

    add = commands.add_parser("add", help="serve one more model from the local instance")
    add.add_argument(
        "source",
        metavar="SOURCE",
        help="a .gguf file, package:NAME, or org/name[:quantization or file] on Hugging Face",
    )
    add.add_argument("--name", help="what to call the model")
    add.set_defaults(run=_add)

    chat = commands.add_parser(
        "chat",
        help="ask a model",
        description="Ask a model, and see the answer as it is made. Without a PROMPT, standard "
        "input is the prompt; if that is a terminal, a conversation begins.",
    )
    chat.add_argument("prompt", metavar="PROMPT", nargs="?")
    chat.add_argument("--model", help=f"default on the local instance: {local.DEFAULT_MODEL}")
    chat.add_argument("--system", help="how the model should behave")
    chat.add_argument("--max-tokens", type=int, metavar="N", help="default: no limit")
    chat.add_argument("--temperature", type=float, default=0.8, metavar="T", help="default: 0.8")
    chat.add_argument(
        "--database-url",
        metavar="URL",
        help="default: DATABASE_URL, PGML_DATABASE_URL, or the local instance",
    )
    chat.set_defaults(run=_chat)
    return parser


def _up(_: argparse.Namespace) -> int:
    print(local.repair(_progress))
    return 0


def _down(_: argparse.Namespace) -> int:
    print("stopped" if local.stop() else "not running", file=sys.stderr)
    return 0


def _add(args: argparse.Namespace) -> int:
    print(local.add_model(args.source, args.name, _progress))
    return 0


def _status(args: argparse.Namespace) -> int:
    status = local.status()
    if args.json:
        print(json.dumps(dataclasses.asdict(status) if status else None, default=str, indent=2))
    elif status is None:
        print("not running", file=sys.stderr)
    else:
        print("\n".join(_describe(status)))
    return _NOT_RUNNING if status is None else 0


def _describe(status: local.Status) -> Iterator[str]:
    yield f"{'running' if status.ready else 'starting'}    {status.url}"
    yield f"home       {status.home}"
    yield f"postgres   {status.versions['postgres']}, process {status.postgres_pid}"
    yield f"engine     xllamacpp {status.versions['engine']}"
    for model in status.models:
        state = f"not served: {model.failure}" if model.failure else f"process {model.pid}"
        yield f"model      {model.name}, {state}"
        if model.path:
            yield f"           {model.path}"


def _chat(args: argparse.Namespace) -> int:
    url, model = _where(args)
    messages: list[dict[str, str]] = []
    if args.system:
        messages.append({"role": "system", "content": args.system})
    client = pgml.OpenSourceAI(url)

    def ask(prompt: str) -> None:
        messages.append({"role": "user", "content": prompt})
        answer = _Answer()
        try:
            with client.chat_completions_create_stream(
                model, messages, max_tokens=args.max_tokens, temperature=args.temperature
            ) as chunks:
                for chunk in chunks:
                    answer.take(chunk)
        finally:
            if answer.text:
                # What was said before an interruption is part of the conversation, too.
                messages.append({"role": "assistant", "content": answer.text})
                print(flush=True)
                print(answer.statistics(), file=sys.stderr)
            else:
                messages.pop()

    if args.prompt is not None:
        ask(args.prompt)
    elif sys.stdin.isatty():
        _converse(ask)
    else:
        ask(sys.stdin.read().strip())
    return 0


def _where(args: argparse.Namespace) -> tuple[str, str]:
    """The database and the model to ask."""
    url = (
        args.database_url
        or os.environ.get("DATABASE_URL")
        or os.environ.get("PGML_DATABASE_URL")
        or local.start(_progress)
    )
    if args.model:
        return url, args.model
    # Where there can be no local instance, the URL is not its.
    with contextlib.suppress(local.LocalInstanceError):
        if url == local.url():
            return url, local.DEFAULT_MODEL
    raise local.LocalInstanceError(
        "which model? The database is not the local instance, so say --model NAME "
        "(`SELECT name FROM pgml.models` lists those of a database)"
    )


def _converse(ask: Callable[[str], None]) -> None:
    """Ask for prompts until Ctrl-D; Ctrl-C ends an answer, or a line that was begun."""
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # gives input() its line editing and its history
    print("Ctrl-C ends an answer, Ctrl-D the conversation.", file=sys.stderr)
    while True:
        try:
            prompt = input("> ").strip()
            if prompt:
                ask(prompt)
        except KeyboardInterrupt:
            print(file=sys.stderr)
        except EOFError:
            print(file=sys.stderr)
            return
        except _EXPECTED as error:
            print(f"pgml: {error}", file=sys.stderr)


class _Answer:
    """Prints an answer as it comes, and measures it."""

    def __init__(self) -> None:
        self.text = ""
        self._asked = time.perf_counter()
        self._first: float | None = None
        self._last = self._asked
        self._pieces = 0
        self._counted: int | None = None

    def take(self, chunk: dict[str, Any]) -> None:
        """Print what a chunk brings."""
        usage = chunk.get("usage")
        if usage:
            self._counted = usage["completion_tokens"]
        for choice in chunk["choices"]:
            piece = choice["delta"].get("content")
            if piece:
                self._last = time.perf_counter()
                self._first = self._first or self._last
                self._pieces += 1
                self.text += piece
                print(piece, end="", flush=True)

    def statistics(self) -> str:
        """One line about the answer so far."""
        tokens = self._counted or self._pieces
        first = self._first or self._last
        line = f"first token after {first - self._asked:.2f} s, {tokens} tokens"
        passed = self._last - first
        # The first token is where the clock starts, so it is not among those that were timed.
        return f"{line}, {(tokens - 1) / passed:.1f} tokens/s" if passed > 0 else line


def _progress(text: str) -> None:
    print(f"pgml: {text}", file=sys.stderr, flush=True)


def _version() -> str:
    try:
        return importlib.metadata.version("pgml")
    except importlib.metadata.PackageNotFoundError:
        return "pgml, from a source tree"


if __name__ == "__main__":
    sys.exit(main())
