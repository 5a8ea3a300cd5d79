"""How the source is laid out: who may import whom, and what the library needs."""

from __future__ import annotations

import ast
import graphlib
import sys
from pathlib import Path

import pytest

import diffmetrics as dm
from tests import ROOT

# Who may import whom: a package may use only what is listed below it, and itself.
FLOORS = (
    {"_core"},
    {"_metrics"},
    {"_losses"},
    {"_decisions", "_training"},
    {"diagnose"},
    {"testing"},
    {"__init__"},
)
LIBRARY = Path(dm.__file__).parent


def _imported(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def _modules() -> dict[str, Path]:
    """The files of the library by module, below the name of the package."""
    found = {}
    for path in LIBRARY.rglob("*.py"):
        parts = path.relative_to(LIBRARY).with_suffix("").parts
        package = len(parts) > 1 and parts[-1] == "__init__"
        found[".".join(parts[:-1] if package else parts)] = path
    return found


def _arrows() -> dict[str, set[str]]:
    """Which modules of the library each of them imports."""
    modules = _modules()
    below = {
        name: {i.removeprefix("diffmetrics.") for i in _imported(path.read_text())}
        for name, path in modules.items()
    }
    # A package is named on the way to its files, and when it is empty nothing hangs on it.
    empty = {name for name, path in modules.items() if not path.read_text().strip()}
    return {name: (some & set(modules)) - {name} - empty for name, some in below.items()}


def test_arrows_go_down():
    floor = {name: height for height, names in enumerate(FLOORS) for name in names}
    arrows = _arrows()
    assert {name.split(".")[0] for name in arrows} == set(floor)
    for name, imports in arrows.items():
        room = name.split(".")[0]
        for imported in imports:
            below = imported.split(".")[0]
            assert below == room or floor[below] < floor[room], f"{name} imports {imported}"


def test_families_of_losses_do_not_know_each_other():
    for name, imports in _arrows().items():
        for imported in imports:
            if name.startswith("_losses.") and imported.startswith("_losses."):
                assert name.split(".")[1] == imported.split(".")[1], f"{name} imports {imported}"


def test_no_import_goes_round_in_a_circle():
    # A file of the loss doctor may name its own package on the way to a sibling.
    arrows = {n: {i for i in some if not n.startswith(f"{i}.")} for n, some in _arrows().items()}
    tuple(graphlib.TopologicalSorter(arrows).static_order())  # raises CycleError


def test_library_needs_only_jax_chex_and_numpy():
    allowed = {"jax", "chex", "numpy", "diffmetrics", "__future__"}
    allowed |= set(sys.stdlib_module_names)
    for name, path in _modules().items():
        roots = {name.split(".")[0] for name in _imported(path.read_text())}
        assert roots <= allowed, name


@pytest.mark.parametrize("folder", ["experiments", "benchmarks"])
def test_users_of_the_library_stay_out_of_its_private_rooms(folder: str):
    for path in (ROOT / folder).rglob("*.py"):
        private = [n for n in _imported(path.read_text()) if n.startswith("diffmetrics._")]
        assert not private, f"{path.name} imports {private}"
