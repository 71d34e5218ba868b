"""Type checkers accept what is right, and find what is wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILES = Path(__file__).parent / "typing"
USAGE, MISTAKES = "usage.py", "mistakes.py"

Found = dict[str, dict[int, str]]


def run(*command: str | Path) -> str:
    # Their exit status says only that there are errors.
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return result.stdout


def mypy(directory: Path, cache: Path) -> Found:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", cache]
    command += ["--no-error-summary", "--hide-error-context"]
    found: Found = {}
    for line in run(*command, directory / USAGE, directory / MISTAKES).splitlines():
        match = re.fullmatch(r"(.+?):(\d+): (error|note): (.+)", line)
        assert match is not None, line
        if match[3] == "error":
            found.setdefault(Path(match[1]).name, {})[int(match[2])] = match[4]
    return found


def pyright(directory: Path, _: Path) -> Found:
    settings: dict[str, Any] = {"typeCheckingMode": "strict", "include": [USAGE, MISTAKES]}
    # To leave a value unused is a mistake in some places, and here it is the way to be short.
    settings |= {"reportUnusedExpression": False, "reportUnusedCoroutine": False}
    (directory / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    report: dict[str, Any] = json.loads(run(*command, "--project", directory))
    assert report["summary"]["filesAnalyzed"] == 2
    found: Found = {}
    for one in report["generalDiagnostics"]:
        line = one["range"]["start"]["line"] + 1
        found.setdefault(Path(one["file"]).name, {})[line] = one["message"]
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The files where no settings of this repository apply, as in a user's project."""
    for name in (USAGE, MISTAKES):
        shutil.copy(FILES / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_typical_code_and_typical_mistakes(
    checker: Callable[[Path, Path], Found], directory: Path, cache: pytest.Cache
) -> None:
    found = checker(directory, cache.mkdir("mypy"))

    lines = (FILES / MISTAKES).read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if "  # error" in line}
    assert marked
    errors = found.get(MISTAKES, {})
    unmarked = {number: message for number, message in errors.items() if number not in marked}
    assert unmarked == {}
    missed = {number: lines[number - 1] for number in sorted(marked - set(errors))}
    assert missed == {}

    assert found.get(USAGE, {}) == {}
