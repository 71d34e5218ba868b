"""How long an import takes, in a fresh interpreter."""

from __future__ import annotations

import importlib
import json
import sys
import time

job = json.loads(sys.argv[1])
began = time.perf_counter()
importlib.import_module(job["module"])
print(json.dumps({"seconds": time.perf_counter() - began}))
