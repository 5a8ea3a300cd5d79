"""Run a command that calls pytest; say at its end what it took and which test files were slow.

Usage: python .ci/measure.py COMMAND. The exit status is the command's.

Memory is the sum over the command's whole tree of processes, several times a minute, of the
proportional set size: a page that three processes share counts a third for each.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

PROC = Path("/proc")


def descendants(root: int) -> set[int]:
    """The process and its children, and theirs."""
    parents: dict[int, int] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            # The name may hold spaces; what follows its bracket is the state, then the parent.
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    tree, found = {root}, True
    while found:
        found = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree |= found
    return tree


def memory(pid: int) -> int:
    """Bytes of one process."""
    try:
        rollup = (PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0
    return 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if "Pss:" in line[:4])


def peak_of(process: "subprocess.Popen[bytes]", every: float = 2.0) -> int:
    """The most memory that the process and its children held together, at any sample."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(memory, descendants(process.pid))))
        time.sleep(every)
    return peak


def slowest(report: Path, most: int = 10) -> list[tuple[str, float]]:
    """The test files that took the most seconds, fixtures included."""
    seconds: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        seconds[case.get("classname", "")] += float(case.get("time", 0))
    return seconds.most_common(most)


def main(command: str) -> int:
    """Run it, and tell."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        options = f"{os.environ.get('PYTEST_ADDOPTS', '')} --junitxml={report}"
        begun = time.monotonic()
        with subprocess.Popen(
            ["bash", "-c", command], env={**os.environ, "PYTEST_ADDOPTS": options}
        ) as process:
            peak = peak_of(process)
        minutes = (time.monotonic() - begun) / 60
        print(f"== {command}: {minutes:.1f} minutes")
        if PROC.is_dir():
            print(f"peak memory of all its processes together: {peak / 2**30:.2f} GiB")
        if report.exists():
            print("the slowest test files, seconds:")
            for name, seconds in slowest(report):
                print(f"{seconds:8.1f}  {name}")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
