"""One engine: llama.cpp's own server with one model, on a Unix socket.

Run as `python -m pgml.local.engine`, by the supervisor only. Once the model is loaded it writes a
line to its standard output; its log goes to standard error.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Sequence

from .process import die_with_parent

# Slots answer at the same time, each with a context of its own, so that no conversation can take
# another's. Four of 4096 tokens need 0.4 GB for the default model and 2 GB for one of 8 billion
# parameters. For more, run an engine of your own and create a foreign server for it.
_SLOTS = 4
_CONTEXT = 4096
# llama.cpp would keep up to 8 GB of past conversations in memory.
_PROMPT_CACHE_MIB = 512
_LOG_WARNINGS = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model and serve it until a signal comes."""
    parser = argparse.ArgumentParser(prog="pgml.local.engine")
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--name", required=True, help="what answers call the model")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--parent", type=int, required=True, help="process id of the supervisor")
    parser.add_argument("--uid", type=int, help="the user to become before the model is loaded")
    parser.add_argument("--gid", type=int)
    parser.add_argument("--scratch", help="a directory for a file that only --uid can read")
    args = parser.parse_args(argv)

    # llama.cpp prints on standard output too; the line that the supervisor waits for must be ours.
    ready = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Imported before the change of user, who may not be able to read where it is installed.
    llama = importlib.import_module("xllamacpp")
    path = args.model
    if args.uid is not None:
        path = _open_for(path, args.uid, args.gid, args.scratch)
        os.setgroups([])
        os.setgid(args.gid)
        os.setuid(args.uid)
    die_with_parent(args.parent, signal.SIGKILL)
    os.umask(0o077)

    params = llama.CommonParams()
    params.model.path = path
    params.model_alias = {args.name}
    params.hostnames = [args.socket]
    params.n_parallel = _SLOTS
    params.n_ctx = _SLOTS * _CONTEXT
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.verbosity = _LOG_WARNINGS
    params.ui = False
    try:
        server = llama.Server(params)
    except Exception as error:
        print(error, file=sys.stderr)
        return 1
    expected = f"unix://{args.socket}"
    if server.listening_address != expected:
        # An engine that read the name as a host would be open to the machine, or to the network.
        print(f"listens on {server.listening_address}, not on {expected}", file=sys.stderr)
        return 1
    ready.write("ready\n")
    ready.close()
    while True:
        signal.pause()


def _open_for(path: str, uid: int, gid: int, scratch: str) -> str:
    """Open a file as root, and return a name under which another user can read it.

    The file may lie in a directory that the user cannot enter; its name under /proc/self/fd leads
    there all the same, provided that the file itself is readable. A file that is not is copied
    into one without a name, which lasts as long as this process.
    """
    with open(path, "rb") as source:
        readable = os.fstat(source.fileno()).st_mode & stat.S_IROTH
        if readable:
            return f"/proc/self/fd/{os.dup(source.fileno())}"
        with tempfile.TemporaryFile(dir=scratch) as copy:
            os.fchown(copy.fileno(), uid, gid)
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            return f"/proc/self/fd/{os.dup(copy.fileno())}"


if __name__ == "__main__":
    sys.exit(main())
