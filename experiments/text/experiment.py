"""A TextCNN that is to find the rare class, trained with each loss on the same texts.

Networks of several seeds are trained side by side, in one program. A seed draws the parts of the
texts (to train, to tune a threshold, to test), the first parameters and the order of the batches,
the same for every loss. Each network is then judged by three decisions: at probability ½, at the
threshold with the best F1 on its development texts, and where the expected cost is least.

Your own texts are a file, `--data` (its settings are in `data`); your own loss is a function of
logits, labels and task among `losses.LOSSES`.
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
import optax
from flax import nnx
from rich.console import Console

import diffmetrics as dm
from experiments.shared import study, training
from experiments.shared.settings import require_known, require_within
from experiments.text import baselines, networks, report
from experiments.text.data import Material, Problem, Texts, open_texts, pose, prepare
from experiments.text.losses import LOSSES, OVERSAMPLED, Task, of_task
from experiments.text.networks import Model, State, Trained
from experiments.text.pipeline import plan


@dataclasses.dataclass(frozen=True)
class Settings(Texts):
    """What makes two runs the same run; those of `Texts`, and of network and training."""

    widths: tuple[int, ...] = (3, 4, 5)
    """Words that a filter sees."""
    maps: int = 100
    """Filters of each width."""
    dropout: float = 0.5
    """Share of the features that a training step leaves out."""
    max_norm: float = 3.0
    """Largest Euclidean norm of the last layer's weights."""
    batch_size: int = 50
    """Texts in a step."""
    epochs: int = 3
    """How often a training text is seen."""
    optimizer: Literal["adam", "adadelta"] = "adam"
    """Adam, or Kim's Adadelta (decay 0.95), at whose learning rate of 1 it takes many epochs."""
    learning_rate: float = 2e-3
    """At the beginning; it falls to zero along a line."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within(self, **dict.fromkeys(("maps", "batch_size", "epochs"), "[1, inf)"))
        require_within(self, dropout="[0, 1)", max_norm="(0, inf)", learning_rate="(0, inf)")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be positive, got {self.widths}")


# --- what is compared -----------------------------------------------------------------------------


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
    settings, corpus = open_texts(settings, console)
    groups = [range(seeds)[first : first + together] for first in range(0, seeds, together)]
    found: dict[str, list[dict[str, Any]]] = {}
    for problem in [pose(settings, corpus, group) for group in groups]:
        for name, result in _methods(problem, losses, out, console, resume):
            found.setdefault(name, []).append(result)
    logs = {loss: out / f"{loss}-0" / "metrics.jsonl" for loss in losses}
    report.publish(found, settings, corpus, seeds, logs, out, console)


def _methods(
    problem: Problem[Settings], losses: Sequence[str], out: Path, console: Console, resume: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the truth is worth, where it is known, then linear classifiers, then every loss."""
    first = problem.seeds[0]
    if (p := problem.corpus.posterior) is not None:
        logits = np.tile(np.log(p) - np.log1p(-p), (len(problem.seeds), 1))
        yield report.IDEAL, {"runs": problem.judge(logits)}
    for name in baselines.PROBABILITIES:
        directory = out / f"{name.replace(', ', '-').lower()}-{first}"
        find = functools.partial(baselines.find, name, problem)
        yield name, study.result(directory, problem.describe(name), find, resume=resume)
    learnt = functools.cache(functools.partial(prepare, problem))
    for loss in losses:
        directory = out / f"{loss}-{first}"
        result = result_of(problem, learnt, loss, directory, console, resume=resume)
        yield from report.methods_of(loss, result)


# --- one loss -------------------------------------------------------------------------------------


def train(
    settings: Settings,
    loss: str,
    seed: int,
    together: int,
    directory: Path,
    console: Console,
    *,
    resume: bool,
) -> None:
    """Train one loss with `together` seeds from `seed` on, in a directory that can be used again.

    Raises:
      ValueError: for a loss or texts that cannot be used, or a loss that becomes NaN or infinite.
    """
    require_known("loss", [loss], LOSSES)
    require_within({"seed": seed, "together": together}, seed="[0, inf)", together="[1, inf)")
    settings, corpus = open_texts(settings, console)
    problem = pose(settings, corpus, range(seed, seed + together))
    result_of(problem, functools.partial(prepare, problem), loss, directory, console, resume=resume)
    report.publish_one(loss, study.found(directory), problem, directory, console)


