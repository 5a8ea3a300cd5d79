"""Embeddings of voices: one network, trained with each loss on the same speakers.

A network hears 400 ms and tells the training speakers apart. What is judged is its embedding of
speakers whom it has never heard: are two utterances of one speaker nearer to each other than to
those of others? Speakers in between, the development speakers, choose every threshold, and how
much the embeddings are whitened. The losses are in `losses.py`, ``f(outputs, speakers)`` each.
"""

from __future__ import annotations

import dataclasses
import functools
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

from experiments.shared import study, training
from experiments.shared.settings import require_within
from experiments.speakers import backend, baseline, features, measure, protocol, report
from experiments.speakers.hearing import Embed, hear
from experiments.speakers.losses import LOSSES, Loss
from experiments.speakers.networks import NETWORKS, SHORTEST, NetworkName, Outputs, unit
from experiments.speakers.protocol import Batches, Deal, Speech
from experiments.speakers.report import MFCC, UNTRAINED, Result
from experiments.speakers.watch import Watch


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is the same for all losses."""

    data: Path | None = None
    """Folder of recordings: speaker/name.wav, or index.csv with file,speaker; without it voices are
    generated."""
    rate: int = 8000
    """Samples a second to which sound is brought."""
    seconds: float = 8.0
    """Length of each generated voice."""
    train_speakers: int = 100
    """To train on."""
    dev_speakers: int = 40
    """To choose thresholds and whitening on."""
    test_speakers: int = 40
    """To test on, unknown to the network."""
    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    """Each training speaker is also heard at other speeds, as further voices to be told apart."""
    network: NetworkName = "tdnn"
    """A dilated time-delay network with statistics pooling, or the question's two-layer BiLSTM."""
    width: int = 128
    """Channels of the TDNN; half of them in each direction of the BiLSTM. Size of the embedding."""
    frames: int = 40
    """In a segment, 10 ms each."""
    batch_speakers: int = 25
    """Speakers in a batch."""
    batch_segments: int = 4
    """Segments of each of them, an even number."""
    steps: int = 1500
    """Updates; the KL hinges over all pairs, which start slowly, make twice as many."""
    learning_rate: float = 4e-3
    """Adam's, at its height; it rises over the first tenth and falls along a cosine."""

    def __post_init__(self) -> None:
        two = dict.fromkeys(("train_speakers", "dev_speakers", "test_speakers"), "[2, inf)")
        two |= dict.fromkeys(("width", "batch_speakers", "batch_segments"), "[2, inf)")
        require_within(self, rate="[1000, inf)", frames=f"[{SHORTEST}, inf)", steps="[1, inf)")
        require_within(self, seconds="(0, inf)", learning_rate="(0, inf)", **two)
        for name in ("width", "batch_segments"):
            if getattr(self, name) % 2:
                raise ValueError(f"{name} must be even, got {getattr(self, name)}")
        different = len(set(self.speeds)) == len(self.speeds) > 0
        if not different or not all(0.5 <= speed <= 2.0 for speed in self.speeds):
            raise ValueError(f"speeds must be different and lie in [0.5, 2], got {self.speeds}")
        if self.batch_speakers > self.voices:
            raise ValueError(
                f"batch_speakers must be at most {self.voices}, which is train_speakers times the "
                f"speeds, got {self.batch_speakers}"
            )

    @property
    def voices(self) -> int:
        """To be told apart in training."""
        return self.train_speakers * len(self.speeds)

    @property
    def batch_size(self) -> int:
        return self.batch_speakers * self.batch_segments


def open_deals(settings: Settings, seeds: Sequence[int], console: Console) -> list[Deal]:
    """The voices that the settings name, dealt anew for each seed."""
    sizes = settings.train_speakers, settings.dev_speakers, settings.test_speakers
    voices = protocol.open_voices(
        settings.data, sum(sizes), settings.seconds, settings.rate, settings.frames, console
    )
    return [protocol.deal(voices, sizes, seed) for seed in seeds]


def compare(
    settings: Settings,
    losses: Sequence[str],
    deals: Sequence[Deal],
    out: Path,
    console: Console,
    *,
    resume: bool,
) -> list[report.Row]:
    """Train every loss on every deal: a row a method, and table, JSON and figures in `out`."""
    found: dict[str, list[Result]] = {}
    for deal in deals:
        speech = functools.cache(partial(protocol.training_speech, deal.train, settings.speeds))
        for method in (MFCC, UNTRAINED, *losses):
            directory = out / f"{settings.network}-{method}-{deal.seed}"
            one = result(settings, method, deal, speech, directory, console, resume=resume)
            found.setdefault(method, []).append(one)
    rows = [report.summarize(method, results) for method, results in found.items()]
    seeds = [deal.seed for deal in deals]
    runs = {loss: out / f"{settings.network}-{loss}-{seeds[0]}" for loss in losses}
    report.publish(rows, settings, seeds, runs, out, console)
    return rows


def result(
    settings: Settings,
    method: str,
    deal: Deal,
    speech: Callable[[], Speech],
    directory: Path,
    console: Console,
    *,
    resume: bool,
) -> Result:
    """Train and judge a loss, or judge a baseline, in `directory`; or read what was found there."""

    def find(directory: Path) -> Result:
        if method == MFCC:
            return {"tuned": baseline.judge(deal, settings.frames)}
        if method == UNTRAINED:
            model, state = initialize(settings, next(iter(LOSSES)), deal.seed, speech().scale)
            return judge(settings, embedder(model, state), deal, directory)
        training.examine(LOSSES[method].examined, LOSSES[method].kind, console)
        embed, watch = fit(settings, method, deal.seed, speech(), directory, console)
        judged = judge(settings, embed, deal, directory)
        return judged | {"warnings": watch.warned, "watched": watch.last}

    described = {"loss": method, "seed": deal.seed, **dataclasses.asdict(settings)}
    return study.result(directory, described, find, resume=resume)


