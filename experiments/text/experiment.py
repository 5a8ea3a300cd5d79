"""A TextCNN that is to find the rare class, trained with each loss on the same texts.

From top to bottom: settings, data, network, loss, step, loop, judge, table. Your own data:
`--data`, a CSV or TSV file, whose columns settings of `data.Texts` name. Your own network:
`make_network`, and `constrain`. Your own loss: a function of logits, labels and task, and a line of
`losses.LOSSES`. Thresholds are chosen in `measure.judge`, on development texts. The losses
`asked-…` are those of a question on Stack Overflow, reproduced literally, errors included.

Networks of several seeds are trained side by side, in one program. A seed draws the parts of the
texts (to train, to tune a threshold, to test), the first parameters and the order of the batches,
the same for every loss. Each network is then judged by three decisions: at probability ½, at the
threshold with the best F1 on its development texts, and where the expected cost is least.

A network begins with the share of the rare class for which its loss trains, mostly that of the
training texts; `cross-entropy-from-half` and `soft-f1-from-half` show what that changes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from flax import nnx
from rich.console import Console

import diffmetrics as dm
from experiments.shared import study, training
from experiments.shared.settings import require_known, require_within
from experiments.text import baselines, data, report, side_by_side
from experiments.text.data import Material, Problem, Texts
from experiments.text.losses import LOSSES, Loss, Task, of_task
from experiments.text.pipeline import plan
from experiments.text.side_by_side import Model, State, Step, Trained
from experiments.text.textcnn import TextCNN, Variant, constrain

# --- settings -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings(Texts):
    """Settings of `data.Texts`, and these."""

    variant: Variant = "multichannel"
    """Kim's: random vectors; given ones, frozen or trained; or two channels of them, one frozen."""
    widths: tuple[int, ...] = (3, 4, 5)
    """Words that a filter sees."""
    maps: int = 100
    """Filters of each width."""
    dropout: float = 0.5
    """Share of the features that a training step leaves out."""
    max_norm: float = 3.0
    """Largest Euclidean norm of the last layer's weights."""
    dtype: training.DtypeName = "auto"
    """Of the activations; auto: bfloat16 on an accelerator. Parameters stay float32."""
    batch_size: int = 50
    """Texts in a step."""
    epochs: int = 3
    """How often a training text is seen."""
    optimizer: Literal["adam", "adadelta"] = "adam"
    """Adam, or Kim's Adadelta (decay 0.95), which needs a learning rate of 1 and many epochs."""
    learning_rate: float = 2e-3
    """At the beginning; it falls to zero linearly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within(self, **dict.fromkeys(("maps", "batch_size", "epochs"), "[1, inf)"))
        require_within(self, dropout="[0, 1)", max_norm="(0, inf)", learning_rate="(0, inf)")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be positive, got {self.widths}")


# --- data -----------------------------------------------------------------------------------------


def prepare(problem: Problem[Settings]) -> Material:
    """Words and rows of the texts, and vectors where the network begins with given ones."""
    return data.prepare(problem, with_vectors=problem.settings.variant != "rand")


# --- network --------------------------------------------------------------------------------------


def make_network(settings: Settings, vectors: np.ndarray, seed: int, begin_at: float) -> TextCNN:
    """A fresh network for words of these vectors [V, D], with logits near `begin_at`."""
    return TextCNN(
        *vectors.shape,
        variant=settings.variant,
        vectors=vectors,
        widths=settings.widths,
        maps=settings.maps,
        dropout=settings.dropout,
        begin_at=begin_at,
        dtype=training.compute_dtype(settings.dtype),
        rngs=nnx.Rngs(seed),
    )


def initialize(
    settings: Settings,
    vectors: np.ndarray,
    seeds: Sequence[int],
    begin_at: npt.ArrayLike = 0.0,
    *,
    steps: int = 1,
) -> tuple[Model, State]:
    """Fresh networks, one for each seed, and the state in which their training begins.

    Args:
      settings: of the networks.
      vectors: of the words [R, V, D]; zeros where a checkpoint overwrites them.
      seeds: R of them.
      begin_at: logits near which the networks begin, one for all or [R].
      steps: length of the training.
    """
    beginnings = np.broadcast_to(begin_at, len(seeds)).tolist()
    particulars = zip(vectors, seeds, beginnings, strict=True)
    networks = [make_network(settings, *particular) for particular in particulars]
    graph, params, frozen = side_by_side.stack(networks)
    losses, rate = tuple(LOSSES.items()), settings.learning_rate
    model = side_by_side.make_model(
        make_step, graph, losses, settings.optimizer, rate, steps, settings.max_norm
    )
    return model, {
        "params": params,
        "frozen": frozen,
        "optimizer": jax.vmap(model.optimizer.init)(params),
        "seed": jnp.asarray(seeds, jnp.uint32),
        "step": jnp.zeros((), jnp.int32),
    }


# --- loss and step --------------------------------------------------------------------------------


def make_step(
    graph: Any, losses: Sequence[Loss], optimizer: optax.GradientTransformation, max_norm: float
) -> Step:
    """The training step of one network. Which loss is traced: a comparison compiles once."""
    functions = [loss.value for loss in losses]

    def step(
        params: Any, frozen: Any, memory: Any, key: jax.Array, task: Task, batch: Any, loss: Any
    ) -> tuple[Any, Any, jax.Array]:
        def objective(params: Any) -> jax.Array:
            network = nnx.merge(graph, nnx.State(params), nnx.State(frozen))
            logits = network(batch["ids"], key)
            return jax.lax.switch(loss, functions, logits, batch["labels"], task)

        value, gradient = jax.value_and_grad(objective)(params)
        change, memory = optimizer.update(gradient, memory, params)
        params = constrain(optax.apply_updates(params, change), max_norm)
        # A gradient that is not finite shows in the loss, so that it stops the run unsaved.
        return params, memory, value + 0.0 * optax.tree.norm(gradient)

    return step


# --- loop -----------------------------------------------------------------------------------------


def fit(
    problem: Problem[Settings], material: Material, loss: str, directory: Path, console: Console
) -> Trained:
    """Train one loss, a network for each seed, or go on with what is in `directory`."""
    settings, (words, rows, vectors) = problem.settings, material
    words.save(directory / "words.npz")
    planned = plan(
        rows,
        problem.corpus.labels,
        [part.train for part in problem.parts],
        words.edges,
        seeds=problem.seeds,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        oversample=LOSSES[loss].oversampled,
    )
    steps, runs = len(planned.schedule), len(problem.seeds)
    begin_at = LOSSES[loss].begin_at(problem.task)
    model, state = initialize(settings, vectors, problem.seeds, begin_at, steps=steps)
    for step in training.train(
        model.update_with(loss, problem.task),
        state,
        planned.batches,
        directory,
        steps=steps,
        batch_size=settings.batch_size * runs,
        title=loss if runs == 1 else f"{loss}, {runs} runs",
        unit="texts",
        log_every=max(1, steps // 20),
        checkpoint_every=max(1, steps // 4),
        # One device: the gradients of the word vectors, which many would exchange in every step,
        # are larger than all else in it. Many processes are refused.
        devices=jax.devices()[:1],
        console=console,
    ):
        state = step.state
    return Trained(model, state, words)


# --- judge ----------------------------------------------------------------------------------------


def judge(problem: Problem[Any], loss: str, logits: np.ndarray) -> dict[str, Any]:
    """The figures of each network, from its logits [R, n] of all texts."""
    result = {"runs": problem.judge(logits)}
    if LOSSES[loss].oversampled:
        prior = problem.task.prevalence[:, None].astype(np.float32)
        shifted = dm.correct_prior(logits, trained_prior=0.5, true_prior=prior)
        result["corrected"] = problem.judge(np.asarray(shifted))
    return result


def train_and_judge(
    problem: Problem[Settings],
    material: Callable[[], Material],
    loss: str,
    console: Console,
    directory: Path,
) -> dict[str, Any]:
    """Train one loss, or go on with it, in `directory`; then judge it."""
    training.examine(of_task(loss, problem.task), "binary", console)
    prepared = material()
    trained = fit(problem, prepared, loss, directory, console)
    return judge(problem, loss, trained(prepared.rows))


# --- table ----------------------------------------------------------------------------------------


def compare(
    settings: Settings,
    losses: Sequence[str],
    seeds: int,
    together: int,
    out: Path,
    console: Console,
    *,
    resume: bool,
) -> None:
    """Train every loss with every seed, `together` of them side by side; table, JSON, figures.

    Raises:
      ValueError: for a loss or texts that cannot be used; nothing is written then.
    """
    require_known("loss", losses, LOSSES)
    require_within({"seeds": seeds, "together": together}, seeds="[1, inf)", together="[1, inf)")
    settings, corpus = data.open_texts(settings, console)
    groups = [range(seeds)[first : first + together] for first in range(0, seeds, together)]
    results: dict[str, list[dict[str, Any]]] = {}
    for problem in [data.pose(settings, corpus, group) for group in groups]:
        for method, result in _results(problem, losses, out, console, resume):
            results.setdefault(method, []).append(result)
    logs = {loss: out / f"{loss}-0" / "metrics.jsonl" for loss in losses}
    report.publish(results, settings, corpus, seeds, logs, out, console)


def _results(
    problem: Problem[Settings], losses: Sequence[str], out: Path, console: Console, resume: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Figures of the true probabilities, if known; then of linear classifiers and each loss."""
    if (p := problem.corpus.posterior) is not None:
        logits = np.tile(np.log(p) - np.log1p(-p), (len(problem.seeds), 1))
        yield report.IDEAL, {"runs": problem.judge(logits)}
    material = functools.cache(functools.partial(prepare, problem))
    methods: dict[str, Callable[[Path], dict[str, Any]]] = {
        name: functools.partial(baselines.train_and_judge, name, problem)
        for name in baselines.PROBABILITIES
    }
    for loss in losses:
        methods[loss] = functools.partial(train_and_judge, problem, material, loss, console)
    for method, find in methods.items():
        directory, described = problem.directory(out, method), problem.describe(method)
        result = study.result(directory, described, find, resume=resume)
        yield from report.methods_of(method, result)
