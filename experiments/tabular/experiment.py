"""One small network, trained with each loss on the same splits of a table's rows.

All splits and learning rates are trained in one compiled program, without a log or checkpoints.
Your own data: `--data`, files with the labels in the last columns. Your own network: another
`Network`. Your own loss: a row of `losses.LOSSES`, whose `prior` also says at which probability the
outputs begin. Thresholds are chosen in `measure._figures` on validation data, which have also
chosen learning rate and number of steps for each split, by average precision, for every loss alike.
The test data are looked at once, by the model so chosen.

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
from experiments.tabular import measure, report
from experiments.tabular.data import Table, open_tables
from experiments.tabular.losses import LOSSES, Loss, at_prevalence, for_labels
from experiments.tabular.measure import Fitted
from experiments.tabular.splits import Splits, balanced, make_splits

# --- settings -------------------------------------------------------------------------------------


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


# --- data -----------------------------------------------------------------------------------------


def standardize(x: jax.Array, of: jax.Array) -> jax.Array:
    """Features less their mean over `of`, in standard deviations, and no further out than ten."""
    mean, spread = of.mean(0, keepdims=True), of.std(0, keepdims=True)
    return jnp.clip((x - mean) / jnp.where(spread > 1e-6, spread, 1.0), -10.0, 10.0)


# --- network --------------------------------------------------------------------------------------


class Network(nnx.Module):
    """Two hidden layers; the outputs begin near `begin_at`."""

    def __init__(self, inputs: int, width: int, begin_at: jax.Array, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(inputs, width, rngs=rngs)
        self.second = nnx.Linear(width, width, rngs=rngs)
        self.last = nnx.Linear(width, len(begin_at), bias_init=lambda *_: begin_at, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(nnx.relu(self.second(nnx.relu(self.first(x)))))


def begin_at(loss: Loss, prevalence: jax.Array) -> jax.Array:
    """The outputs to begin with [L]: log-odds of one half, or of the share of positives."""
    if loss.from_half or loss.prior == "one half":
        return jnp.zeros_like(prevalence)
    return jnp.log(prevalence / (1.0 - prevalence))


# --- step; the loss is the `objective` of `_fit_splits` -------------------------------------------


class Look(NamedTuple):
    """What a look at the validation data saw."""

    average_precision: jax.Array
    step: jax.Array
    params: Any


def descend(
    objective: Callable[[Any, jax.Array], jax.Array],
    look: Callable[[Any], jax.Array],
    start: Any,
    rate: jax.Array,
    settings: Settings,
) -> Look:
    """Train with Adam; return the parameters of the best look at the validation data."""
    adam = optax.scale_by_adam()

    def update(state: Any, step: jax.Array) -> tuple[Any, jax.Array]:
        params, memory = state
        value, gradient = jax.value_and_grad(objective)(params, step)
        change, memory = adam.update(gradient, memory)
        # The rate is traced, so that all rates share one program.
        return (jax.tree.map(lambda p, c: p - rate * c, params, change), memory), value

    def until_next_look(carry: Any, first: jax.Array) -> tuple[Any, None]:
        state, best = carry
        steps = first + jnp.arange(settings.check_every)
        (params, memory), values = jax.lax.scan(update, state, steps)
        # A loss that is not finite has spoilt the parameters, and those of the next steps.
        average_precision = jnp.where(jnp.isfinite(values).all(), look(params), -jnp.inf)
        now = Look(average_precision, steps[-1] + 1, params)
        better = now.average_precision > best.average_precision
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), now, best)
        return ((params, memory), best), None

    nothing = Look(jnp.asarray(-jnp.inf), jnp.zeros((), jnp.int32), start)
    carry = (start, adam.init(start)), nothing
    firsts = jnp.arange(0, settings.steps, settings.check_every)
    (_, best), _ = jax.lax.scan(until_next_look, carry, firsts)
    return best


# --- loop -----------------------------------------------------------------------------------------


def fit(loss: Loss, table: Table, splits: Splits, settings: Settings) -> Fitted:
    """Train `loss` on all splits at once, each from the same weights whatever the loss.

    Only the last bias differs between losses: it is where the outputs `begin_at`.
    """
    spread = table.features.std(0)
    # Centred here, in 64 bits: what is left of it after the split's own scaling is rounding.
    features = (table.features - table.features.mean(0)) / np.where(spread > 0, spread, 1.0)
    x, y = jnp.asarray(features, jnp.float32), jnp.asarray(table.labels, jnp.float32)
    keys = jax.random.split(jax.random.key(0), len(splits.train))
    rows = balanced(table, splits) if loss.oversampled else splits.train[:, None]
    return _fit_splits(loss, settings, x, y, keys, rows, splits)


@partial(jax.jit, static_argnums=(0, 1))
@partial(jax.vmap, in_axes=(None,) * 4 + (0,) * 3)
def _fit_splits(
    loss: Loss,
    settings: Settings,
    x: jax.Array,
    y: jax.Array,
    key: jax.Array,
    rows: jax.Array,
    split: Splits,
) -> Fitted:
    """One split: every learning rate at once, and of these the best; steps cycle through `rows`."""
    x = standardize(x, x[split.train])
    prevalence = y[split.train].mean(0)
    first_outputs = begin_at(loss, prevalence)
    network = Network(x.shape[1], settings.width, first_outputs, rngs=nnx.Rngs(key))
    graph, state = nnx.split(network)
    start = nnx.to_pure_dict(state)

    def forward(params: Any, rows: Any) -> jax.Array:
        return nnx.merge(graph, nnx.State(params))(x[rows])

    def objective(params: Any, step: jax.Array) -> jax.Array:
        of_step = rows[step % len(rows)]
        return loss.value(forward(params, of_step), y[of_step], prevalence)

    def look(params: Any) -> jax.Array:
        scores = forward(params, split.validation)
        curve = dm.curve(scores, y[split.validation] > 0, axis=0)
        average_precision = dm.average_precision(curve).mean()
        return jnp.where(jnp.isfinite(scores).all(), average_precision, -jnp.inf)

    rates = jnp.asarray(settings.learning_rates)
    looks = jax.vmap(lambda rate: descend(objective, look, start, rate, settings))(rates)
    chosen = jnp.argmax(looks.average_precision)
    best: Look = jax.tree.map(lambda leaf: leaf[chosen], looks)
    logits = forward(best.params, split.validation), forward(best.params, split.test)
    return Fitted(*logits, best.average_precision, best.step, rates[chosen])


# --- judge ----------------------------------------------------------------------------------------


def train_and_judge(
    settings: Settings,
    table: Table,
    splits: Splits,
    name: str,
    console: Console,
    _directory: Path,
) -> dict[str, Any]:
    """Train and judge one loss on all splits of a table.

    What stands beside the figures is a record; no table shows it.
    """
    examined = at_prevalence(name, round(float(table.labels.mean()), 3))
    training.examine(examined, "multilabel", console)
    fitted = fit(LOSSES[name], table, splits, settings)
    return {
        "loss": name,
        "figures": measure.judge(LOSSES[name], table, splits, fitted),
        "validation_average_precision": fitted.average_precision,
        "steps": fitted.steps,
        "learning_rate": fitted.learning_rate,
    }


# --- table ----------------------------------------------------------------------------------------


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
    results: dict[str, list[dict[str, Any]]] = {table.name: [] for table, _ in sets}
    for done, (table, splits, name) in enumerate(track(work, "tabular", console=console)):
        described = {**dataclasses.asdict(settings), "table": str(table), "loss": name}
        find = partial(train_and_judge, settings, table, splits, name, console)
        try:
            result = study.result(out / table.name / name, described, find, resume=resume)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{done} of {len(work)} runs are kept") from None
        results[table.name].append(result)
    reports = [report.of_set(table, splits, results[table.name]) for table, splits in sets]
    report.publish(reports, settings, out, console)
    return reports
