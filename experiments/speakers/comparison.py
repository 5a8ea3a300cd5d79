"""All losses on the same speakers: train, judge, tabulate."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.shared import records, tables, training
from experiments.speakers import backend, baseline, clustering, measure, pictures, protocol, run
from experiments.speakers.losses import LOSSES, require_known
from experiments.speakers.protocol import Parts, Voice
from experiments.speakers.published import PUBLISHED
from experiments.speakers.run import Settings, Speech, Trained

UNTRAINED, MFCC = "untrained", "MFCC, no network"
Result = dict[str, Any]


@dataclasses.dataclass
class Bench:
    """One split of the speakers, on which losses are tried one after the other."""

    settings: Settings
    voices: Sequence[Voice]
    seed: int
    console: Console
    resume: bool = False

    @functools.cached_property
    def parts(self) -> Parts:
        return protocol.split(len(self.voices), self.settings.sizes, self.seed)

    @functools.cached_property
    def speech(self) -> Speech:
        return run.training_speech(self.settings, self.voices, self.parts)

    def some(self, places: np.ndarray) -> list[Voice]:
        return [self.voices[k] for k in places]

    def one(self, loss: str, directory: Path) -> Result:
        """Train and judge one loss in `directory`, or read what a finished run has found."""
        seed = self.seed
        described = run.describe(self.settings, loss, seed)
        records.claim(directory, described, resume=self.resume)
        path = directory / "result.json"
        if path.exists():
            return json.loads(path.read_text())
        training.examine(LOSSES[loss].examined, LOSSES[loss].kind, self.console)
        with records.stopwatch(directory / "seconds.json") as seconds:
            trained, watch = run.fit(
                self.settings, self.speech, loss, seed, directory, self.console
            )
            found = self.judge(trained, directory)
            found |= {"loss": loss, "seed": seed, "warnings": watch.warned, "seconds": seconds()}
        records.write_json(path, found | {"watched": watch.last, **records.environment()})
        return json.loads(path.read_text())

    def judge(self, trained: Trained, directory: Path | None = None) -> Result:
        """Figures as they are and whitened; into `directory` go embeddings and the whitening."""
        train, dev, test = (run.hear(trained, self.some(each)) for each in self.parts)
        whiten = backend.whitening(train.segments, train.segment_speakers)
        if directory is not None:
            whiten.save(directory / "whitening.npz")
            np.savez_compressed(directory / "test.npz", **test._asdict())
        return {
            "raw": measure.judge(dev, test),
            "whitened": measure.judge(whiten.of(dev), whiten.of(test)),
        }

    def untrained(self) -> Result:
        """A network with its first parameters."""
        loss = next(iter(LOSSES))
        model, state = run.initialize(self.settings, loss, self.seed, self.speech.scale)
        return self.judge(Trained(self.settings, model, state))

    def mfcc(self) -> Result:
        train, dev, test = (self.some(each) for each in self.parts)
        hear = baseline.fit(train, self.settings.frames)
        return {"raw": measure.judge(hear(dev), hear(test))}


def compare_losses(
    settings: Settings,
    losses: Sequence[str],
    splits: Sequence[int],
    out: Path,
    console: Console,
    *,
    resume: bool,
) -> list[dict[str, Any]]:
    """Train every loss on every split, then report on all.

    Returns:
      One row a method, as written to `comparison.json`.

    Raises:
      ValueError: for a loss that does not exist, or no split.
    """
    require_known(losses)
    if not splits or min(splits) < 0 or len(set(splits)) < len(splits):
        raise ValueError(f"splits must be different numbers from 0 on, got {tuple(splits)}")
    voices = run.open_voices(settings, console)
    judged: dict[str, list[Result]] = {MFCC: [], UNTRAINED: []}

    def directory(loss: str, seed: int) -> Path:
        return out / f"{settings.network}-{loss}-{seed}"

    for seed in splits:
        bench = Bench(settings, voices, seed, console, resume)
        judged[MFCC].append(bench.mfcc())
        judged[UNTRAINED].append(bench.untrained())
        for loss in losses:
            judged.setdefault(loss, []).append(bench.one(loss, directory(loss, seed)))
    rows = [summarize(name, found) for name, found in judged.items()]
    report(settings, rows, list(splits), out, console)
    pictures.draw(rows, {loss: directory(loss, splits[0]) for loss in losses}, out)
    return rows


# --- the report -----------------------------------------------------------------------------------

FIGURES = (
    "eer", "min_dcf", "accuracy_utterances", "accuracy_segments", "same", "different",
    "effective_rank", "dev_eer",
)  # fmt: skip
OF_CUTS = (
    "mr_best", "mr_tuned", "mr_known", "mr_alone", "ari_tuned", "ari_known", "acp_tuned",
    "clusters_tuned", "dev_mr", "threshold",
)  # fmt: skip
BACKENDS = ("raw", "whitened")


def summarize(name: str, found: Sequence[Result]) -> dict[str, Any]:
    """Means and standard errors over splits, and the figures of every split."""
    row: dict[str, Any] = {"method": name, "splits": len(found)}
    for backend_name in BACKENDS:
        if backend_name not in found[0]:
            continue
        each = [one[backend_name] for one in found]
        figures: dict[str, Any] = {key: [one[key] for one in each] for key in FIGURES}
        for linkage in clustering.LINKAGES:
            figures |= {f"{key}, {linkage}": [one[linkage][key] for one in each] for key in OF_CUTS}
        row[backend_name] = {key: tables.mean(values) for key, values in figures.items()}
        row[backend_name]["each_split"] = figures
        row[backend_name]["det"] = mean_det([one["det"] for one in each])
    if "seconds" in found[0]:
        row["minutes"] = tables.mean([one["seconds"] / 60 for one in found])
        row["warnings"] = [one["warnings"] for one in found]
    return row


GRID = np.geomspace(1e-3, 1.0, 61)  # false alarm rates


def mean_det(curves: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """The mean over splits of the miss rate at given false alarm rates."""
    misses = []
    for curve in curves:
        alarms, missed = np.array(curve["false_alarms"]), np.array(curve["misses"])
        misses.append(missed[np.searchsorted(alarms, GRID, side="right") - 1])
    return {"false_alarms": GRID.tolist(), "misses": np.mean(misses, 0).tolist()}


COLUMNS = (
    "method", "embeddings", "MR best", "MR tuned", "MR known", "MR tuned, average", "ARI", "ACP",
    "EER %", "minDCF", "accuracy", "of 400 ms", "rank", "minutes",
)  # fmt: skip


def cells(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """The comparison as text, a line for each backend of a method."""
    for row in rows:
        for name in BACKENDS:
            if name not in row:
                continue
            figures = row[name]
            mean, error = figures["eer"]
            yield [
                row["method"] if name == "raw" else "",
                "as they are" if name == "raw" else name,
                *(
                    tables.cell(figures[key], 3)
                    for key in ("mr_best, complete", "mr_tuned, complete", "mr_known, complete")
                ),
                tables.cell(figures["mr_tuned, average"], 3),
                *(tables.cell(figures[f"{key}_tuned, complete"]) for key in ("ari", "acp")),
                tables.cell((100 * mean, 100 * error), 1),
                *(
                    tables.cell(figures[key])
                    for key in ("min_dcf", "accuracy_utterances", "accuracy_segments")
                ),
                f"{figures['effective_rank'][0]:.0f}",
                f"{row['minutes'][0]:.1f}" if name == "raw" and "minutes" in row else "",
            ]


def report(
    settings: Settings,
    rows: Sequence[dict[str, Any]],
    splits: list[int],
    out: Path,
    console: Console,
) -> None:
    """Print and write the table and the published figures."""
    where = records.environment()
    source = settings.data.name if settings.data else f"{sum(settings.sizes)} generated voices"
    title = (
        f"{settings.network} on {source}: {settings.train_speakers} speakers to train, "
        f"{settings.dev_speakers} to tune, {settings.test_speakers} to test, {settings.steps} "
        f"steps, {len(splits)} split{'s' * (len(splits) > 1)}, {where['device']}"
    )
    content = {
        "source": source,
        "settings": vars(settings),
        "splits": splits,
        **where,
        "eer_method": measure.EER_METHOD,
        "target_prior": measure.TARGET_PRIOR,
        "published": [each._asdict() for each in PUBLISHED],
        "rows": rows,
    }
    records.write_json(out / "comparison.json", content)
    notes = list(explain(rows))
    table = tables.markdown(COLUMNS, cells(rows), title)
    (out / "comparison.md").write_text(table + "\n" + "\n".join(notes) + "\n")
    tables.show(COLUMNS, list(cells(rows)), title, console)
    for note in notes:
        console.print(note, markup=False)
    console.print(f"runs, comparison.json and figures in {out}", markup=False)


def explain(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the columns are, their floors, and what others have published."""
    alone = rows[0]["raw"]["mr_alone, complete"][0]
    yield (
        "MR is the misclassification rate of complete linkage on cosine distances, by optimal "
        "assignment: at the best threshold for the test speakers, at the one tuned on the "
        "development speakers, at the known number of speakers. Every utterance alone has "
        f"{alone:.2f}, so that is chance. EER is interpolated; minDCF is normalised, at a prior of "
        f"{measure.TARGET_PRIOR}; accuracy is balanced, at a tuned threshold, of pairs of "
        "utterances and of single segments, and chance is ½. ± is the standard error over splits."
    )
    warned = [
        f"{row['method']} ({sum(row['warnings'])})" for row in rows if any(row.get("warnings", []))
    ]
    if warned:
        yield f"stood where one point would put the loss, and how often: {', '.join(warned)}"
    yield "published on 40 speakers of TIMIT, which is other data (and is not free):"
    yield from (f"  {each}" for each in PUBLISHED)
