"""The probes: every file here is one thought about what may be wrong, and all are imported."""

import importlib
import pkgutil

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
