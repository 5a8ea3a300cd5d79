"""Figures, drawn from what runs have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from scipy.stats import norm
from sklearn.manifold import TSNE

from experiments.shared import plots
from experiments.speakers import backend, clustering, measure
from experiments.speakers.baseline import BASELINES

PREFERRED = ("asked", "kl-hinge", "angular-margin", "cross-entropy", "triplet", "contrastive")
GREY = "#777777"
SHOWN = 3  # losses in a picture of many panels
MAPPED = 8  # speakers in a map, as many as there are colours


def draw(rows: Sequence[dict[str, Any]], runs: Mapping[str, Path], out: Path) -> None:
    """All figures of a comparison: its rows, and the directory of a run of each loss."""
    names = [name for name in PREFERRED if name in runs][:SHOWN] or list(runs)[:SHOWN]
    det(rows, out / "det.png")
    if names:
        chosen = {name: runs[name] for name in names}
        maps(chosen, out / "maps.png")
        curves(chosen, out / "curves.png")
        for name, run in chosen.items():
            dendrogram(run, name, out / f"dendrogram-{name}.png")


# --- error trade-off ------------------------------------------------------------------------------

RATES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
STYLES = ("-", "--", "-.", ":")


def det(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Misses against false alarms on axes of normal deviates, a line a method.

    Of several seeds a line is the mean miss rate at each false alarm rate, and the equal error rate
    is the mean of theirs, which is not where the line crosses the diagonal.
    """
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(5.4, 4.4), layout="constrained")
        axes = figure.subplots()
        for k, row in enumerate(rows):
            curve = row["det"]
            alarms = np.clip(curve["false_alarms"], 1e-4, 0.999)
            misses = np.clip(curve["misses"], 1e-4, 0.999)
            baseline = row["method"] in BASELINES
            color = GREY if baseline else plots.CYCLE[k % len(plots.CYCLE)]
            axes.plot(
                norm.ppf(alarms),
                norm.ppf(misses),
                color=color,
                linestyle=STYLES[(k // len(plots.CYCLE) + k % 2 * baseline) % 4],
                label=f"{row['method']}, {100 * row['mean']['tuned']['eer'][0]:.1f} %",
            )
        ends = norm.ppf([RATES[0], RATES[-1]])
        axes.plot(ends, ends, color=GREY, linewidth=0.6)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(norm.ppf(RATES), [f"{100 * rate:g}" for rate in RATES])
        axes.set(xlim=ends, ylim=norm.ppf([0.004, RATES[-1]]))
        axes.set(xlabel="false alarms, %", ylabel="misses, %")
        axes.grid(color="#eeeeee", linewidth=0.6)
        axes.set_axisbelow(True)
        figure.legend(loc="outside right upper", title="mean equal error rate", fontsize=8)
        plots.save(figure, path)


# --- what embeddings look like --------------------------------------------------------------------


def maps(runs: Mapping[str, Path], path: Path) -> None:
    """Of each loss the similarity of all test utterances, and a map of a few speakers."""
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(3.1 * len(runs), 6.2), layout="constrained")
        panels = figure.subplots(2, len(runs), squeeze=False, height_ratios=(1, 1))
        image = None
        for (name, run), (top, bottom) in zip(runs.items(), panels.T, strict=True):
            test = _test(run)
            image = _similarity(test, top)
            top.set_title(name)
            _map(test, bottom)
        panels[0, 0].set_ylabel("test utterances, two a speaker")
        panels[1, 0].set_ylabel(f"single segments, up to {MAPPED} speakers (t-SNE)")
        if image is not None:
            figure.colorbar(image, ax=panels[0, :], label="cosine", shrink=0.7, pad=0.01)
        plots.save(figure, path)


def _test(run: Path) -> measure.Heard:
    with np.load(run / "test.npz") as file:
        return measure.Heard(**file)


def _similarity(test: measure.Heard, panel: Axes) -> Any:
    order = np.argsort(test.speakers, kind="stable")
    x = test.utterances[order]
    image = panel.imshow(
        1.0 - squareform(clustering.distances(x - x.mean(0))), vmin=-1, vmax=1, cmap="RdBu_r"
    )
    panel.set_xticks([])
    panel.set_yticks([])
    return image


def _map(test: measure.Heard, panel: Axes) -> None:
    chosen = test.segment_speakers < MAPPED
    x, owners = test.segments[chosen], test.segment_speakers[chosen]
    perplexity = min(15.0, (len(x) - 1) / 3)
    x = x - test.utterances.mean(0)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    # With so few points the exact method is faster than the one for many.
    tsne = TSNE(2, perplexity=perplexity, init="pca", method="exact", random_state=0)
    flat = tsne.fit_transform(x)
    for speaker in range(MAPPED):
        mine = flat[owners == speaker]
        panel.scatter(*mine.T, s=14, color=plots.CYCLE[speaker], linewidths=0, alpha=0.85)
    panel.set_xticks([])
    panel.set_yticks([])


def dendrogram(run: Path, name: str, path: Path) -> None:
    """The tree of test utterances as judged; a speaker whose two utterances merge first is blue."""
    test = _test(run)
    x, speakers = test.utterances, test.speakers
    tree = clustering.grow(backend.Whitening.load(run / "whitening.npz")(x), "complete")
    members: list[set[int]] = [{k} for k in range(len(x))]
    for a, b, _, _ in tree:
        members.append(members[int(a)] | members[int(b)])
    pure = [len(set(speakers[list(leaves)])) == 1 for leaves in members]
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(9.5, 3.2), layout="constrained")
        axes = figure.subplots()
        hierarchy.dendrogram(
            tree,
            ax=axes,
            labels=[str(s) for s in speakers],
            leaf_font_size=5,
            link_color_func=lambda k: plots.BLUE if pure[k] else "#bbbbbb",
        )
        together = {int(s) for k, s in enumerate(speakers) if _meets(k, members, pure)}
        for label in axes.get_xticklabels():
            label.set_color("black" if int(label.get_text()) in together else plots.CYCLE[5])
        axes.set(ylabel="cosine distance", xlabel="speaker of the utterance")
        axes.set_title(
            f"{name}: {len(together)} of {len(set(speakers))} speakers meet themselves "
            "first (blue), the others are orange"
        )
        plots.save(figure, path)


