"""The CPU that a backend spends on one token, read by psycopg, which builds nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from peer_psycopg import Sync


def cpu(pid: int) -> float:
    """The seconds that a process has been on a CPU, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def main(job: dict[str, Any]) -> dict[str, Any]:
    peer = Sync(job)
    results = {}
    for name in ("full", "paced"):
        model, pieces = job[name], job[f"{name}_pieces"]
        # Twice: the first time in a connection, plans are made and caches filled.
        for last in (False, True):
            profile = last and job.get("profile") and _profile(peer.pid, f"{job['profile']}-{name}")
            before, streams, count = cpu(peer.pid), 0, 0
            began = time.perf_counter()
            while streams == 0 or time.perf_counter() - began < job["seconds"]:
                count += sum(peer.count(row) for row in peer.stream(model))
                streams += 1
            used = cpu(peer.pid) - before
            if profile:
                profile.terminate()
                profile.wait()
            assert count == streams * (pieces + 1), f"{count} chunks in {streams} streams"
        results[name] = used / count
    return results


def _profile(pid: int, path: str) -> subprocess.Popen[bytes]:
    command = ["perf", "record", "-q", "-F", "2999", "-g", "-p", str(pid), "-o", f"{path}.data"]
    profile = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    time.sleep(0.5)  # it says nothing when it has begun
    return profile


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))), flush=True)
