"""Is every loss right on this accelerator, and how fast? One command, at most ten minutes.

    python -m benchmarks device                 everything, into benchmarks/results/gpu.json
    python -m benchmarks device --minutes 8     no longer than that, what matters most first
    python -m benchmarks device --quick         small arrays and networks: does it run here?
    python -m benchmarks device --only checks,steps

Value and gradient of every loss are checked against float64 loops, and at the extremes against the
processor. Losses are timed in turns against the device's floor, plain jnp, optax and PyTorch, and
the training steps of three experiments against the same networks in PyTorch. Results are written
after every table: a run that is stopped keeps what it has, and says what is missing.

A machine without a network needs jax, flax, optax, chex and this repository, with src on
PYTHONPATH; there `python -m benchmarks.device` is the same command and asks for no more. What it
lacks is carried there as wheels: pip install --no-index --no-deps --target site wheels/*.whl, and
site on PYTHONPATH, too.
PyTorch is compared with and matplotlib draws where they are installed; what is left out is named.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import time
from pathlib import Path

from benchmarks import bare

STAGES = ("checks", "steps", "chosen", "narrow", "compiled", "others", "small")


def parser() -> argparse.ArgumentParser:
    """The options; not by tyro, which a bare machine lacks."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks device",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        help="hard limit (10), a few seconds of imports aside",
    )
    made.add_argument("--quick", action="store_true", help="small arrays and networks, few losses")
    made.add_argument("--only", default=",".join(STAGES), help=f"of {', '.join(STAGES)}")
    made.add_argument(
        "--out",
        type=Path,
        help="folder for JSON and charts; default: benchmarks/results for a whole run on an "
        "accelerator, else runs/benchmarks",
    )
    return made


def main(arguments: list[str]) -> int:
    """Run the command; the exit status is 1 if a loss is wrong."""
    begun = time.monotonic()
    options = parser().parse_args(arguments)
    if unknown := set(options.only.split(",")) - set(STAGES):
        parser().error(f"--only {', '.join(sorted(unknown))}: there are {', '.join(STAGES)}")
    if lacking := bare.missing(bare.NEEDED):
        print(f"error: {', '.join(lacking)} must be installed")
        return 1
    # Read when a device is first used: PyTorch wants some of its memory, too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    absent = bare.stand_in()
    from benchmarks import device_stages  # after what stands in for what it imports

    # A compiler that does not come back is no reason to stay longer than was granted.
    faulthandler.dump_traceback_later(60 * options.minutes, exit=True, file=2)
    try:
        return device_stages.run(options, begun, absent)
    finally:
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
