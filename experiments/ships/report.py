"""The table of all losses, what is to be read with it, and its figures."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.shared import plots, study, tables
from experiments.ships import pictures
from experiments.ships.pipeline import Images
from experiments.ships.tiles import Predict

Row = dict[str, Any]
REFERENCE = "cross-entropy"
PIXELS, OBJECTS = ("precision", "recall", "f1", "f2"), ("airbus_f2", "airbus_f2_ships")
COLUMNS = ("loss", "p >", "prec.", "recall", "F1", "F2", "AP", "objects", "ships")
LINES = {"at_half": "½", "at_tuned": "F1 {:.2f}", "objects": "objects {:.2f}"}
COMPARED = {
    "F1 at ½": ("at_half", "f1"),
    "F1 tuned": ("at_tuned", "f1"),
    "AP": ("average_precision",),
    "objects": ("objects", "airbus_f2"),
    "objects of ships": ("objects", "airbus_f2_ships"),
}
NOTES = (
    "Tuned on validation images: F1, the threshold with the best pixel F1; objects, threshold, "
    "smallest area and least peak with the best object F2. Objects is the challenge's score, the "
    "mean over all images of F2 at IoU .50 to .95; ships, over the images that have some."
)


def summarize(loss: str, results: Sequence[dict[str, Any]]) -> Row:
    """Means and standard errors over seeds; of a run that became non-finite, NaN."""
    verdicts = [each.get("verdict", "") for each in results]
    if len(results) > 1:  # no two have the same figures
        verdicts = [words.split(":")[0] for words in verdicts]
    happened = [each.get("failed", words) for each, words in zip(results, verdicts, strict=True)]
    counted = Counter(happened)
    verdict = "; ".join(
        f"{n} x {words}" if n < len(results) else words for words, n in counted.items()
    )
    row = tables.means(results)
    row.pop("image_scores", None)  # of each seed's own images
    return {**row, "loss": loss, "verdict": verdict}


def cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    """The comparison as text, three lines a loss: at ½, tuned for pixels, tuned for objects."""
    for row in rows:
        for k, (when, at) in enumerate(LINES.items()):
            if when not in row:
                yield [row["loss"], *["-"] * (len(COLUMNS) - 1)]
                break
            of = row[when]
            yield [
                row["loss"] if not k else "",
                at.format(of["threshold"][0]),
                *(tables.cell(of[key]) if key in of else "" for key in PIXELS),
                tables.cell(row["average_precision"]) if not k else "",
                *(tables.cell(of[key]) for key in OBJECTS),
            ]


def notes(found: Mapping[str, Sequence[dict[str, Any]]], rows: Sequence[Row]) -> Iterator[str]:
    """What became of each loss, yardsticks, and what exceeds two standard errors."""
    yield from (f"{row['loss']}: {row['verdict']}" for row in rows)
    yield NOTES
    yield from (line for loss, each in found.items() if (line := by_size(loss, each)))
    measured = [row for row in rows if "yardsticks" in row]
    for name, words in (("empty_submission", "nothing"), ("perfect_mask", "the true mask")):
        for row in measured[:1]:
            told = (tables.cell(row["yardsticks"][name][key]) for key in OBJECTS)
            yield f"A submission of {words} has objects {' and ships '.join(told)}."
    seeds = len(next(iter(found.values())))
    if seeds == 1:
        yield "One seed: no figure has an error, and small differences mean nothing."
        return
    yield (
        "± is the standard error over seeds, each with another split of the images; differences "
        "within two of them are ties."
    )
    yield from tables.against(found, REFERENCE, COMPARED)


def by_size(loss: str, results: Sequence[dict[str, Any]]) -> str:
    """Which objects are found, over all seeds; empty if no run was finished."""
    judged = [each["sizes"] for each in results if "sizes" in each]
    told = (
        f"{name} {sum(each[name]['found'] for each in judged)} of "
        f"{sum(each[name]['objects'] for each in judged)}"
        for name in (judged[0] if judged else ())
    )
    said = ", ".join(told)
    return said and f"{loss}, objects found at IoU above ½ when tuned: {said}"


def publish(
    found: Mapping[str, Sequence[dict[str, Any]]],
    settings: Any,
    out: Path,
    console: Console,
) -> None:
    """Print and write the table of all losses, and draw it."""
    rows = [summarize(loss, results) for loss, results in found.items()]
    seeds = len(next(iter(found.values())))
    source = ", ".join(folder.name for folder in settings.data) or "generated scenes"
    title = f"U-Net on {source}: {settings.steps} steps, {tables.count(seeds, 'seed')}"
    content = {
        "source": source,
        "settings": dataclasses.asdict(settings),
        "seeds": seeds,
        "seconds": sum(each["seconds"] for results in found.values() for each in results),
        "rows": rows,
    }
    table = study.Table(title, COLUMNS, list(cells(rows)))
    study.publish(out, "comparison", [table], notes(found, rows), content, console)
    drawn = [row for row in rows if "at_half" in row]
    if drawn:
        pictures.comparison(drawn, out / "comparison.png", title=title)


def draw(
    directories: Mapping[str, Path],
    predict: Mapping[str, Predict],
    images: Images,
    members: Sequence[int],
    out: Path,
) -> None:
    """Training curves, and predictions of some images, of a trained run for each loss."""
    logs = {loss: each / "metrics.jsonl" for loss, each in directories.items()}
    plots.training_curves(logs, out / "curves.png")
    examples = pictures.choose(images, members)
    masks = {
        loss: [one(example.image) > 0 for example in examples] for loss, one in predict.items()
    }
    pictures.predictions(examples, masks, out / "predictions.png", note="pixels with p > ½")
