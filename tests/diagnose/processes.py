"""Python in a process of its own, for what a process can be only once."""

from __future__ import annotations

import os
import subprocess
import sys

from tests import ROOT


def environment(**others: str) -> dict[str, str]:
    """In which another process finds this library."""
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **others}


def python(*arguments: str, **others: str) -> subprocess.CompletedProcess[str]:
    """What another process says."""
    command, env = [sys.executable, *arguments], environment(**others)
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done
