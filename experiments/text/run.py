"""One training of several networks side by side: settings, texts, a pure step, and predictors."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console

from experiments import records, training
from experiments.text import corpus, messages, vectors
from experiments.text.corpus import Corpus, Parts
from experiments.text.losses import LOSSES, OVERSAMPLED, Task
from experiments.text.pipeline import plan
from experiments.text.textcnn import Frozen, TextCNN, Variant
from experiments.text.words import Rows, Words, collect


@dataclasses.dataclass(frozen=True)
class Settings:
    """What makes two runs the same run."""

    data: Path | None = None
    """File or folder of texts; without it messages are generated."""
    layout: Literal["table", "sms", "mr", "olid"] = "table"
    """Any CSV or TSV file with a header, or one of the public corpora in its own files."""
    text_column: str = "text"
    """Header of the column of texts, for a table."""
    label_column: str = "label"
    """Header of the column of labels, for a table."""
    rare: str | None = None
    """Label of the class to be found, for a table; default: the less frequent of two."""
    strict: bool = False
    """Stop at the first row without a text or label instead of leaving it out."""
    messages: int = 3000
    """How many messages to generate, in all three parts together."""
    dev_share: float = 0.1
    """Share of the training texts on which thresholds are tuned."""
    test_share: float = 0.2
    """Share of all texts that is tested on, unless the corpus has test texts of its own."""
    miss_cost: float | None = None
    """Cost of a rare text that is not found; default: the odds of the common class in training."""
    alarm_cost: float = 1.0
    """Cost of a common text that is taken for rare."""
    variant: Variant = "multichannel"
    """Kim's: random vectors; given ones, frozen or trained; or two channels of them, one frozen."""
    vectors: Path | None = None
    """Word vectors, word2vec's binary or GloVe's text; without, learnt from the training texts."""
    size: int = 100
    """Numbers in a word's vector; a file of vectors decides itself."""
    widths: tuple[int, ...] = (3, 4, 5)
    """Words that a filter sees."""
    maps: int = 100
    """Filters of each width."""
    dropout: float = 0.5
    """Share of the features that a training step leaves out."""
    max_norm: float = 3.0
    """Largest Euclidean norm of the last layer's weights."""
    length: int = 64
    """Longer texts are cut."""
    min_count: int = 2
    """A word that the training texts have less often is unknown."""
    batch_size: int = 50
    """Texts in a step."""
    epochs: int = 3
    """How often a training text is seen."""
    optimizer: Literal["adam", "adadelta"] = "adam"
    """Adam, or Kim's Adadelta (decay 0.95), at whose learning rate of 1 it takes many epochs."""
    learning_rate: float = 2e-3
    """At the beginning; it falls to zero along a line."""

    def __post_init__(self) -> None:
        least = {"size": 1, "maps": 1, "length": 1, "min_count": 1, "batch_size": 1, "epochs": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, got {getattr(self, name)}")
        for name in ("learning_rate", "alarm_cost", "max_norm"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.miss_cost is not None and self.miss_cost <= 0.0:
            raise ValueError(f"miss_cost must be above 0, got {self.miss_cost}")
        for name in ("dev_share", "test_share", "dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be positive, got {self.widths}")


def open_corpus(settings: Settings, console: Console) -> Corpus:
    """The texts that the settings name, with a word on what was left out."""
    if settings.data is None:
        return messages.generate(settings.messages)
    if settings.layout == "table":
        found = corpus.read_table(
            settings.data,
            text=settings.text_column,
            label=settings.label_column,
            rare=settings.rare,
            strict=settings.strict,
        )
    else:
        readers = {"sms": corpus.read_sms, "mr": corpus.read_reviews, "olid": corpus.read_olid}
        found = readers[settings.layout](settings.data)
    console.print(
        f"{len(found)} texts in {settings.data}, {found.labels.mean():.1%} of them "
        f"{found.classes[1]!r}",
        markup=False,
    )
    for where, reason in found.skipped[:5]:
        console.print(f"  left out: {where}: {reason}", style="yellow", markup=False)
    if found.skipped:
        console.print(f"  left out {len(found.skipped)} rows in all", style="yellow")
    return found


NAMES = {"sms": "SMS spam", "mr": "MR", "olid": "OLID"}


def name_corpus(settings: Settings) -> str:
    """What a title calls the texts."""
    if settings.data is None:
        return f"{settings.messages:,} generated messages"
    return NAMES.get(settings.layout, settings.data.name)


# --- what is trained ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Material:
    """Texts ready for several runs side by side: run r trains on ``parts[r]`` with ``seeds[r]``."""

    corpus: Corpus
    parts: Sequence[Parts]
    seeds: Sequence[int]
    words: Words
    rows: Rows
    vectors: np.ndarray
    """[R, V, D]; zeros where the variant starts without."""

    @property
    def prevalence(self) -> np.ndarray:
        """Share of the rare class in each run's training texts [R]."""
        return np.array([self.corpus.labels[part.train].mean() for part in self.parts])


def prepare(
    settings: Settings, found: Corpus, parts: Sequence[Parts], seeds: Sequence[int]
) -> Material:
    """Words and, where wanted, vectors, from each run's own training texts."""
    words, rows = collect(
        found.texts,
        [part.train for part in parts],
        length=settings.length,
        min_count=settings.min_count,
    )
    if settings.variant == "rand":
        tables = np.zeros((len(seeds), len(words.words), settings.size), np.float32)
    elif settings.vectors is not None:
        read, there = vectors.read_vectors(settings.vectors, [str(word) for word in words.words])
        tables = np.stack(
            [vectors.complete(read, there, np.random.default_rng(seed)) for seed in seeds]
        )
    else:
        tables = np.stack(
            [
                vectors.learn_vectors(ids[part.train], len(words.words), settings.size)
                for ids, part in zip(rows.ids, parts, strict=True)
            ]
        )
    return Material(found, parts, seeds, words, rows, tables)


def costs(settings: Settings, prevalence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a miss and a false alarm cost each run [R]; by default as much for either class."""
    alarm = np.full(len(prevalence), settings.alarm_cost)
    if settings.miss_cost is None:
        return alarm * (1.0 - prevalence) / prevalence, alarm
    return np.full(len(prevalence), settings.miss_cost), alarm


State = dict[str, Any]  # "params", "frozen", "optimizer", "seed" [R, ...]; "task"; the "step"


@dataclasses.dataclass(frozen=True)
class Model:
    """A network without its arrays, how it is trained, and how it predicts."""

    graph: Any  # nnx.GraphDef
    optimizer: optax.GradientTransformation
    update: training.Update[State]
    forward: Any  # jitted (params, frozen, ids [R, B, L]) -> logits [R, B]


def initialize(
    settings: Settings,
    shape: tuple[int, int],
    seeds: Sequence[int],
    tables: np.ndarray | None = None,
    *,
    steps: int = 1,
) -> tuple[Model, State]:
    """Fresh networks, one for each seed, and the state in which their training begins.

    Args:
      settings: of the network.
      shape: number of words, and of numbers in a vector.
      seeds: R of them.
      tables: vectors [R, *shape]; default zeros, to be overwritten by a checkpoint.
      steps: length of the training.
    """
    if tables is None:
        tables = np.zeros((len(seeds), *shape), np.float32)
    graph, params, frozen = None, [], []
    for run, seed in enumerate(seeds):
        net = TextCNN(
            *shape,
            variant=settings.variant,
            vectors=tables[run],
            widths=settings.widths,
            maps=settings.maps,
            dropout=settings.dropout,
            rngs=nnx.Rngs(seed),
        )
        graph, *states = nnx.split(net, nnx.Param, Frozen)
        for each, state in zip((params, frozen), states, strict=True):
            each.append(nnx.to_pure_dict(state))
    params, frozen = (jax.tree.map(lambda *xs: jnp.stack(xs), *each) for each in (params, frozen))
    rate, norm = settings.learning_rate, settings.max_norm
    model = make_model(graph, settings.optimizer, rate, steps, norm)
    return model, {
        "params": params,
        "frozen": frozen,
        "optimizer": jax.vmap(model.optimizer.init)(params),
        "seed": jnp.asarray(seeds, jnp.uint32),
        "step": jnp.zeros((), jnp.int32),
        "task": {
            "loss": jnp.zeros((), jnp.int32),
            "known": {name: jnp.ones(len(seeds)) for name in Task.__annotations__},
        },
    }


@functools.lru_cache
def make_model(graph: Any, optimizer: str, rate: float, steps: int, max_norm: float) -> Model:
    """Programs of a network; the same ones for the same arguments, so that they compile once."""
    schedule = optax.linear_schedule(rate, 0.0, steps)
    chosen = optax.adam(schedule) if optimizer == "adam" else optax.adadelta(schedule, rho=0.95)
    return Model(graph, chosen, make_update(graph, chosen, max_norm), make_forward(graph))


def make_update(
    graph: Any, optimizer: optax.GradientTransformation, max_norm: float
) -> training.Update[State]:
    """The training step of all networks: one compiled, pure program for each length of text.

    Which loss it is, is traced, so that a comparison compiles once.
    """
    losses = list(LOSSES.values())

    def one(
        params: Any, frozen: Any, memory: Any, key: jax.Array, task: Any, batch: Any, loss: Any
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
            state["task"]["known"],
            batch,
            state["task"]["loss"],
        )
        changed = {"params": params, "optimizer": memory, "step": state["step"] + 1}
        return {**state, **changed}, value.mean()

    return update


@functools.lru_cache
def make_forward(graph: Any) -> Any:
    """Logits [R, B] of ids [R, B, L], by each network its own."""

    @jax.jit
    def forward(params: Any, frozen: Any, ids: np.ndarray) -> jax.Array:
        def one(params: Any, frozen: Any, ids: Any) -> jax.Array:
            return nnx.merge(graph, nnx.State(params), nnx.State(frozen))(ids)

        return jax.vmap(one)(params, frozen, ids)

    return forward


AT_ONCE = 200  # texts of one length in a prediction, so that any number needs few compilations


def predict(model: Model, state: State, rows: Rows, edges: np.ndarray) -> np.ndarray:
    """Logits [R, n] of n texts, by each network."""
    logits = np.empty(rows.ids.shape[:2], np.float32)
    bucket = np.searchsorted(edges, rows.lengths)
    for k, edge in enumerate(edges):
        members = np.flatnonzero(bucket == k)
        for first in range(0, len(members), AT_ONCE):
            some = members[first : first + AT_ONCE]
            ids = rows.ids[:, np.resize(some, AT_ONCE), :edge]
            found = np.asarray(model.forward(state["params"], state["frozen"], ids))
            logits[:, some] = found[:, : len(some)]
    return logits


# --- a run ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Trained:
    """Networks after training."""

    model: Model
    state: State
    words: Words

    def __call__(self, rows: Rows) -> np.ndarray:
        """Logits [R, n] of texts."""
        return predict(self.model, self.state, rows, self.words.edges)


def fit(
    settings: Settings,
    material: Material,
    loss: str,
    directory: Path,
    console: Console,
    *,
    resume: bool,
) -> Trained:
    """Train one loss, a network for each seed, in `directory`, or continue what is there.

    Args:
      settings: of the run.
      material: texts, parts and seeds.
      loss: by name.
      directory: for config, words, log and checkpoints.
      console: where progress is shown.
      resume: continue the run that is there.

    Raises:
      FileExistsError: if a run is there and `resume` is not set.
      ValueError: if the run there was made with other settings; they are named.
    """
    described = describe(settings, loss, material.seeds, material.vectors.shape[-1])
    records.claim(directory, described, resume=resume)
    material.words.save(directory / "words.npz")
    planned = plan(
        material.rows,
        material.corpus.labels,
        [part.train for part in material.parts],
        material.words.edges,
        seeds=material.seeds,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        oversample=loss in OVERSAMPLED,
    )
    steps = len(planned.schedule)
    shape = material.vectors.shape[1:]
    model, state = initialize(settings, shape, material.seeds, material.vectors, steps=steps)
    miss, alarm = costs(settings, material.prevalence)
    known = {"prevalence": material.prevalence, "miss": miss, "alarm": alarm}
    state["task"] = {
        "loss": jnp.asarray(list(LOSSES).index(loss), jnp.int32),
        "known": {name: jnp.asarray(value, jnp.float32) for name, value in known.items()},
    }
    runs = len(material.seeds)
    title = loss if runs == 1 else f"{loss}, {runs} runs"
    for step in training.train(
        model.update,
        state,
        planned.batches,
        directory,
        steps=steps,
        batch_size=settings.batch_size * runs,
        title=title,
        unit="texts",
        log_every=max(1, steps // 20),
        checkpoint_every=max(1, steps // 4),
        devices=jax.devices()[:1],
        console=console,
    ):
        state = step.state
    return Trained(model, state, material.words)


def describe(settings: Settings, loss: str, seeds: Sequence[int], size: int) -> dict[str, Any]:
    """Everything that makes a run the run it is; the size of a vector may be its file's."""
    return {"loss": loss, "seeds": list(seeds), **dataclasses.asdict(settings), "size": size}


def load(directory: Path) -> tuple[Settings, str, list[int], Trained]:
    """A trained run: its settings, loss, seeds, and networks.

    Raises:
      FileNotFoundError: if there is no run or no checkpoint.
    """
    described = records.described(directory)
    loss, seeds = described.pop("loss"), described.pop("seeds")
    for name in ("data", "vectors"):
        described[name] = described[name] and Path(described[name])
    described["widths"] = tuple(described["widths"])
    settings = Settings(**described)
    words = Words.load(directory / "words.npz")
    model, state = initialize(settings, (len(words.words), settings.size), seeds)
    return settings, loss, seeds, Trained(model, training.restore(state, directory), words)
