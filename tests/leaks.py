"""Whether a secret got out anywhere, in the whole run of the tests.

Tests plant these secrets as passwords, keys and tokens. Every exception of pgml, every record of
its logger, every log of a server and what `pg_stat_activity` shows of the client are searched for
them, and the run fails if one is found.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pytest

PASSWORD = "hunter2"
KEY = "sk-planted-7d1f"
TOKEN = "hf_planted_93ac"
PLANTED = (PASSWORD, KEY, TOKEN)


class Leaks:
    """What was found so far."""

    def __init__(self, planted: tuple[str, ...] = PLANTED) -> None:
        self._planted = planted
        self.found: list[str] = []

    def look(self, where: str, text: str) -> None:
        self.found += [f"{secret} in {where}" for secret in self._planted if secret in text]

    def look_in_files(self, folder: Path, pattern: str) -> None:
        files = [path for path in folder.glob(pattern) if path.is_file()]
        assert files, f"there is no log in {folder}"
        for path in files:
            self.look(path.name, path.read_text(errors="replace"))

    def look_at_activity(self, admin: psycopg.Connection[Any]) -> None:
        """What others see of the client's sessions. A test's own SQL may well name a secret."""
        for row in admin.execute(
            "SELECT a::text FROM pg_stat_activity a WHERE application_name = 'pgml'"
        ):
            self.look("pg_stat_activity", row[0])

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Look at exceptions and log records as they are made."""
        original = pgml.APIError.__init__

        def init(error: pgml.APIError, *args: Any, **kwargs: Any) -> None:
            original(error, *args, **kwargs)
            self.look(f"a {type(error).__name__}", f"{error} {error!r} {vars(error)}")

        handler = logging.Handler()
        handler.emit = lambda record: self.look(  # type: ignore[method-assign]
            "a log record", f"{record.getMessage()} {vars(record)}"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pgml.APIError, "__init__", init)
            logging.getLogger("pgml").addHandler(handler)
            yield
            logging.getLogger("pgml").removeHandler(handler)


@pytest.fixture(scope="session", autouse=True)
def leaks() -> Iterator[Leaks]:
    leaks = Leaks()
    with leaks.watch():
        yield leaks
    assert leaks.found == []
