"""Which part may know which: the table in CONTRIBUTING.md, held against the imports.

Run by `make lint` too: it reads source files and nothing else.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src"
BINDING = CORE / "python"


def rust_paths(source: str) -> Iterator[str]:
    """Every path that a Rust file names, in `use` lines (braces expanded) and in its code."""
    # Not in text: a comment or a string ends where the next quote or line says.
    code = re.sub(r'//[^\n]*|"(?:\\.|[^"\\])*"', "", source)
    for use in re.findall(r"\buse ([^;]+);", code):
        yield from expanded("".join(use.split()))
    yield from re.findall(r"\b\w+(?:::\w+)+", code)


def expanded(tree: str) -> Iterator[str]:
    """The paths of a use tree: of `a::{b, c::d}` they are `a::b` and `a::c::d`."""
    prefix, brace, rest = tree.partition("{")
    if not brace:
        yield prefix
        return
    depth, start = 0, 0
    body = rest[: rest.rindex("}")]
    for position, character in enumerate(body + ","):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            if body[start:position]:
                yield from expanded(prefix + body[start:position])
            start = position + 1


def module_file(path: str, file: Path, root: Path) -> Path | None:
    """The file below `root` that a path of this crate leads to; None for other crates' paths."""
    first, *names = path.split("::")
    if first == "crate":
        folder = root
    elif first in ("super", "self"):
        own = file.parent if file.name in ("mod.rs", "lib.rs") else file.with_suffix("")
        folder = own.parent if first == "super" else own
    else:
        return None
    found = None
    for name in names:
        candidates = [folder / f"{name}.rs", folder / name / "mod.rs"]
        existing = next((c for c in candidates if c.is_file()), None)
        if existing is None:
            break
        found, folder = existing, folder / name
    # What the root of the crate re-exports, and what `super` has itself.
    home = next((c for c in (folder / "mod.rs", root / "lib.rs") if c.is_file()), None)
    return found or (home if names else None)


def imports(root: Path, files: list[Path]) -> dict[Path, set[Path]]:
    graph: dict[Path, set[Path]] = {}
    for file in files:
        paths = rust_paths(file.read_text())
        targets = {module_file(path, file, root) for path in paths}
        graph[file] = {target for target in targets if target and target != file}
    return graph


def rust_files(*folders: Path) -> list[Path]:
    return sorted(file for folder in folders for file in folder.rglob("*.rs"))


def core_files() -> list[Path]:
    return [file for file in rust_files(CORE) if BINDING not in file.parents]


def crates(file: Path) -> set[str]:
    return {path.split("::")[0] for path in rust_paths(file.read_text())}


def test_the_core_has_no_circle_of_imports() -> None:
    graph = imports(CORE, core_files())
    assert graph[CORE / "client.rs"] >= {CORE / "database.rs", CORE / "dialect/mod.rs"}
    assert CORE / "dialect/cursor.rs" in graph[CORE / "dialect/native.rs"]
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        names = [str(file.relative_to(CORE)) for file in error.args[1]]
        pytest.fail(f"these import each other in a circle: {' -> '.join(names)}")


def test_the_pool_knows_no_dialect_and_no_request() -> None:
    known = imports(CORE, [CORE / "database.rs"])[CORE / "database.rs"]
    assert not [file for file in known if "dialect" in file.parts or file.stem == "request"]


@pytest.mark.parametrize(
    ("files", "unknown"),
    [
        pytest.param(core_files(), {"pyo3", "jiter", "python"}, id="core"),
        pytest.param(
            rust_files(ROOT / "protocol"), {"pyo3", "sqlx", "pgrx", "tokio", "pgml"}, id="protocol"
        ),
        pytest.param(
            rust_files(ROOT / "extension"), {"pyo3", "sqlx", "tokio", "pgml"}, id="extension"
        ),
        pytest.param(rust_files(BINDING), {"sqlx", "pgrx", "deadpool"}, id="binding"),
    ],
)
def test_who_may_know_which_library(files: list[Path], unknown: set[str]) -> None:
    assert files
    # `lib.rs` declares the binding, and holds nothing of it.
    allowed = {CORE / "lib.rs": {"python"}}
    wrong = {
        str(file.relative_to(ROOT)): found
        for file in files
        if (found := crates(file) & unknown - allowed.get(file, set()))
    }
    assert not wrong


def test_the_dependencies_say_the_same() -> None:
    protocol = (ROOT / "protocol/Cargo.toml").read_text()
    extension = (ROOT / "extension/Cargo.toml").read_text()
    for name in ("pyo3", "sqlx", "pgrx", "tokio"):
        assert not re.search(rf"^{name}\b", protocol, re.MULTILINE)
    for name in ("pyo3", "sqlx", "tokio"):
        assert not re.search(rf"^{name}\b", extension, re.MULTILINE)


def python_imports(file: Path) -> set[str]:
    """The modules that a Python file imports, wherever in it."""
    package = file.relative_to(ROOT / "python").with_suffix("").parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: -node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


PACKAGE = ROOT / "python/pgml"
REQUEST_PATH = sorted(PACKAGE.glob("*.py"))


def test_the_local_instance_is_reached_from_two_places() -> None:
    """Where a URL is resolved, and the command. All else works without `pgml[local]`."""
    knowing = {
        file.name
        for file in REQUEST_PATH
        if any(name.startswith("pgml.local") for name in python_imports(file))
    }
    assert knowing == {"cli.py", "client.py"}


def test_the_local_instance_knows_nothing_of_requests() -> None:
    for file in sorted((PACKAGE / "local").glob("*.py")):
        foreign = {
            name
            for name in python_imports(file)
            if name.startswith("pgml.") and not name.startswith("pgml.local")
        }
        # Its error is one of the tree that programs catch.
        assert all(name.startswith("pgml.errors") for name in foreign), file.name


def test_python_connects_to_nothing() -> None:
    network = {"socket", "ssl", "http", "httpx", "urllib", "psycopg", "asyncpg", "requests"}
    wrong = {
        file.name: found
        for file in REQUEST_PATH
        if (found := {name.split(".")[0] for name in python_imports(file)} & network)
    }
    assert not wrong
