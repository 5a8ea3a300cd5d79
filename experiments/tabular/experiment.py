"""One small network, trained with each loss on the same splits of a table's rows.

All splits and learning rates are trained in one compiled program. Learning rate and number of steps
are chosen for each split by the average precision on validation data, for every loss alike. The
test data are looked at once, by the model so chosen.

The outputs begin at the share of positives for which a loss trains, mostly that of the data. Where
they begin at ½, the first steps of cross-entropy push everything down, whatever tells the classes
apart, and with few positives the network does not recover: the row `cross-entropy-from-half` shows
it. Compared with that row, nearly every loss looks good.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.progress import track

import diffmetrics as dm
from experiments.shared import study, training
from experiments.shared.settings import require_known, require_within
from experiments.tabular import report
from experiments.tabular.data import Splits, Table, make_splits, open_tables
from experiments.tabular.losses import LOSSES, Loss, at_prevalence, for_labels
from experiments.tabular.measure import Fitted, measure

DRAWS = 16  # of an oversampled training set; after the last the first comes again


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is the same for all losses."""

    labels: int | None = None
    """Number of label columns; default 1, in ARFF all of the last 0/1 columns."""
    seeds: int = 20
    """How often the rows are divided anew and a network is trained on each part."""
    steps: int = 200
    """Updates, each on the whole training part."""
    check_every: int = 10
    """Updates between two looks at the validation part."""
    learning_rates: tuple[float, ...] = (0.003, 0.02)
    """Of Adam; the one with the best average precision on validation data is taken."""
    width: int = 32
    """Of both hidden layers."""

    def __post_init__(self) -> None:
        least = dict.fromkeys(("labels", "seeds", "steps", "check_every", "width"), "[1, inf)")
        require_within(self, **least)
        if self.steps % self.check_every:
            raise ValueError(
                f"check_every must divide steps = {self.steps}, got {self.check_every}"
            )
        if not self.learning_rates or min(self.learning_rates) <= 0.0:
            raise ValueError(f"learning_rates must be positive, got {self.learning_rates}")


def compare(
    settings: Settings,
    data: Sequence[Path],
    losses: Sequence[str],
    out: Path,
    console: Console,
    *,
    resume: bool,
) -> list[report.SetReport]:
    """Train every loss on the same splits of every table; a table, JSON and a figure in `out`.

    Raises:
      ValueError: for a loss or a table that cannot be used; nothing is written then.
    """
    require_known("loss", losses, LOSSES)
    sets = [
        (table, make_splits(table, settings.seeds)) for table in open_tables(data, settings.labels)
    ]
    work = [
        (table, splits, name)
        for table, splits in sets
        for name in for_labels(losses, table.labels.shape[1])
    ]
    rows: dict[str, list[report.Row]] = {table.name: [] for table, _ in sets}
    for done, (table, splits, name) in enumerate(track(work, "tabular", console=console)):
        described = {**dataclasses.asdict(settings), "table": str(table), "loss": name}
        find = partial(_one, settings, table, splits, name, console)
        try:
            found = study.result(out / table.name / name, described, find, resume=resume)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{done} of {len(work)} runs are kept") from None
        rows[table.name].append(found)
    reports = [report.of_set(table, splits, rows[table.name]) for table, splits in sets]
    report.publish(reports, settings, out, console)
    return reports


def _one(
    settings: Settings, table: Table, splits: Splits, name: str, console: Console, _: Path
) -> report.Row:
    """Train and judge one loss on all splits of a table."""
    examined = at_prevalence(name, round(float(table.labels.mean()), 3))
    training.examine(examined, "multilabel", console)
    fitted = fit(LOSSES[name], table, splits, settings)
    return {
        "loss": name,
        "figures": measure(LOSSES[name], table, splits, fitted),
        "validation_average_precision": fitted.average_precision,
        "steps": fitted.steps,
        "learning_rate": fitted.learning_rate,
    }