# --- network, loss, step --------------------------------------------------------------------------

State = dict[str, Any]  # "params", "optimizer", "scale", "last": outputs and speakers of a batch


class Model(NamedTuple):
    """A network without its arrays, how it is trained, and how it embeds."""

    optimizer: optax.GradientTransformation
    update: training.Update[State]
    embed: Any  # jitted (params, scale, segments [B, T, F]) -> [B, D] of length 1


def steps_of(settings: Settings, loss: str) -> int:
    """How many updates a loss gets."""
    return settings.steps * (2 if LOSSES[loss].slow else 1)


def initialize(
    settings: Settings, loss: str, seed: int, scale: dict[str, Any]
) -> tuple[Model, State]:
    """A fresh network and the state in which its training begins.

    Args:
      settings: of the network.
      loss: by name.
      seed: of the first parameters.
      scale: mean and deviation of the training speech in each band.
    """
    width = settings.width // 2 if settings.network == "bilstm" else settings.width
    network = NETWORKS[settings.network](
        features.BANDS, settings.voices, width=width, rngs=nnx.Rngs(seed)
    )
    graph, params = nnx.split(network)
    params = nnx.to_pure_dict(params)
    model = make_model(graph, loss, settings.learning_rate, steps_of(settings, loss))
    size, count = settings.batch_size, settings.voices
    nothing = Outputs(*(jnp.zeros((size, n)) for n in (settings.width, count, count)))
    return model, {
        "params": params,
        "optimizer": model.optimizer.init(params),
        "scale": {name: jnp.asarray(value) for name, value in scale.items()},
        "last": {"outputs": nothing._asdict(), "speakers": jnp.zeros(size, jnp.int32)},
    }


@functools.lru_cache
def make_model(graph: Any, loss: str, rate: float, steps: int) -> Model:
    """Programs of a network; the same ones for the same arguments, so that they compile once."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, max(1, steps // 10), steps)
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(schedule))

    @jax.jit
    def embed(params: Any, scale: Any, segments: jax.Array) -> jax.Array:
        return unit(_forward(graph, params, scale, segments).embedding)

    return Model(optimizer, make_update(graph, LOSSES[loss], optimizer), embed)


def embedder(model: Model, state: State) -> Embed:
    """What a trained network does with segments."""
    return partial(model.embed, state["params"], state["scale"])


def _forward(graph: Any, params: Any, scale: Any, segments: jax.Array) -> Outputs:
    network = nnx.merge(graph, nnx.State(params))
    return network((segments - scale["mean"][None, None]) / scale["deviation"][None, None])


def make_update(
    graph: Any, loss: Loss, optimizer: optax.GradientTransformation
) -> training.Update[State]:
    """The training step: a compiled, pure program."""

    @partial(jax.jit, donate_argnums=0)
    def update(state: State, batch: Any) -> tuple[State, jax.Array]:
        def objective(params: Any) -> tuple[jax.Array, Outputs]:
            outputs = _forward(graph, params, state["scale"], batch["segments"])
            return loss.of(outputs, batch["speakers"]), outputs

        (value, outputs), gradient = jax.value_and_grad(objective, has_aux=True)(state["params"])
        change, memory = optimizer.update(gradient, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], change)
        last = {"outputs": outputs._asdict(), "speakers": batch["speakers"]}
        # A gradient that is not finite shows in the loss, so that it stops the run unsaved.
        value += 0.0 * optax.tree.norm(gradient)
        return {**state, "params": params, "optimizer": memory, "last": last}, value

    return update


# --- loop, judge ----------------------------------------------------------------------------------


def fit(
    settings: Settings, loss: str, seed: int, speech: Speech, directory: Path, console: Console
) -> tuple[Embed, Watch]:
    """Train one loss in `directory`, or go on with it."""
    steps = steps_of(settings, loss)
    sizes = settings.batch_speakers, settings.batch_segments, settings.frames
    model, state = initialize(settings, loss, seed, speech.scale)
    watch = Watch(LOSSES[loss], directory, console)
    for step in training.train(
        model.update,
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
    return embedder(model, state), watch


def judge(settings: Settings, embed: Embed, deal: Deal, directory: Path) -> Result:
    """Figures of the test speakers, whitened as much as suits the development speakers.

    Those of embeddings as they are, and of fully whitened ones, stand beside them. Into `directory`
    go the embeddings and the whitening.
    """
    parts = deal.train, deal.dev, deal.test
    train, dev, test = (hear(embed, some, settings.frames) for some in parts)
    if not np.isfinite(train.segments).all():  # the last step may have spoilt the parameters
        raise training.NonFiniteLossError("the embeddings are not finite")
    tuned = backend.tune(train, dev)
    full = backend.whitening(train.segments, train.segment_speakers)
    tuned.whitening.save(directory / "whitening.npz")
    np.savez_compressed(directory / "test.npz", **test._asdict())
    return {
        "tuned": measure.judge(tuned.whitening.of(dev), tuned.whitening.of(test)),
        "shrinkage": tuned.shrinkage,
        "dev_eer": {str(each): rate for each, rate in tuned.dev_eer.items()},
        "raw": measure.judge(dev, test),
        "whitened": measure.judge(full.of(dev), full.of(test)),
    }
