"""The table of a comparison, differences to cross-entropy, and what its columns mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.shared import study, tables
from experiments.speakers import measure, pictures
from experiments.speakers.baseline import BASELINES
from experiments.speakers.published import PUBLISHED

REFERENCE = "cross-entropy"
Result = dict[str, Any]  # of one method on one deal, as in its `result.json`
Row = dict[str, Any]  # of one method on all of them, as in `comparison.json`

AVERAGED = ("tuned", "raw", "whitened", "shrinkage", "dev_eer", "seconds")


def summarize(method: str, results: Sequence[Result]) -> Row:
    """Means and standard errors over the seeds that finished, and the figures of every seed."""
    finished = [result for result in results if "failed" not in result]
    averaged = [{key: result[key] for key in AVERAGED if key in result} for result in finished]
    return {
        "method": method,
        "mean": tables.means(averaged),
        "each": [
            {key: _without_curve(value) for key, value in result.items()} for result in results
        ],
        "det": mean_det([result["tuned"]["det"] for result in finished]) if finished else None,
    }


def _without_curve(figures: Any) -> Any:
    if not isinstance(figures, dict):
        return figures
    return {key: value for key, value in figures.items() if key != "det"}


GRID = np.geomspace(1e-3, 1.0, 61)  # false alarm rates


def mean_det(curves: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """The mean over seeds of the miss rate at given false alarm rates."""
    misses = []
    for curve in curves:
        alarms, missed = np.array(curve["false_alarms"]), np.array(curve["misses"])
        misses.append(missed[np.searchsorted(alarms, GRID, side="right") - 1])
    return {"false_alarms": GRID.tolist(), "misses": np.mean(misses, 0).tolist()}


# --- the table ------------------------------------------------------------------------------------

COLUMNS = (
    "method", "shrinkage", "MR best", "MR tuned", "MR known", "MR tuned, average", "ARI", "ACP",
    "EER %", "minDCF", "accuracy", "of segments", "rank", "minutes",
)  # fmt: skip


def cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    """The comparison as text, a line a method."""
    for row in rows:
        if not row["mean"]:
            yield [row["method"], "failed", *["-"] * (len(COLUMNS) - 2)]
            continue
        figures = row["mean"]["tuned"]
        complete, average = figures["complete"], figures["average"]
        eer, error = figures["eer"]
        baseline = row["method"] in BASELINES
        yield [
            row["method"],
            f"{row['mean']['shrinkage'][0]:.2f}" if "shrinkage" in row["mean"] else "-",
            *(tables.cell(complete[f"mr_{cut}"], 3) for cut in ("best", "tuned", "known")),
            tables.cell(average["mr_tuned"], 3),
            *(tables.cell(complete[f"{name}_tuned"]) for name in ("ari", "acp")),
            tables.cell((100 * eer, 100 * error), 1),
            *(
                tables.cell(figures[name])
                for name in ("min_dcf", "accuracy_utterances", "accuracy_segments")
            ),
            f"{figures['effective_rank'][0]:.0f}",
            "" if baseline or "seconds" not in row["mean"] else _minutes(row),
        ]


def _minutes(row: Row) -> str:
    return f"{row['mean']['seconds'][0] / 60:.1f}"


def publish(
    results: Mapping[str, Sequence[Result]],
    settings: Any,
    seeds: Sequence[int],
    runs: Mapping[str, Path],
    out: Path,
    console: Console,
) -> None:
    """Table, notes, JSON and figures of a comparison.

    Args:
      results: of each method, in the order of the seeds.
      settings: of every run.
      seeds: of the deals of speakers.
      runs: a directory of a run of each loss, for the figures.
      out: where all goes.
      console: where the table is printed.
    """
    rows = [summarize(method, of_seeds) for method, of_seeds in results.items()]
    train, dev, test = settings.sizes
    source = settings.data.name if settings.data else f"{train + dev + test} generated voices"
    title = (
        f"{settings.network} on {source}: {train} speakers to train, {dev} to tune, {test} to "
        f"test, {settings.steps} steps, {tables.count(len(seeds), 'seed')}"
    )
    content = {
        "source": source,
        "settings": dataclasses.asdict(settings),
        "seeds": seeds,
        "eer_method": measure.EER_METHOD,
        "target_prior": measure.TARGET_PRIOR,
        "published": [figure._asdict() for figure in PUBLISHED],
        "rows": rows,
    }
    seconds = [run["seconds"] for row in rows for run in row["each"] if "seconds" in run]
    content |= {"seconds": sum(seconds)} if seconds else {}
    table = study.Table(title, COLUMNS, list(cells(rows)), len(rows))
    overlap = test / (train + dev)
    against = tables.against(results, REFERENCE, COMPARED, overlap=overlap)
    notes = [NOTES, *against, *unusual(rows), *_published()]
    study.publish(out, "comparison", [table], notes, content, console)
    finished = [row for row in rows if row["mean"]]
    drawn = {loss: run for loss, run in runs.items() if (run / "test.npz").exists()}
    if finished:
        pictures.draw(finished, drawn, out)


# --- notes ----------------------------------------------------------------------------------------

NOTES = (
    "MR is the misclassification rate of complete linkage on cosine distances, by optimal "
    "assignment: at the best threshold for the test speakers, at the one tuned on the development "
    "speakers, at the known number of speakers. Every utterance alone has 0.50, so that is chance. "
    f"EER is interpolated; minDCF is normalised, at a prior of {measure.TARGET_PRIOR}; accuracy is "
    "balanced, at a tuned threshold, of pairs of utterances and of single segments, and chance is "
    "½. Embeddings are whitened; how much of that is taken back is the shrinkage, 0 is all of the "
    "whitening and 1 none, chosen by the EER of the development speakers. mfcc is no network, and "
    "not whitened. ± is the standard error over seeds, each another deal of the speakers and other "
    "first parameters; one seed has none."
)


COMPARED = {"MR tuned": ("tuned", "complete", "mr_tuned"), "EER": ("tuned", "eer")}


def unusual(rows: Sequence[Row]) -> Iterator[str]:
    """Losses that stood still, and runs that failed."""
    warned = [
        f"{row['method']} ({count})"
        for row in rows
        if (count := sum(result.get("warnings", 0) for result in row["each"]))
    ]
    if warned:
        yield f"stood where one point would put the loss, and how often: {', '.join(warned)}"
    for row in rows:
        failed = [result["failed"] for result in row["each"] if "failed" in result]
        if failed:
            count = f"{len(failed)} of {len(row['each'])}"
            yield f"{row['method']}: runs that failed, and are in no figure: {count}; {failed[0]}"


def _published() -> Iterator[str]:
    yield "published on 40 speakers of TIMIT, which is other data (and is not free):"
    yield from (f"  {figure}" for figure in PUBLISHED)
