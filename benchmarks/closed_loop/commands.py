"""`reel` as a user runs it, on one core."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys


def reel(*arguments: str, store: str, is_read: bool = False) -> str:
    """Show a `reel` command and run it; return what it prints, if it is read."""
    asked = [*arguments, "--store", store]
    print(f"\n$ reel {shlex.join(asked)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "reelwright.pipelines.cli", *asked], check=False, text=True,
        stdout=subprocess.PIPE if is_read else None, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout or ""
