"""What the models see: predictions beside image and truth, and the comparison of all losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import ndimage

from experiments.shared import plots
from experiments.ships.images import Example
from experiments.ships.pipeline import Images


def overlay(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The image with found ships green, missed ones blue and false alarms orange.

    Args:
      image: uint8 [H, W, 3].
      truth: boolean [H, W].
      predicted: boolean [H, W].
    """
    faded = image.astype(np.float32) * 0.75 + 30.0
    for cells, color in (
        (truth & predicted, plots.GREEN),
        (truth & ~predicted, plots.BLUE),
        (predicted & ~truth, plots.ORANGE),
    ):
        rgb = np.array(to_rgb(color)) * 255.0
        faded[cells] = 0.25 * faded[cells] + 0.75 * rgb
    return faded.clip(0, 255).astype(np.uint8)


def zoom(example: Example, edge: int) -> tuple[slice, slice]:
    """A window of `edge` pixels around the largest ship, or the middle of an empty image."""
    shape = example.instances.shape
    sizes = np.bincount(example.instances.ravel())
    centre = np.array(shape) / 2
    if len(sizes) > 1:
        largest = 1 + int(np.argmax(sizes[1:]))
        centre = np.array(ndimage.center_of_mass(example.instances == largest))
    corner = np.clip(centre - edge / 2, 0, np.maximum(0, np.array(shape) - edge)).astype(int)
    rows, columns = (slice(int(c), int(c) + edge) for c in corner)
    return rows, columns


def choose(images: Images, members: Sequence[int], count: int = 4) -> list[Example]:
    """Images to show: by the size of what is in them, evenly, and at last an empty one."""
    full = list(images.readable([i for i in members if images.has_ships(i)][:40]))
    full.sort(key=lambda example: int((example.instances > 0).sum()), reverse=True)
    places = np.linspace(0, len(full) - 1, min(count - 1, len(full))).round().astype(int)
    empty = images.readable([i for i in members if not images.has_ships(i)][:1])
    return [*(full[k] for k in places), *empty]


def predictions(
    examples: Sequence[Example],
    masks: Mapping[str, Sequence[np.ndarray]],
    path: Path,
    *,
    edge: int = 192,
    note: str = "",
) -> None:
    """A row for each example, a column for image, truth and each named prediction.

    Args:
      examples: images with their truth.
      masks: column title to one boolean [H, W] mask per example.
      path: PNG to write.
      edge: pixels of the window that is shown around the largest object.
      note: a line below the picture.
    """
    with mpl.rc_context(plots.STYLE):
        columns = 2 + len(masks)
        figure = Figure(figsize=(1.5 * columns, 1.55 * len(examples) + 0.4), layout="constrained")
        panels = figure.subplots(len(examples), columns, squeeze=False)
        for row, example in enumerate(examples):
            window = zoom(example, min(edge, *example.instances.shape))
            image, truth = example.image[window], example.instances[window] > 0
            shown = [image, overlay(image, truth, truth)]
            shown += [overlay(image, truth, each[row][window]) for each in masks.values()]
            for panel, pixels in zip(panels[row], shown, strict=True):
                panel.imshow(pixels, interpolation="nearest")
                panel.set_xticks([])
                panel.set_yticks([])
                panel.spines[:].set_visible(False)
        for panel, title in zip(panels[0], ["image", "truth", *masks], strict=True):
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
      rows: one a loss: "loss", and "at_half", "at_tuned" of {figure: (mean, standard error)}.
      path: PNG to write.
      title: what was trained, on what.
    """
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(9.0, 0.42 * len(rows) + 1.3), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        names = [row["loss"] for row in rows]
        for panel, (key, label) in zip(
            panels,
            (
                ("f1", "pixel F1"),
                ("airbus_f2", "Airbus F2, all images"),
                ("airbus_f2_ships", "Airbus F2, images with ships"),
            ),
            strict=True,
        ):
            groups = {
                name: tuple(np.array([row[when][key] for row in rows], float).T)
                for name, when in (("p > ½", "at_half"), ("tuned on validation", "at_tuned"))
            }
            plots.bars(panel, names, groups, [plots.ORANGE, plots.BLUE])
            panel.set_xlabel(label)
            panel.set_xlim(0.0, 1.0)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        figure.suptitle(title, fontsize=10)
        plots.save(figure, path)
