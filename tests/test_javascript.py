"""The npm package's own tests, with this suite's database, model and names of the specification."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from test_spec import address, models

__all__ = ["address", "models"]  # fixtures

PACKAGE = Path(__file__).parents[1] / "javascript"

pytestmark = pytest.mark.skipif(
    not os.environ.get("CI") and not (shutil.which("node") and list(PACKAGE.glob("lib/*.node"))),
    reason="JavaScript is left out: it needs Node and `make javascript`",
)


@pytest.mark.parametrize("name", ["spec", "client", "docs"])
def test_javascript(name: str, models: None, database_url: str) -> None:
    environment = {**os.environ, "DATABASE_URL": database_url}
    subprocess.run(
        ["node", "--test", f"test/{name}.test.js"],
        cwd=PACKAGE,
        env=environment,
        check=True,
        timeout=300,
    )
