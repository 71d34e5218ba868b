"""The operating system account that the servers of an instance run under.

For an ordinary user that is the user. Root needs another one: PostgreSQL refuses to run as root,
and a model file from the internet should not be parsed with root's rights either.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from .errors import LocalInstanceError
from .home import Home

NAME = "pgml"

# Debian's and Red Hat's border between system accounts and people.
_FIRST_PERSON = 1000


class Credentials(TypedDict, total=False):
    """The arguments of `subprocess.Popen` that change a child's identity."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """Who runs the servers.

    Args:
        uid: user id of the servers.
        gid: group id of the servers.
        owner: login name of the owner of the instance, who may therefore connect.
        separate: the servers run under another account than the supervisor.
    """

    uid: int
    gid: int
    owner: str
    separate: bool

    def credentials(self) -> Credentials:
        """What to pass to `subprocess.Popen` for a child of this account."""
        if not self.separate:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_read(self, paths: Iterable[Path]) -> bool:
        """Whether the servers can read every one of these files.

        Asked of the kernel rather than computed from modes, so that access control lists and
        read-only mounts count too.
        """
        test = 'for path; do test -r "$path" || exit 1; done'
        argv = ["/bin/sh", "-c", test, "sh", *map(str, paths)]
        return subprocess.run(argv, cwd="/", check=False, **self.credentials()).returncode == 0

    def grant(self, home: Home) -> None:
        """Let the servers pass through the home, and write in the directory of the sockets.

        Raises:
            LocalInstanceError: the home lies where the servers' account cannot go.
        """
        home.run.mkdir(mode=0o700, exist_ok=True)
        if not self.separate:
            return
        for directory in {home.path, home.sockets}:
            os.chown(directory, 0, self.gid)
            directory.chmod(0o710)
        os.chown(home.run, self.uid, self.gid)
        if not self.can_read([home.run]):
            raise LocalInstanceError(
                f"run by root, the servers of the local instance run as the user {NAME}, who "
                f"cannot enter {home.path.parent}: set PGML_HOME to a directory whose parents "
                "everyone can enter, such as /var/lib/pgml"
            )


def resolve() -> Account:
    """The account for the servers of this user's instance; root's is created once.

    Raises:
        LocalInstanceError: the user has no name, or root's account cannot be created.
    """
    uid = os.geteuid()
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise LocalInstanceError(
            f"the user id {uid} has no name, and PostgreSQL will not run without one: "
            "add a line for it to /etc/passwd, or run as a user who has one"
        ) from None
    if uid != 0:
        return Account(uid, os.getegid(), owner, separate=False)
    entry = _find() or _create()
    if entry.pw_uid == 0 or entry.pw_uid >= _FIRST_PERSON:
        raise LocalInstanceError(
            f"run by root, the local instance wants a system account named {NAME}, but the "
            f"account of that name (uid {entry.pw_uid}) is not one: run as an ordinary user, or "
            "rename that account"
        )
    return Account(entry.pw_uid, entry.pw_gid, owner, separate=True)


def _find() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        return None


def _create() -> pwd.struct_passwd:
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        raise LocalInstanceError(
            f"PostgreSQL refuses to run as root, and there is no useradd to create the user {NAME} "
            "for it: run as an ordinary user, or create a system account of that name"
        )
    nologin = shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin:/bin") or "/bin/false"
    argv = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    argv += ["--shell", nologin, "--comment", "pgml local instance", NAME]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    entry = _find()
    # Another root process may have created it first; then useradd failed for a good reason.
    if entry is None:
        raise LocalInstanceError(
            f"PostgreSQL refuses to run as root, and the user {NAME} could not be created for it: "
            f"{done.stderr.strip() or f'useradd ended with {done.returncode}'} "
            "(run as an ordinary user, or create a system account of that name)"
        )
    return entry