class Network(nnx.Module):
    """Two hidden layers; the outputs begin near `begin_at`."""

    def __init__(self, inputs: int, width: int, begin_at: jax.Array, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(inputs, width, rngs=rngs)
        self.second = nnx.Linear(width, width, rngs=rngs)
        self.last = nnx.Linear(width, len(begin_at), bias_init=lambda *_: begin_at, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(nnx.relu(self.second(nnx.relu(self.first(x)))))


def fit(loss: Loss, table: Table, splits: Splits, settings: Settings) -> Fitted:
    """Train `loss` on all splits at once, each from the same parameters whatever the loss."""
    spread = table.features.std(0)
    # Centred here, in 64 bits: what is left of it after the split's own scaling is rounding.
    features = (table.features - table.features.mean(0)) / np.where(spread > 0, spread, 1.0)
    return _fit_splits(
        loss,
        settings,
        jnp.asarray(features, jnp.float32),
        jnp.asarray(table.labels, jnp.float32),
        jax.random.split(jax.random.key(0), len(splits.train)),
        _draws(loss, table, splits),
        splits.train,
        splits.validation,
        splits.test,
    )


@partial(jax.jit, static_argnums=(0, 1))
@partial(jax.vmap, in_axes=(None, None, None, None, 0, 0, 0, 0, 0))
def _fit_splits(
    loss: Loss,
    settings: Settings,
    x: jax.Array,
    y: jax.Array,
    key: jax.Array,
    draws: jax.Array,
    train: jax.Array,
    validation: jax.Array,
    test: jax.Array,
) -> Fitted:
    """One split: every learning rate at once, and of these the best."""
    x = standardize(x, x[train])
    prevalence = y[train].mean(0)
    half = loss.from_half or loss.prior == "one half"
    begin_at = jnp.zeros_like(prevalence) if half else jnp.log(prevalence / (1.0 - prevalence))
    network = Network(x.shape[1], settings.width, begin_at, rngs=nnx.Rngs(key))
    graph, state = nnx.split(network)
    start = nnx.to_pure_dict(state)

    def forward(params: Any, rows: jax.Array) -> jax.Array:
        return nnx.merge(graph, nnx.State(params))(x[rows])

    def objective(params: Any, step: jax.Array) -> jax.Array:
        rows = draws[step % len(draws)]
        return loss.value(forward(params, rows), y[rows], prevalence)

    def judge(params: Any) -> jax.Array:
        scores = forward(params, validation)
        found = dm.average_precision(dm.curve(scores, y[validation] > 0, axis=0)).mean()
        return jnp.where(jnp.isfinite(scores).all(), found, -jnp.inf)

    rates = jnp.asarray(settings.learning_rates)
    found = jax.vmap(lambda rate: _descend(objective, judge, start, rate, settings))(rates)
    chosen = jnp.argmax(found.value)
    best = jax.tree.map(lambda leaf: leaf[chosen], found)
    logits = forward(best.params, validation), forward(best.params, test)
    return Fitted(*logits, best.value, best.step, rates[chosen])


class _Best(NamedTuple):
    value: jax.Array
    step: jax.Array
    params: Any


def _descend(
    objective: Callable[[Any, jax.Array], jax.Array],
    judge: Callable[[Any], jax.Array],
    start: Any,
    rate: jax.Array,
    settings: Settings,
) -> _Best:
    """Adam, and of the parameters that were looked at those first judged best."""
    adam = optax.scale_by_adam()

    def update(state: Any, step: jax.Array) -> tuple[Any, jax.Array]:
        params, memory = state
        value, gradient = jax.value_and_grad(objective)(params, step)
        change, memory = adam.update(gradient, memory)
        return (jax.tree.map(lambda p, c: p - rate * c, params, change), memory), value

    def stretch(carry: Any, first: jax.Array) -> tuple[Any, None]:
        state, best = carry
        steps = first + jnp.arange(settings.check_every)
        state, values = jax.lax.scan(update, state, steps)
        # A loss that is not finite has spoilt the parameters, and the next steps'.
        value = jnp.where(jnp.isfinite(values).all(), judge(state[0]), -jnp.inf)
        now = _Best(value, steps[-1] + 1, state[0])
        better = now.value > best.value
        return (state, jax.tree.map(lambda a, b: jnp.where(better, a, b), now, best)), None

    begin = (start, adam.init(start))
    nothing = _Best(jnp.asarray(-jnp.inf), jnp.zeros((), jnp.int32), start)
    firsts = jnp.arange(0, settings.steps, settings.check_every)
    return jax.lax.scan(stretch, (begin, nothing), firsts)[0][1]


def standardize(x: jax.Array, of: jax.Array) -> jax.Array:
    """Features less their mean over `of`, in standard deviations, and no further out than ten."""
    mean, spread = of.mean(0, keepdims=True), of.std(0, keepdims=True)
    return jnp.clip((x - mean) / jnp.where(spread > 1e-6, spread, 1.0), -10.0, 10.0)


def _draws(loss: Loss, table: Table, splits: Splits) -> np.ndarray:
    """The rows of each step [splits, draws, training]: all, or as many of each class."""
    if not loss.oversampled:
        return splits.train[:, None]
    size = splits.train.shape[1]
    drawn = []
    for split, rows in enumerate(splits.train):
        batches = dm.balanced_batches(table.labels[rows, 0], size, steps=DRAWS, seed=split)
        drawn.append(np.stack([rows[batches[k]] for k in range(DRAWS)]))
    return np.stack(drawn)
