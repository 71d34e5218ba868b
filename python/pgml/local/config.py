"""PostgreSQL's configuration: who may connect, where it listens, where it finds our extension.

The files lie outside the data directory, where the server's own account cannot change them, and
are written anew at every start, since the package may have moved.
"""

from __future__ import annotations

import os
from pathlib import Path

from .account import Account
from .home import PORT, ROLE, Home

_CONFIG = """\
# Written at every start of the local instance: changes here are lost. ALTER SYSTEM SET lasts.
listen_addresses = ''
port = {port}
unix_socket_directories = {sockets}
unix_socket_permissions = 0700
hba_file = {hba}
ident_file = {ident}

# The extension is loaded from where the Python package is.
extension_control_path = {control_path}
dynamic_library_path = {library_path}

max_connections = 200
shared_buffers = 32MB

# Nothing replicates from here.
wal_level = minimal
max_wal_senders = 0

# systemd-logind removes a user's POSIX shared memory at logout, under a running server.
dynamic_shared_memory_type = mmap

# A statement may hold somebody's conversation, or a token: neither belongs in a log.
log_min_error_statement = panic
log_line_prefix = '%m [%p] '
"""

_HBA = f"""\
# Only over the socket, and only whoever pg_ident.conf names.
local  all  all  peer  map={ROLE}
"""


def write_config(home: Home, extension: Path, account: Account) -> None:
    """Write the configuration.

    Args:
        home: whose server.
        extension: the tree with our extension's `lib` and `share`.
        account: who runs the server, and who may connect to it.
    """
    home.config.mkdir(mode=0o700, exist_ok=True)
    hba, ident = home.config / "pg_hba.conf", home.config / "pg_ident.conf"
    # The owner may log in as any role, for roles with fewer rights are what one tries grants with.
    # Root is named too: it could become the owner at any time.
    users = sorted({account.owner, "root"})
    files = {
        hba: _HBA,
        ident: "".join(f'{ROLE}  "{user}"  all\n' for user in users),
        config_file(home): _CONFIG.format(
            port=PORT,
            sockets=_quote('"' + str(home.run).replace('"', '""') + '"'),
            hba=_quote(hba),
            ident=_quote(ident),
            control_path=_quote(f"{extension}/share:$system"),
            library_path=_quote(f"{extension}/lib:$libdir"),
        ),
    }
    for path, text in files.items():
        path.write_text(text)
        path.chmod(0o640)
    if account.separate:
        home.config.chmod(0o710)
        for path in (home.config, *files):
            os.chown(path, 0, account.gid)


def config_file(home: Home) -> Path:
    """The file to start the server with."""
    return home.config / "postgresql.conf"


def _quote(value: object) -> str:
    """A string as postgresql.conf writes it."""
    text = str(value).replace("\\", "\\\\").replace("'", "''")
    return f"'{text}'"
