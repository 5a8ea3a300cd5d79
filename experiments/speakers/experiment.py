"""Embeddings of voices: one network, trained with each loss on the same speakers.

A network hears a segment, 400 ms by default, and tells the training speakers apart. What is judged
is its embedding of speakers whom it has never heard: are two utterances of one speaker nearer to
each other than to those of others?

From top to bottom: settings, network, loss, step, loop, judge, table; data are in `protocol.py`.
Your own data: a folder of recordings, `--data`. Your own network: an entry of `networks.NETWORKS`,
which returns `networks.Outputs`. Your own loss: a function of these and of the numbers of the
speakers, in a `losses.Loss` of `losses.LOSSES`. Thresholds are chosen in `measure.figures`, and how
much the embeddings are whitened in `backend.tune`, both on data of the development speakers.

`asked` is the loss of a question on Stack Overflow, reproduced literally, errors included;
`asked-mended` is what was meant.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console

from experiments.shared import commands, study, training
from experiments.shared.settings import require_known, require_within
from experiments.speakers import backend, baseline, features, measure, protocol, report
from experiments.speakers.baseline import MFCC, UNTRAINED
from experiments.speakers.hearing import Embed, hear
from experiments.speakers.losses import LOSSES
from experiments.speakers.networks import NETWORKS, SHORTEST, Outputs, unit
from experiments.speakers.protocol import Batches, Deal, Source, Speech
from experiments.speakers.report import Result
from experiments.speakers.watch import Last, Watch

# --- settings -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings(Source):
    """What is the same for all losses, but that some take twice the steps."""

    network: Annotated[str, commands.choice(NETWORKS)] = "tdnn"
    """tdnn pools time-delay layers, as an x-vector does; bilstm is the network of the question: two
    LSTM layers that read both ways."""
    width: int = 128
    """Size of the embedding."""
    batch_speakers: int = 25
    """Speakers in a batch."""
    batch_segments: int = 4
    """Segments of each of them, an even number."""
    steps: int = 1500
    """Updates. The KL hinges over all pairs start slowly and take twice as many."""
    learning_rate: float = 4e-3
    """Adam's, at its height; it rises over the first tenth and falls along a cosine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("network", [self.network], NETWORKS)
        two = dict.fromkeys(("width", "batch_speakers", "batch_segments"), "[2, inf)")
        require_within(self, frames=f"[{SHORTEST}, inf)", **two)
        require_within(self, steps="[1, inf)", learning_rate="(0, inf)")
        for name in ("width", "batch_segments"):
            if getattr(self, name) % 2:
                raise ValueError(f"{name} must be even, got {getattr(self, name)}")
        if self.batch_speakers > self.voices:
            raise ValueError(
                f"batch_speakers must be at most {self.voices}, which is train_speakers times the "
                f"speeds, got {self.batch_speakers}"
            )

    @property
    def batch_size(self) -> int:
        return self.batch_speakers * self.batch_segments


# --- network --------------------------------------------------------------------------------------

State = dict[str, Any]  # "params", "optimizer", "scale", and "last", which only `watch` reads


def initialize(settings: Settings, seed: int, scale: dict[str, Any]) -> tuple[Any, State]:
    """The graph of a fresh network, and the state in which its training begins.

    `scale` is the mean and the deviation of the training speech in each band.
    """
    network = NETWORKS[settings.network](
        features.BANDS, settings.voices, width=settings.width, rngs=nnx.Rngs(seed)
    )
    graph, params = nnx.split(network)
    params = nnx.to_pure_dict(params)
    optimizer = make_optimizer(settings, settings.steps)  # any number of steps begins alike
    segments = jnp.zeros((settings.batch_size, settings.frames, features.BANDS))
    scale = {name: jnp.asarray(value) for name, value in scale.items()}
    outputs = jax.eval_shape(partial(forward, graph), params, scale, segments)
    return graph, {
        "params": params,
        "optimizer": optimizer.init(params),
        "scale": scale,
        "last": Last(
            jax.tree.map(jnp.zeros_like, outputs), jnp.zeros(settings.batch_size, jnp.int32)
        ),
    }


def forward(graph: Any, params: Any, scale: Any, segments: jax.Array) -> Outputs:
    network = nnx.merge(graph, nnx.State(params))
    return network((segments - scale["mean"][None, None]) / scale["deviation"][None, None])


@partial(jax.jit, static_argnums=0)
def _embed(graph: Any, params: Any, scale: Any, segments: jax.Array) -> jax.Array:
    return unit(forward(graph, params, scale, segments).embedding)


def make_embed(graph: Any, state: State) -> Embed:
    """The trained network as a function of segments [B, T, F] to embeddings [B, D] of length 1."""
    return partial(_embed, graph, state["params"], state["scale"])


# --- loss and step --------------------------------------------------------------------------------


def steps_of(settings: Settings, loss: str) -> int:
    """How many updates a loss gets."""
    return settings.steps * (2 if LOSSES[loss].slow else 1)


def make_optimizer(settings: Settings, steps: int) -> optax.GradientTransformation:
    adam = optax.adam(training.warmup_cosine(settings.learning_rate, steps))
    return optax.chain(optax.clip_by_global_norm(5.0), adam)


