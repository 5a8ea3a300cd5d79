"""What it costs to have the gradient of a whole batch from its parts, and what it costs not to.

One network with a hidden layer, one imbalanced batch, and four ways to the gradient: the whole
batch at once; counts of the parts added up; logits of the parts first and one loss of them all; and
the mean of the parts' losses, which is gradient accumulation as usually written. Its error depends
on the moment: it is measured before the first step, and once the network has learned something.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from rich.console import Console

import diffmetrics as dm
from benchmarks import measure
from benchmarks.measure import Patience
from benchmarks.report import table_of, whole
from benchmarks.work import Arrays
from experiments.shared.plots import BLUE, CYCLE, GREEN, ORANGE, STYLE, save

BETA = 2.0
LOSSES: dict[str, Callable[[Any, Any], jax.Array]] = {
    "dice_loss": dm.dice_loss,
    "fbeta_loss": partial(dm.fbeta_loss, beta=BETA),
    "average_precision_loss": dm.average_precision_loss,
}
# The scores of those that are functions of counts.
SCORES: dict[str, Callable[[dm.Counts], jax.Array]] = {
    "dice_loss": dm.dice,
    "fbeta_loss": partial(dm.fbeta, beta=BETA),
}
WHOLE, MEAN = "whole batch", "mean of losses"
COUNTS, TWO_PASSES = "exact: counts added", "exact: two passes"
COLORS = {WHOLE: CYCLE[6], COUNTS: BLUE, TWO_PASSES: GREEN, MEAN: ORANGE}
ORDERS = ("sorted", "shuffled")
FIRST, LATER, RATE = 0, 50, 0.5  # steps of descent, each of this length
TOLERANCE = 1e-4  # relative error of a gradient up to which a way is exact


@dataclasses.dataclass(frozen=True)
class Size:
    """A batch, its parts, and the network."""

    rows: int = 32_768
    parts: int = 64
    features: int = 128
    hidden: int = 1_024
    positives: float = 0.01


FULL, QUICK = Size(), Size(rows=2_048, parts=16, features=32, hidden=256)


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to the gradient of one loss."""

    loss: str
    way: str
    ms: tuple[float, float, float]
    """Median and quartiles of value and gradient."""
    temp_mib: float | None
    error: Mapping[str, Sequence[float]]
    """For each order of the rows, first and later: the length of the difference from the whole
    batch's gradient, over the length of that."""
    cosine: Mapping[str, Sequence[float]]


# --- The problem ----------------------------------------------------------------------------------


def draw_rows(size: Size, order: str) -> Arrays:
    """Features and labels, in the given order."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((size.rows, size.features), np.float32)
    evidence = x[:, 0] + 0.5 * rng.standard_normal(size.rows)
    y = evidence > np.quantile(evidence, 1 - size.positives)
    places = np.argsort(y, kind="stable") if order == "sorted" else rng.permutation(size.rows)
    return {"x": jnp.asarray(x[places]), "y": jnp.asarray(y[places])}


def parameters(size: Size) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """The network's weights as one vector, and what takes it apart."""
    rng = np.random.default_rng(1)
    shapes = {"in": (size.features, size.hidden), "out": (size.hidden,)}
    normal = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return ravel_pytree({k: jnp.asarray(w / w.shape[0] ** 0.5) for k, w in normal.items()})


# --- The ways -------------------------------------------------------------------------------------


