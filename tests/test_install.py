"""`make install-extension`: whose files it may overwrite.

Only its first step is run: what follows is a build.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = (ROOT / "extension" / "pgml.control").read_text()
POSTGRESML = (
    "comment = 'PostgresML'\ndefault_version = '2.10.0'\nmodule_pathname = '$libdir/pgml'\n"
)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A server's folder of extensions, which a `pg_config` names."""
    extensions = tmp_path / "share" / "extension"
    extensions.mkdir(parents=True)
    program = tmp_path / "pg_config"
    program.write_text(f"#!/bin/sh\necho {tmp_path}/share\n")
    program.chmod(0o755)
    return extensions


def check(server: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    pg_config = server.parent.parent / "pg_config"
    return subprocess.run(
        [ROOT / "extension" / "may-install", pg_config, "pgml-3.so"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_a_server_without_an_extension_of_the_name(server: Path) -> None:
    assert check(server).returncode == 0


@pytest.mark.parametrize("version", ["2.0.0", "3.0.0"])
def test_ours_is_replaced(server: Path, version: str) -> None:
    (server / "pgml.control").write_text(OURS.replace("3.0.0", version))
    assert check(server).returncode == 0


def test_postgresml_is_not_overwritten(server: Path) -> None:
    (server / "pgml.control").write_text(POSTGRESML)
    refused = check(server)
    assert refused.returncode != 0
    for word in ("PostgresML", "2.10.0", "FORCE=1", str(server / "pgml.control")):
        assert word in refused.stderr
    forced = check(server, FORCE="1")
    assert forced.returncode == 0
    assert "2.10.0" in forced.stderr


def test_the_makefile_asks_before_it_builds() -> None:
    planned = subprocess.run(
        ["make", "--dry-run", "install-extension", "PG_CONFIG=/usr/bin/true"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    asked = planned.index("extension/may-install /usr/bin/true pgml-3.so")
    assert asked < planned.index("cargo build --profile release") < planned.index("install -m 755")
