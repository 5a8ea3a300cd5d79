"""What studies are read for: a table beside published ones, filtering, recalibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

import diffmetrics as dm
from experiments.shared import records, tables
from experiments.uncertainty import pictures, published
from experiments.uncertainty.study import Study


def _by_table(studies: Iterable[Study]) -> dict[str, list[Study]]:
    found: dict[str, list[Study]] = {}
    for study in studies:
        found.setdefault(study.table, []).append(study)
    return found


def _mean(study: Study, key: str) -> tables.Mean:
    return tables.mean(list(study.figures[key]))


def _table(columns: Sequence[str], lines: list[list[str]], title: str, console: Console) -> str:
    """Print the lines, and return them for a README."""
    tables.show(columns, lines, title, console, section=len(lines))
    return tables.markdown(columns, lines, title) + "\n"


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


def uci(studies: Sequence[Study], out: Path, console: Console) -> None:
    """Every method beside what others have published for the same splits."""
    written, verdicts = "", []
    for table, group in _by_table(studies).items():
        lines = [
            [study.method, *(tables.cell(_mean(study, key)) for key in UCI.values())]
            for study in group
        ]
        known = published.rows(table)
        lines += [
            [f"published: {name}", rmse, likelihood, *[""] * (len(UCI) - 2)]
            for name, (rmse, likelihood) in known.items()
        ]
        splits, minutes = len(group[0].target), sum(study.seconds for study in group) / 60
        title = f"{table}: {splits} splits, {minutes:.1f} minutes"
        written += _table(("method", *UCI), lines, title, console)
        best = published.best_of_forty_passes(table)
        if best is not None:
            verdicts.append(_verdict(table, group, *best))
    for verdict in verdicts:
        console.print(verdict)
    console.print(
        "± is the standard error over splits; differences within two of them are ties. LL: mean "
        "log-likelihood of a test row: of the mixture of all members or draws, of the Normal with "
        "its mean and variance, and of that with deviations times a factor fitted on held-out "
        "training rows. AUSE: 0 an oracle, 1 chance; if right: what it would be on average if the "
        "deviations were exactly right and errors Normal."
    )
    (out / "uci.md").write_text(written + "\n".join(verdicts) + "\n")
    rows = [
        {
            "table": study.table,
            "method": study.method,
            "splits": len(study.target),
            "seconds": study.seconds,
            "figures": {key: tables.mean(list(v)) for key, v in study.figures.items()},
        }
        for study in studies
    ]
    record = {"rows": rows, "verdicts": verdicts, **records.environment()}
    records.write_json(out / "uci.json", record)
    pictures.uci(out / "uci.json", out / "uci.png")


def _verdict(table: str, group: Sequence[Study], name: str, best: float) -> str:
    ours = {study.method: _mean(study, "mixture")[0] for study in group}
    winners = [method for method, value in ours.items() if round(value, 2) >= best]
    reached = f"reached by {', '.join(winners)}" if winners else "reached by none"
    return f"{table}: the best published LL after 40 passes is {best:.2f} ({name}): {reached}"


# --- filtering ------------------------------------------------------------------------------------

TARGETS = (0.8, 0.6, 0.5)


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


def filtering(studies: Sequence[Study], out: Path, console: Console) -> None:
    """|error| against deviation, and what share may be kept for a given error."""
    written = ""
    for table, group in _by_table(studies).items():
        lines, drawn = [], {}
        for study in group:
            error = study.target - study.mean
            keys = jax.random.split(jax.random.key(0), len(error))
            curves: dict[str, np.ndarray] = jax.device_get(
                jax.lax.map(lambda each: _curves(*each), (keys, study.deviation, error))
            )
            averages = {name: each.mean(0) for name, each in curves.items()}
            count = error.shape[1]
            kept = 1.0 - np.arange(count) / count
            shares = {
                name: [_share_kept(kept, each, target) for target in TARGETS]
                for name, each in averages.items()
            }
            lines.append(
                [
                    study.method,
                    tables.cell(_mean(study, "rank")),
                    tables.cell(_mean(study, "rank_attainable")),
                    tables.cell(_mean(study, "ause")),
                    tables.cell(_mean(study, "ause_attainable")),
                    *(f"{share:.0%}" for share in shares["method"]),
                    *(f"{share:.0%}" for share in shares["attainable"]),
                ]
            )
            drawn[study.method] = {
                "deviation": study.deviation, "error": np.abs(error), "kept": kept,
                "curves": averages, "shares_kept": shares, "targets": TARGETS,
            }  # fmt: skip
        title = f"{table}: which share may be kept for a given part of the mean |error|"
        written += _table(FILTER, lines, title, console)
        record = {"table": table, "methods": drawn, **records.environment()}
        records.write_json(out / f"filter-{table}.json", record)
        pictures.filtering(out / f"filter-{table}.json", out / f"filter-{table}.png")
    console.print(
        "If right: what the same deviations would reach if they were exactly right, because errors "
        "are the deviation times chance. A deviation that is the same for all inputs filters "
        "nothing: AUSE 1."
    )
    (out / "filter.md").write_text(written)


FILTER = (
    "method", "rank", "if right", "AUSE", "if right ",
    *(f"keep for {target:g} x" for target in TARGETS),
    *(f"if right {target:g} x" for target in TARGETS),
)  # fmt: skip


def _share_kept(kept: np.ndarray, curve: np.ndarray, target: float) -> float:
    """The largest share whose error is at most `target`; 0 if there is none."""
    fitting = kept[curve <= target]
    return float(fitting.max()) if fitting.size else 0.0


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


def recalibration(studies: Sequence[Study], out: Path, console: Console) -> None:
    """Coverage before and after one number is fitted on held-out training rows."""
    written, rows = "", []
    for table, group in _by_table(studies).items():
        lines = [
            [study.method, *(tables.cell(_mean(study, key)) for key in RECALIBRATION.values())]
            for study in group
        ]
        title = (
            f"{table}: coverage of 95 % intervals before and after, {len(group[0].target)} splits"
        )
        written += _table(("method", *RECALIBRATION), lines, title, console)
        rows += [
            {
                "table": table,
                "method": study.method,
                "figures": {key: _mean(study, key) for key in RECALIBRATION.values()},
            }
            for study in group
        ]
    console.print(
        "Factor and quantile come from the fifth of the training rows that was held out while the "
        "length of the training was chosen; the network was then trained on all rows, and coverage "
        "is that of the test rows. Below 19 held-out rows a conformal 95 % interval is infinite."
    )
    (out / "recalibrate.md").write_text(written)
    records.write_json(out / "recalibrate.json", {"rows": rows, **records.environment()})
    pictures.recalibration(out / "recalibrate.json", out / "recalibrate.png")