def ways(loss: str, size: Size) -> dict[str, Callable[[Any], jax.Array]]:
    """Functions of `params`, `x` and `y`, by what they are called; the first is the truth."""
    unravel, of_logits, score = parameters(size)[1], LOSSES[loss], SCORES.get(loss)

    def model(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ params["in"]) @ params["out"]

    def counts(params: Any, x: jax.Array, y: jax.Array) -> dm.Counts:
        return dm.counts(jax.nn.sigmoid(model(params, x)), y)

    def at_once(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return of_logits(model(params, x), y)

    def added(f: Callable[..., Any], start: Any, a: Any) -> Any:
        """The sum of `f` over the parts, nothing of which is kept for the backward pass."""
        params = unravel(a.params)
        parts = [t.reshape(size.parts, -1, *t.shape[1:]) for t in (a.x, a.y)]

        @jax.checkpoint
        def add(total: Any, part: Any) -> Any:
            return jax.tree.map(jnp.add, total, f(params, *part)), None

        return jax.lax.scan(add, start, tuple(parts))[0]

    def counted(a: Any) -> jax.Array:
        assert score is not None
        return 1 - score(added(counts, jax.tree.map(jnp.float32, dm.Counts()), a))

    def two_passes(a: Any) -> jax.Array:
        of_part = jax.checkpoint(partial(model, unravel(a.params)))
        logits = jax.lax.map(of_part, a.x.reshape(size.parts, -1, size.features))
        return of_logits(logits.reshape(a.y.shape), a.y)

    return {
        WHOLE: lambda a: at_once(unravel(a.params), a.x, a.y),
        **({COUNTS: counted} if score else {}),
        TWO_PASSES: two_passes,
        MEAN: lambda a: added(at_once, jnp.float32(0), a) / size.parts,
    }


# --- Measuring ------------------------------------------------------------------------------------


def compare(size: Size, patience: Patience, told: Callable[[str], None]) -> Iterator[list[Row]]:
    """Measure every way to each loss; after Ctrl-C the loss in hand is lost."""
    batches = {order: draw_rows(size, order) for order in ORDERS}
    for loss in LOSSES:
        told(loss)
        yield _compare(loss, size, batches, patience)


def _compare(loss: str, size: Size, batches: Mapping[str, Arrays], patience: Patience) -> list[Row]:
    """Show what is equal, then time all ways in turns, on the last of the batches."""
    batch = list(batches.values())[-1]
    # Full float32 on every device, so that an error is the way's and not of the products.
    with jax.default_matmul_precision("highest"):
        functions = ways(loss, size)
        gradients = {way: gradient_of(f) for way, f in functions.items()}
        moments = descend(gradients[WHOLE], parameters(size)[0], batch)
        off = {
            way: _deviations(g, gradients[WHOLE], moments, batches) for way, g in gradients.items()
        }
        for way in set(functions) - {MEAN}:
            assert np.max([error for error, _ in off[way].values()]) <= TOLERANCE, (loss, way, off)
        arrays = {"params": moments[-1], **batch}
        runners = [
            measure.compiled(way, f, arrays, "params", forward=False)
            for way, f in functions.items()
        ]
    for runner in runners:
        measure.warm_up(runner, patience)
    measure.in_turns(runners)
    return [_row(loss, runner, off[runner.name]) for runner in runners]


Gradient = Callable[[jax.Array, Arrays], jax.Array]
Deviations = dict[str, tuple[list[float], list[float]]]


def gradient_of(f: Callable[[Any], jax.Array]) -> Gradient:
    return jax.jit(jax.grad(lambda params, batch: f(SimpleNamespace(params=params, **batch))))


def descend(gradient: Gradient, params: jax.Array, batch: Arrays) -> list[jax.Array]:
    """Parameters before the first step, and after some of equal length."""
    first = params
    for _ in range(FIRST, LATER):
        slope = gradient(params, batch)
        params -= RATE * slope / jnp.linalg.norm(slope)
    return [first, params]


def _deviations(
    ours: Gradient, truth: Gradient, moments: Sequence[jax.Array], batches: Mapping[str, Arrays]
) -> Deviations:
    """Errors and cosines at all moments, for each order of the rows."""
    found = {}
    for order, batch in batches.items():
        pairs = [deviation(ours(params, batch), truth(params, batch)) for params in moments]
        errors, cosines = zip(*pairs, strict=True)
        found[order] = (list(errors), list(cosines))
    return found


def _row(loss: str, runner: measure.Runner, off: Deviations) -> Row:
    middle, low, high = (1e3 * s for s in measure.quartiles(runner.samples))
    temp = None if runner.temp_bytes is None else runner.temp_bytes / 2**20
    error, cosine = ({order: pair[k] for order, pair in off.items()} for k in (0, 1))
    return Row(loss, runner.name, (middle, low, high), temp, error, cosine)


def deviation(ours: Any, truth: Any) -> tuple[float, float]:
    """The relative length of the difference of two gradients, and the cosine between them."""
    a, b = np.asarray(ours, np.float64), np.asarray(truth, np.float64)
    length = np.linalg.norm(b)
    return float(np.linalg.norm(a - b) / length), float(a @ b / np.linalg.norm(a) / length)


# --- Table, JSON, chart ---------------------------------------------------------------------------


def print_rows(console: Console, size: Size, found: Sequence[Row]) -> None:
    console.print(
        f"{size.rows:,} rows, {size.positives:.0%} positive, in {size.parts} parts; "
        f"{size.features} features, {size.hidden} hidden units, float32; "
        f"gradients before the first and after {LATER} steps",
        highlight=False,
    )
    errors = (x for order in ORDERS for x in (f"{order}: off by", "later", "cosine"))
    headings = ("ms [quartiles]", "x whole", "temp MiB", *errors)
    table = table_of(("loss", "way"), headings)
    reference = {row.loss: row.ms[0] for row in found if row.way == WHOLE}
    for row in found:
        (middle, low, high), temp = row.ms, row.temp_mib
        table.add_row(
            row.loss if row.way == WHOLE else "",
            row.way,
            f"{middle:.3g} [{low:.3g}, {high:.3g}]",
            f"{middle / reference[row.loss]:.2f}",
            "?" if temp is None else f"{temp:.1f}",
            *(text for order in ORDERS for text in _errors(row, order)),
            style="yellow" if row.way == MEAN else None,
        )
    whole(console, table)


def _errors(row: Row, order: str) -> tuple[str, str, str]:
    if row.way == WHOLE:
        return "", "", ""
    first, later = row.error[order]
    return percent(first), percent(later), f"{row.cosine[order][-1]:.3f}"


def percent(error: float) -> str:
    """An error in per cent, with no more digits than are meant."""
    return f"{error:.1%}" if error > 1e-3 else f"{100 * error:.0e}%"


def record(
    environment: Mapping[str, Any],
    options: Mapping[str, Any],
    size: Size,
    found: Sequence[Row],
    *,
    complete: bool,
) -> dict[str, Any]:
    """Everything that a run found, in plain types."""
    return {
        "environment": dict(environment),
        "options": dict(options),
        "complete": complete,
        "size": dataclasses.asdict(size),
        "rows": [dataclasses.asdict(row) for row in found],
    }


@dataclasses.dataclass(frozen=True)
class Bar:
    """How long a bar is, what it says, and a thin line or a mark of the same row."""

    length: float
    label: str
    quartiles: tuple[float, float] | None = None
    mark: float | None = None

    @property
    def end(self) -> float:
        return max(self.length, self.mark or 0.0, *(self.quartiles or ()))


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Time, memory and the gradient's error of every way, a panel for each."""
    rows = content["rows"]
    panels = {
        "time of value and gradient, ms": [_time(row) for row in rows],
        "temporary memory, MiB": [_number(row["temp_mib"] or 0.0) for row in rows],
        **{f"gradient off by, rows {o}": [_error(row, o) for row in rows] for o in ORDERS},
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 5.6), layout="constrained")
        axes = figure.subplots(2, 2, sharey=True)
        for panel, (title, bars) in zip(axes.ravel(), panels.items(), strict=True):
            _bars(panel, rows, bars)
            panel.set_title(title, loc="left")
        for panel in axes[1]:  # one scale for both orders
            panel.set_xlim(0, 1.5 * max(max(row["error"][o]) for row in rows for o in ORDERS))
            panel.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes[0, 0].invert_yaxis()
        handles = [Patch(color=color, label=way) for way, color in COLORS.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        figure.supxlabel(_caption(content), fontsize=8)
        save(figure, path)


def _caption(content: Mapping[str, Any]) -> str:
    size, environment = content["size"], content["environment"]
    ran = [f"jax {environment['jax']}"] if "jax" in environment else []
    ran = [environment[key] for key in ("device", "processor") if environment.get(key)] + ran
    return (
        f"{size['rows']:,} rows, {size['positives']:.0%} positive, in {size['parts']} parts; "
        f"time: median and quartiles; error: after {LATER} steps, circles before the first\n"
        f"{', '.join(ran)}"
    )


def _number(figure: float) -> Bar:
    return Bar(figure, f"{figure:.0f}" if figure >= 100 else f"{figure:.1f}")


def _time(row: Mapping[str, Any]) -> Bar:
    middle, low, high = row["ms"]
    return dataclasses.replace(_number(middle), quartiles=(low, high))


def _error(row: Mapping[str, Any], order: str) -> Bar:
    (first, later), cosine = row["error"][order], row["cosine"][order][-1]
    if row["way"] == WHOLE:
        return Bar(0.0, "reference")
    if row["way"] != MEAN:
        return Bar(later, "exact")
    return Bar(later, f"{later:.0%}, cosine {cosine:.2f}", mark=first)


def _bars(panel: Axes, rows: Sequence[Mapping[str, Any]], bars: Sequence[Bar]) -> None:
    """One bar a row, a group for each loss, what a bar says at its end."""
    losses = list(dict.fromkeys(row["loss"] for row in rows))
    ticks: dict[str, list[float]] = {loss: [] for loss in losses}
    most = max(bar.end for bar in bars)
    for k, (row, bar) in enumerate(zip(rows, bars, strict=True)):
        y = k + 0.7 * losses.index(row["loss"])
        ticks[row["loss"]].append(y)
        panel.barh(y, bar.length, 0.85, color=COLORS[row["way"]])
        if bar.quartiles:
            panel.hlines(y, *bar.quartiles, color="#999999", linewidth=1.2)
        if bar.mark is not None:
            panel.scatter(bar.mark, y, 24, "white", edgecolors="#333333", zorder=3)
        shift = 8 if bar.mark == bar.end else 3
        at = {"xytext": (shift, 0), "textcoords": "offset points", "va": "center", "fontsize": 7}
        panel.annotate(bar.label, (bar.end, y), **at)
    panel.set_xlim(0, 1.12 * most)
    panel.set_yticks([float(np.mean(at)) for at in ticks.values()], losses)
    panel.tick_params(axis="y", length=0)
