"""Figures that others have published for the same splits.

RMSE and mean test log-likelihood; ± is a standard error, but for deep ensembles, where it has the
size of a standard deviation over splits. From table 1 of Gal and Ghahramani (2016,
arXiv:1506.02142) and of Lakshminarayanan et al. (2017, arXiv:1612.01474), both of networks with one
hidden layer of 50 units trained for 40 passes; and from the read-me of DropoutUncertaintyExps, for
networks that were trained for longer, with tuned settings or two layers.
"""

from __future__ import annotations

Figure = tuple[str, str]  # RMSE, log-likelihood

SETS = ("boston", "concrete", "energy", "power", "wine", "yacht")
FILES = {
    "bostonHousing": "boston",
    "power-plant": "power",
    "wine-quality-red": "wine",
}

FORTY_PASSES: dict[str, tuple[Figure, ...]] = {
    "VI (Graves)": (
        ("4.32 ±0.29", "-2.90 ±0.07"),
        ("7.19 ±0.12", "-3.39 ±0.02"),
        ("2.65 ±0.08", "-2.39 ±0.03"),
        ("4.33 ±0.04", "-2.89 ±0.01"),
        ("0.65 ±0.01", "-0.98 ±0.01"),
        ("6.89 ±0.67", "-3.43 ±0.16"),
    ),
    "PBP": (
        ("3.01 ±0.18", "-2.57 ±0.09"),
        ("5.67 ±0.09", "-3.16 ±0.02"),
        ("1.80 ±0.05", "-2.04 ±0.02"),
        ("4.12 ±0.03", "-2.84 ±0.01"),
        ("0.64 ±0.01", "-0.97 ±0.01"),
        ("1.02 ±0.05", "-1.63 ±0.02"),
    ),
    "MC dropout": (
        ("2.97 ±0.19", "-2.46 ±0.06"),
        ("5.23 ±0.12", "-3.04 ±0.02"),
        ("1.66 ±0.04", "-1.99 ±0.02"),
        ("4.02 ±0.04", "-2.80 ±0.01"),
        ("0.62 ±0.01", "-0.93 ±0.01"),
        ("1.11 ±0.09", "-1.55 ±0.03"),
    ),
    "deep ensemble": (
        ("3.28 (sd 1.00)", "-2.41 (sd 0.25)"),
        ("6.03 (sd 0.58)", "-3.06 (sd 0.18)"),
        ("2.09 (sd 0.29)", "-1.38 (sd 0.22)"),
        ("4.11 (sd 0.17)", "-2.79 (sd 0.04)"),
        ("0.64 (sd 0.04)", "-0.94 (sd 0.12)"),
        ("1.58 (sd 0.48)", "-1.18 (sd 0.21)"),
    ),
}

LONGER: dict[str, tuple[Figure, ...]] = {
    "MC dropout, 4000 passes": (
        ("2.80 ±0.19", "-2.39 ±0.05"),
        ("4.81 ±0.14", "-2.94 ±0.02"),
        ("1.09 ±0.05", "-1.72 ±0.02"),
        ("4.00 ±0.04", "-2.79 ±0.01"),
        ("0.61 ±0.01", "-0.92 ±0.01"),
        ("0.72 ±0.06", "-1.38 ±0.01"),
    ),
    "MC dropout, tuned": (
        ("2.90 ±0.18", "-2.40 ±0.04"),
        ("4.82 ±0.16", "-2.93 ±0.02"),
        ("0.54 ±0.01", "-1.21 ±0.01"),
        ("4.01 ±0.04", "-2.80 ±0.01"),
        ("0.62 ±0.01", "-0.93 ±0.01"),
        ("0.67 ±0.05", "-1.25 ±0.01"),
    ),
    "MC dropout, 2 layers": (
        ("2.80 ±0.13", "-2.34 ±0.02"),
        ("4.50 ±0.18", "-2.82 ±0.02"),
        ("0.47 ±0.01", "-1.48 ±0.00"),
        ("3.63 ±0.04", "-2.67 ±0.01"),
        ("0.60 ±0.01", "-0.90 ±0.01"),
        ("0.66 ±0.06", "-1.37 ±0.02"),
    ),
}


def rows(table: str) -> dict[str, Figure]:
    """Published figures by method, for the name of a file; empty if there are none."""
    name = FILES.get(table, table)
    if name not in SETS:
        return {}
    place = SETS.index(name)
    return {method: figures[place] for method, figures in {**FORTY_PASSES, **LONGER}.items()}


def best_of_forty_passes(table: str) -> tuple[str, float] | None:
    """The method with the best published log-likelihood after 40 passes, and that likelihood."""
    found = {
        method: float(figures[1].split()[0])
        for method, figures in rows(table).items()
        if method in FORTY_PASSES
    }
    return max(found.items(), key=lambda item: item[1]) if found else None
