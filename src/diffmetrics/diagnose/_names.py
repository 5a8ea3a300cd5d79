"""Names that somebody wrote, and those that were meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def meant(name: str, names: Iterable[str]) -> str:
    """A question that ends a message, if one of the names is near to what was written."""
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {near[0]}?" if near else ""