@functools.lru_cache
def make_update(graph: Any, settings: Settings, loss: str) -> training.Update[State]:
    """The training step: a pure program, compiled once for the same arguments."""
    optimizer = make_optimizer(settings, steps_of(settings, loss))

    @partial(jax.jit, donate_argnums=0)
    def update(state: State, batch: Any) -> tuple[State, jax.Array]:
        def objective(params: Any) -> tuple[jax.Array, Outputs]:
            outputs = forward(graph, params, state["scale"], batch["segments"])
            return LOSSES[loss].value(outputs, batch["speakers"]), outputs

        (value, outputs), gradient = jax.value_and_grad(objective, has_aux=True)(state["params"])
        change, memory = optimizer.update(gradient, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], change)
        last = Last(outputs, batch["speakers"])
        # A gradient that is not finite shows in the loss, so that it stops the run unsaved.
        value += 0.0 * optax.tree.norm(gradient)
        return {**state, "params": params, "optimizer": memory, "last": last}, value

    return update


# --- loop -----------------------------------------------------------------------------------------


def fit(
    settings: Settings, loss: str, seed: int, speech: Speech, console: Console, directory: Path
) -> tuple[Embed, Watch]:
    """Train one loss in `directory`, or go on with it."""
    steps = steps_of(settings, loss)
    sizes = settings.batch_speakers, settings.batch_segments, settings.frames
    graph, state = initialize(settings, seed, speech.scale)
    watch = Watch(LOSSES[loss], directory, console)
    training.examine(LOSSES[loss].examined, LOSSES[loss].kind, console)
    for step in training.train(
        make_update(graph, settings, loss),
        state,
        Batches(speech.frames, *sizes, steps, seed),
        directory,
        steps=steps,
        batch_size=settings.batch_size,
        title=f"{settings.network}, {loss}, seed {seed}",
        unit="segments",
        log_every=max(1, min(50, steps // 20)),
        checkpoint_every=max(1, steps // 4),
        console=console,
    ):
        state = step.state
        watch(step)
    return make_embed(graph, state), watch


# --- judge ----------------------------------------------------------------------------------------


def judge(settings: Settings, embed: Embed, deal: Deal, directory: Path) -> Result:
    """Figures of the test speakers, whitened as much as suits the development speakers.

    Those of embeddings as they are, and of fully whitened ones, stand beside them as a record. Into
    `directory` go the embeddings and the whitening.
    """
    parts = deal.train, deal.dev, deal.test
    train, dev, test = (hear(embed, voices, settings.frames) for voices in parts)
    if not np.isfinite(train.segments).all():  # the last step may have spoilt the parameters
        raise training.NonFiniteLossError("the embeddings are not finite")
    tuned = backend.tune(train, dev)
    full = backend.whitening(train.segments, train.segment_speakers)
    tuned.whitening.save(directory / "whitening.npz")
    np.savez_compressed(directory / "test.npz", **test._asdict())
    return {
        "tuned": measure.figures(tuned.whitening.of(dev), tuned.whitening.of(test)),
        "shrinkage": tuned.shrinkage,
        "dev_eer": {str(shrinkage): eer for shrinkage, eer in tuned.dev_eer.items()},
        "raw": measure.figures(dev, test),
        "whitened": measure.figures(full.of(dev), full.of(test)),
    }


def train_and_judge(
    settings: Settings,
    method: str,
    deal: Deal,
    get_speech: Callable[[], Speech],
    console: Console,
    directory: Path,
) -> Result:
    """Train and judge a loss, or judge a baseline, in `directory`."""
    if method == MFCC:
        return {"tuned": baseline.figures(deal, settings.frames)}
    if method == UNTRAINED:
        untrained = initialize(settings, deal.seed, get_speech().scale)
        return judge(settings, make_embed(*untrained), deal, directory)
    trained, watch = fit(settings, method, deal.seed, get_speech(), console, directory)
    return judge(settings, trained, deal, directory) | {"warnings": watch.warned}


# --- table ----------------------------------------------------------------------------------------


def describe(settings: Settings, method: str, seed: int) -> dict[str, Any]:
    """Everything that makes a run the run it is."""
    return {"loss": method, "seed": seed, **dataclasses.asdict(settings)}


def compare(
    settings: Settings,
    losses: Sequence[str],
    deals: Sequence[Deal],
    out: Path,
    console: Console,
    *,
    resume: bool,
) -> None:
    """Train every loss on every deal: a row a method, and table, JSON and figures in `out`."""
    results: dict[str, list[Result]] = {}
    for deal in deals:
        get_speech = functools.cache(partial(protocol.training_speech, deal.train, settings.speeds))
        for method in (MFCC, UNTRAINED, *losses):
            directory = out / f"{settings.network}-{method}-{deal.seed}"
            described = describe(settings, method, deal.seed)
            find = partial(train_and_judge, settings, method, deal, get_speech, console)
            result = study.result(directory, described, find, resume=resume)
            results.setdefault(method, []).append(result)
    seeds = [deal.seed for deal in deals]
    runs = {loss: out / f"{settings.network}-{loss}-{seeds[0]}" for loss in losses}
    report.publish(results, settings, seeds, runs, out, console)
