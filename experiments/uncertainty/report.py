"""What studies are read for: a table beside published ones, filtering, recalibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import diffmetrics as dm
from experiments.shared import study, tables
from experiments.uncertainty import pictures, published

Row = dict[str, Any]  # one method on one table, as in its `result.json`
Results = Mapping[str, Sequence[Row]]  # by table


def told(seeds: int) -> str:
    """How many seeds there are, for a title."""
    return tables.count(seeds, "seed") + ", so no standard errors" * (seeds == 1)


def _finished(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "failed" not in row]


def _mean(row: Row, key: str) -> tables.Mean:
    return tables.mean(np.array(row["figures"][key], float).tolist())


def _line(row: Row, columns: Sequence[str]) -> list[str]:
    if "failed" in row:
        return [row["method"], "failed", *[""] * (len(columns) - 1)]
    return [row["method"], *(tables.cell(_mean(row, key)) for key in columns)]


def _publish(
    name: str,
    results: Results,
    written: Sequence[study.Table],
    notes: Sequence[str],
    content: dict[str, Any],
    out: Path,
    console: Console,
) -> bool:
    """Print and write; whether there is anything to be drawn."""
    rows = [row for rows in results.values() for row in rows]
    failures = [f"failed: {row['failed']}" for row in rows if "failed" in row]
    content = {**content, "failed": failures, "seconds": sum(row["seconds"] for row in rows)}
    study.publish(out, name, written, [*notes, *failures], content, console)
    return len(failures) < len(rows)


def _rows(results: Results, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Mean and standard error of every figure, for a record."""
    return [
        {
            "table": table,
            "method": row["method"],
            "seconds": row["seconds"],
            "figures": {key: _mean(row, key) for key in columns or row["figures"]},
        }
        for table, rows in results.items()
        for row in _finished(rows)
    ]


# --- the published protocol -----------------------------------------------------------------------

UCI = {
    "RMSE": "rmse",
    "LL mixture": "mixture",
    "LL moments": "moment_matched",
    "LL scaled": "scaled",
    "CRPS": "crps",
    "95 %": "coverage",
    "scaled": "coverage_scaled",
    "AUSE": "ause",
    "if right": "ause_attainable",
    "rank": "rank",
    "if right ": "rank_attainable",
}
UCI_NOTE = (
    "± is the standard error over splits; differences within two of them are ties. LL: mean "
    "log-likelihood of a test row: of the mixture of all members or draws, of the Normal with "
    "its mean and variance, and of that with deviations times a factor fitted on held-out "
    "training rows. AUSE: 0 an oracle, 1 chance; if right: what it would be on average if the "
    "deviations were exactly right and errors Normal."
)


def uci(results: Results, seeds: int, out: Path, console: Console) -> None:
    """Every method beside what others have published for the same splits."""
    written, verdicts = [], []
    for table, rows in results.items():
        lines = [_line(row, list(UCI.values())) for row in rows]
        for name, figures in published.rows(table).items():
            lines.append([f"published: {name}", *figures, *[""] * (len(UCI) - 2)])
        written.append(study.Table(f"{table}: {told(seeds)}", ("method", *UCI), lines, len(lines)))
        best = published.best_of_forty_passes(table)
        if best is not None:
            verdicts.append(_verdict(table, _finished(rows), *best))
    content = {"rows": _rows(results), "verdicts": verdicts}
    if _publish("uci", results, written, [*verdicts, UCI_NOTE], content, out, console):
        pictures.uci(out / "uci.json", out / "uci.png")


def _verdict(table: str, rows: Sequence[Row], name: str, best: float) -> str:
    winners = [row["method"] for row in rows if round(_mean(row, "mixture")[0], 2) >= best]
    reached = f"reached by {', '.join(winners) or 'none'}"
    return f"{table}: the best published LL after 40 passes is {best:.2f} ({name}): {reached}"


# --- filtering ------------------------------------------------------------------------------------

TARGETS = (0.8, 0.6, 0.5)
FILTER = {"rank": "rank", "if right": "rank_attainable", "AUSE": "ause"}
FILTER |= {"if right ": "ause_attainable"}
KEPT = [f"{what} {t:g} x" for what in ("keep for", "if right") for t in TARGETS]
FILTER_NOTE = (
    "If right: what the same deviations would reach if they were exactly right, because errors "
    "are the deviation times chance. A deviation that is the same for all inputs filters "
    "nothing: AUSE 1."
)