def _meets(leaf: int, members: list[set[int]], pure: list[bool]) -> bool:
    """Whether the first cluster that a leaf joins is of its own speaker."""
    count = next(k for k, leaves in enumerate(members) if len(leaves) > 1)
    return next(pure[k] for k in range(count, len(members)) if leaf in members[k])


# --- training -------------------------------------------------------------------------------------


def curves(runs: Mapping[str, Path], path: Path) -> None:
    """Loss and where it rests, distances and directions of each loss over its training."""
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(3.1 * len(runs), 5.4), layout="constrained")
        panels = figure.subplots(3, len(runs), squeeze=False, sharex="col")
        for (name, run), column in zip(runs.items(), panels.T, strict=True):
            logged = plots.read_log(run / "watch.jsonl")
            step = logged["step"]
            loss, distance, rank = column
            loss.plot(step, logged["loss"], color=plots.BLUE, label="loss")
            loss.plot(step, logged["resting"], "--", color=GREY, label="if all were one point")
            distance.plot(step, logged["different"], color=plots.ORANGE, label="different speakers")
            distance.plot(step, logged["same"], color=plots.GREEN, label="same speaker")
            rank.plot(step, logged["effective_rank"], color=plots.BLUE)
            top = 1.15 * max(logged["loss"].max(), logged["resting"].max())
            loss.set(title=name, ylim=(0, top))
            distance.set_ylim(0, 1.2)
            rank.set(ylim=(0, None), xlabel="step")
        for panel, text in zip(
            panels[:, 0], ("training loss", "cosine distance", "effective rank"), strict=True
        ):
            panel.set_ylabel(text)
        for panel in panels[:2, -1]:
            panel.legend(fontsize=8)
        plots.save(figure, path)