def result_of(
    problem: Problem[Settings],
    learnt: Callable[[], Material],
    loss: str,
    directory: Path,
    console: Console,
    *,
    resume: bool,
) -> dict[str, Any]:
    """Train one loss and judge it, or read what was found in `directory`."""

    def find(directory: Path) -> dict[str, Any]:
        training.examine(of_task(loss, problem.task), "binary", console)
        material = learnt()
        trained = fit(problem, material, loss, directory, console)
        return judge(problem, loss, trained(material.rows))

    return study.result(directory, problem.describe(loss), find, resume=resume)


def judge(problem: Problem[Settings], loss: str, logits: np.ndarray) -> dict[str, Any]:
    """The figures of each network, from its logits [R, n] of all texts."""
    result = {"loss": loss, "runs": problem.judge(logits)}
    if loss in OVERSAMPLED:
        prior = problem.task.prevalence[:, None].astype(np.float32)
        shifted = dm.correct_prior(logits, trained_prior=0.5, true_prior=prior)
        result["corrected"] = problem.judge(np.asarray(shifted))
    return result


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
        oversample=loss in OVERSAMPLED,
    )
    steps, runs = len(planned.schedule), len(problem.seeds)
    model, state = initialize(settings, vectors.shape[1:], problem.seeds, vectors, steps=steps)
    state["loss"] = jnp.asarray(list(LOSSES).index(loss), jnp.int32)
    state["task"] = jax.tree.map(jnp.float32, problem.task)
    for step in training.train(
        model.update,
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


def initialize(
    settings: Settings,
    shape: tuple[int, ...],
    seeds: Sequence[int],
    vectors: np.ndarray | None = None,
    *,
    steps: int = 1,
) -> tuple[Model, State]:
    """Fresh networks, one for each seed, and the state in which their training begins.

    Args:
      settings: of the network.
      shape: number of words, and of numbers in a vector.
      seeds: R of them.
      vectors: [R, *shape]; default zeros, to be overwritten by a checkpoint.
      steps: length of the training.
    """
    if vectors is None:
        vectors = np.zeros((len(seeds), *shape), np.float32)
    graph, params, frozen = networks.side_by_side(
        vectors,
        seeds,
        variant=settings.variant,
        widths=settings.widths,
        maps=settings.maps,
        dropout=settings.dropout,
    )
    model = make_model(graph, settings.optimizer, settings.learning_rate, steps, settings.max_norm)
    return model, {
        "params": params,
        "frozen": frozen,
        "optimizer": jax.vmap(model.optimizer.init)(params),
        "seed": jnp.asarray(seeds, jnp.uint32),
        "step": jnp.zeros((), jnp.int32),
        "loss": jnp.zeros((), jnp.int32),
        "task": Task(*jnp.ones((len(Task._fields), len(seeds)))),
    }


@functools.lru_cache
def make_model(graph: Any, optimizer: str, rate: float, steps: int, max_norm: float) -> Model:
    """Programs of a network; the same ones for the same arguments, so that they compile once."""
    schedule = optax.linear_schedule(rate, 0.0, steps)
    chosen = optax.adam(schedule) if optimizer == "adam" else optax.adadelta(schedule, rho=0.95)
    return Model(graph, chosen, make_update(graph, chosen, max_norm), networks.make_forward(graph))


def make_update(
    graph: Any, optimizer: optax.GradientTransformation, max_norm: float
) -> training.Update[State]:
    """The training step of all networks: one compiled, pure program for each length of text.

    Which loss it is, is traced, so that a comparison compiles once.
    """
    losses = list(LOSSES.values())

    def one(
        params: Any, frozen: Any, memory: Any, key: jax.Array, task: Task, batch: Any, loss: Any
    ) -> tuple[Any, Any, jax.Array]:
        def objective(params: Any) -> jax.Array:
            net = nnx.merge(graph, nnx.State(params), nnx.State(frozen))
            logits = net(batch["ids"], key)
            return jax.lax.switch(loss, losses, logits, batch["labels"], task)

        value, gradient = jax.value_and_grad(objective)(params)
        change, memory = optimizer.update(gradient, memory, params)
        params = optax.apply_updates(params, change)
        kernel = params["head"]["kernel"]
        params["head"]["kernel"] = optax.projections.projection_l2_ball(kernel, max_norm)
        # A gradient that is not finite shows in the loss, so that it stops the run unsaved.
        return params, memory, value + 0.0 * optax.tree.norm(gradient)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: State, batch: Any) -> tuple[State, jax.Array]:
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), state["step"]))
        params, memory, value = jax.vmap(one, in_axes=(0, 0, 0, 0, 0, 0, None))(
            state["params"],
            state["frozen"],
            state["optimizer"],
            keys(state["seed"]),
            state["task"],
            batch,
            state["loss"],
        )
        changed = {"params": params, "optimizer": memory, "step": state["step"] + 1}
        return {**state, **changed}, value.mean()

    return update