def filtering(results: Results, seeds: int, out: Path, console: Console) -> None:
    """|error| against deviation, and what share may be kept for a given error."""
    written, drawn = [], {}
    for table, rows in results.items():
        lines, drawn[table] = [], {}
        for row in rows:
            lines.append([*_line(row, list(FILTER.values())), *[""] * len(KEPT)])
            if "failed" in row:
                continue
            filtered = drawn[table][row["method"]] = _filtered(out / f"{table}-{row['method']}")
            shares = filtered["shares_kept"]
            lines[-1][-len(KEPT) :] = [f"{s:.0%}" for s in shares["method"] + shares["attainable"]]
        title = f"{table}: which share may be kept for a given part of the mean |error|"
        columns = ("method", *FILTER, *KEPT)
        written.append(study.Table(f"{title}, {told(seeds)}", columns, lines, len(lines)))
    if _publish("filter", results, written, [FILTER_NOTE], {"tables": drawn}, out, console):
        pictures.filtering(out / "filter.json", out)


def _filtered(directory: Path) -> dict[str, Any]:
    with np.load(directory / "predictions.npz") as arrays:
        target, mean, deviation = (arrays[name] for name in ("target", "mean", "deviation"))
    error = target - mean
    keys = jax.random.split(jax.random.key(0), len(error))
    curves: dict[str, np.ndarray] = jax.device_get(
        jax.lax.map(lambda split: _curves(*split), (keys, deviation, error))
    )
    averages = {name: curve.mean(0) for name, curve in curves.items()}
    kept = 1.0 - np.arange(error.shape[1]) / error.shape[1]
    shares = {
        name: [_share_kept(kept, curve, target) for target in TARGETS]
        for name, curve in averages.items()
    }
    return {
        "deviation": deviation, "error": np.abs(error), "kept": kept,
        "curves": averages, "shares_kept": shares, "targets": TARGETS,
    }  # fmt: skip


def _kept_error(scale: jax.Array, error: jax.Array) -> jax.Array:
    curve = dm.sparsification_curve(scale, error).error
    return curve / curve[0]


@jax.jit
def _curves(key: jax.Array, deviation: jax.Array, error: jax.Array) -> dict[str, jax.Array]:
    """Error of the kept rows of one split, over that of all, in shares that fall from 1."""
    curve = dm.sparsification_curve(deviation, error)
    return {
        "method": curve.error / curve.error[0],
        "oracle": curve.oracle / curve.error[0],
        "attainable": dm.attainable(key, deviation, metric=_kept_error, draws=20).mean(0),
    }


def _share_kept(kept: np.ndarray, curve: np.ndarray, target: float) -> float:
    """The largest share whose error is at most `target`; 0 if there is none."""
    return float(kept[curve <= target].max(initial=0.0))


# --- recalibration --------------------------------------------------------------------------------

RECALIBRATION = {
    "factor": "factor",
    "95 % before": "coverage",
    "width": "width",
    "scaled": "coverage_scaled",
    "width ": "width_scaled",
    "conformal": "coverage_conformal",
    "width  ": "width_conformal",
    "LL before": "moment_matched",
    "LL scaled": "scaled",
}
RECALIBRATION_NOTE = (
    "Factor and quantile come from the fifth of the training rows that was held out while the "
    "length of the training was chosen; the network was then trained on all rows, and coverage "
    "is that of the test rows. Below 19 held-out rows a conformal 95 % interval is infinite."
)


def recalibration(results: Results, seeds: int, out: Path, console: Console) -> None:
    """Coverage before and after one number is fitted on held-out training rows."""
    keys, columns = list(RECALIBRATION.values()), ("method", *RECALIBRATION)
    of = f"coverage of 95 % intervals before and after, {told(seeds)}"
    written = [
        study.Table(f"{table}: {of}", columns, [_line(row, keys) for row in rows], len(rows))
        for table, rows in results.items()
    ]
    content = {"rows": _rows(results, keys)}
    if _publish("recalibrate", results, written, [RECALIBRATION_NOTE], content, out, console):
        pictures.recalibration(out / "recalibrate.json", out / "recalibrate.png")
