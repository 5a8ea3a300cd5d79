"""What the models see: predictions beside image and truth, and the comparison of all losses."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from scipy import ndimage

from experiments.shared import plots
from experiments.ships.images import Example
from experiments.ships.objects import components
from experiments.ships.pipeline import Images


def overlay(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The image with found ships green, missed ones blue and false alarms orange.

    Args:
      image: uint8 [H, W, 3].
      truth: boolean [H, W].
      predicted: boolean [H, W].
    """
    return _painted(
        image,
        (truth & predicted, plots.GREEN),
        (truth & ~predicted, plots.BLUE),
        (predicted & ~truth, plots.ORANGE),
    )


def outline(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The image with the true objects in white, which is no colour of a verdict.

    Args:
      image: uint8 [H, W, 3].
      truth: boolean [H, W].
    """
    return _painted(image, (truth, "white"))


def _painted(image: np.ndarray, *masks: tuple[np.ndarray, str]) -> np.ndarray:
    faded = image.astype(np.float32) * 0.75 + 30.0
    for cells, color in masks:
        faded[cells] = 0.25 * faded[cells] + 0.75 * 255.0 * np.array(to_rgb(color))
    return faded.clip(0, 255).astype(np.uint8)


def close_up(example: Example, *others: np.ndarray) -> tuple[slice, slice]:
    """A square window around the largest object, twice as wide as that.

    Without an object it shows the largest thing that one of the masks `others` takes for one, and
    at last the middle.
    """
    shape = np.array(example.instances.shape)
    centre, extent = shape / 2, shape.min() / 4
    for mask in (example.instances, *others):
        labels = components(mask > 0)
        if not labels.any():
            continue
        largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
        box = ndimage.find_objects(labels, largest)[largest - 1]
        centre = np.array([(side.start + side.stop) / 2 for side in box])
        extent = max(side.stop - side.start for side in box)
        break
    edge = int(np.clip(2 * extent, 24, shape.min()))
    corner = np.clip(centre - edge / 2, 0, shape - edge).astype(int)
    rows, columns = (slice(int(c), int(c) + edge) for c in corner)
    return rows, columns


def choose(images: Images, members: Sequence[int], count: int = 4) -> list[Example]:
    """Images to show: by the size of what is in them, evenly, and at last an empty one."""
    full = list(images.readable([i for i in members if images.has_ships(i)][:40]))
    full.sort(key=lambda example: int((example.instances > 0).sum()), reverse=True)
    places = np.linspace(0, len(full) - 1, min(count - 1, len(full))).round().astype(int)
    empty = images.readable([i for i in members if not images.has_ships(i)][:1])
    return [*(full[k] for k in places), *empty]


def best_and_worst(
    images: Images, members: Sequence[int], scores: Mapping[str, float], count: int = 3
) -> list[Example]:
    """The images with ships that a model scored highest, then those that it scored lowest.

    Of equal scores that with the fewest ship pixels counts as better.

    Args:
      images: the whole set.
      members: which of them were scored.
      scores: name of an image to object F2, pixel F1 or any score of it, as "image_scores" of
        `measure.judge`.
      count: how many of each; no image is shown twice.
    """
    full = [i for i in members if images.has_ships(i)]

    def rank(example: Example) -> tuple[float, int]:
        return scores[example.name], -int(np.count_nonzero(example.instances))

    worst = heapq.nsmallest(min(count, len(full) // 2), images.readable(full), key=rank)
    known = {example.name for example in worst}
    others = (example for example in images.readable(full) if example.name not in known)
    best = heapq.nlargest(min(count, len(full) - len(worst)), others, key=rank)
    return [*best, *worst]


def predictions(
    examples: Sequence[Example],
    masks: Mapping[str, Sequence[np.ndarray]],
    path: Path,
    *,
    scores: Mapping[str, float] | None = None,
    note: str = "",
) -> None:
    """A row for each example: the image, then a close-up of it, its truth and each prediction.

    Args:
      examples: images with their truth.
      masks: column title to one boolean [H, W] mask per example.
      path: PNG to write.
      scores: name of an image to its score, which is written beside it.
      note: a line below the picture.
    """
    with mpl.rc_context(plots.STYLE):
        columns = 3 + len(masks)
        figure = Figure(figsize=(1.7 * columns, 1.75 * len(examples) + 0.6), layout="constrained")
        panels = figure.subplots(len(examples), columns, squeeze=False)
        for row, example in enumerate(examples):
            guesses = [each[row] for each in masks.values()]
            window = close_up(example, *guesses)
            image, truth = example.image[window], example.instances[window] > 0
            shown = [example.image, image, outline(image, truth)]
            shown += [overlay(image, truth, each[window]) for each in guesses]
            for panel, pixels in zip(panels[row], shown, strict=True):
                panel.imshow(pixels, interpolation="nearest")
                panel.set_anchor("N")
                panel.set_xticks([])
                panel.set_yticks([])
                panel.spines[:].set_visible(False)
            rows, across = window
            corner, edge = (across.start - 0.5, rows.start - 0.5), rows.stop - rows.start
            frame = Rectangle(corner, edge, edge, fill=False, edgecolor="white", linewidth=1.2)
            frame.set_path_effects([withStroke(linewidth=2.4, foreground="black")])
            panels[row][0].add_patch(frame)
            panels[row][1].set_xlabel(f"{edge} x {edge} pixels", fontsize=7)
            if scores is not None:
                panels[row][0].set_xlabel(f"object F2 {scores[example.name]:.2f}", fontsize=7)
        titles = ["image", "close-up", "truth", *masks]
        for panel, title in zip(panels[0], titles, strict=True):
            panel.set_title(title, fontsize=8)
        legend = [
            Patch(color=color, label=label)
            for label, color in (
                ("found", plots.GREEN),
                ("missed", plots.BLUE),
                ("false alarm", plots.ORANGE),
            )
        ]
        figure.legend(handles=legend, loc="outside lower center", ncols=3, title=note, fontsize=8)
        plots.save(figure, path)


def comparison(rows: Sequence[dict], path: Path, *, title: str) -> None:
    """Pixel F1 and object F2 of every loss, at one half and at the tuned threshold.

    Args:
      rows: one a loss: "loss", and "at_half", "at_tuned", "objects" of
        {figure: (mean, standard error)}.
      path: PNG to write.
      title: what was trained, on what.
    """
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(9.0, 0.42 * len(rows) + 1.3), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        names = [row["loss"] for row in rows]
        for panel, (key, tuned, label) in zip(
            panels,
            (
                ("f1", "at_tuned", "pixel F1"),
                ("airbus_f2", "objects", "object F2, all images"),
                ("airbus_f2_ships", "objects", "object F2, images with ships"),
            ),
            strict=True,
        ):
            groups = {
                name: tuple(np.array([row[when][key] for row in rows], float).T)
                for name, when in (("p > ½", "at_half"), ("tuned on validation", tuned))
            }
            plots.bars(panel, names, groups, [plots.ORANGE, plots.BLUE])
            panel.set_xlabel(label)
            panel.set_xlim(0.0, 1.0)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        figure.suptitle(title, fontsize=10)
        plots.save(figure, path)
