"""One training: settings, speech, a pure step, and embeddings of utterances."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console

from experiments.shared import records, training
from experiments.speakers import features, protocol, recordings, voices as generated
from experiments.speakers.losses import LOSSES, Loss
from experiments.speakers.measure import FEW, Heard, spread_evenly
from experiments.speakers.networks import NETWORKS, SHORTEST, NetworkName, Outputs, unit
from experiments.speakers.protocol import Batches, Parts, Voice
from experiments.speakers.watch import Watch


@dataclasses.dataclass(frozen=True)
class Settings:
    """What makes two runs the same run."""

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
    """To choose thresholds on."""
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
        least = {
            "train_speakers": 2, "dev_speakers": 2, "test_speakers": 2, "width": 2, "steps": 1,
            "frames": SHORTEST, "batch_speakers": 2, "batch_segments": 2, "rate": 1000,
        }  # fmt: skip
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, got {getattr(self, name)}")
        for name in ("seconds", "learning_rate"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("width", "batch_segments"):
            if getattr(self, name) % 2:
                raise ValueError(f"{name} must be even, got {getattr(self, name)}")
        if len(set(self.speeds)) < len(self.speeds) or not all(0.5 <= s <= 2 for s in self.speeds):
            raise ValueError(f"speeds must be different and lie in [0.5, 2], got {self.speeds}")
        if not self.speeds:
            raise ValueError("speeds must not be empty: 1.0 is the recording as it is")
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

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.train_speakers, self.dev_speakers, self.test_speakers


def open_voices(settings: Settings, console: Console) -> list[Voice]:
    """The speakers that the settings name, with a word on what was left out."""
    if settings.data is None:
        found = generated.generate(sum(settings.sizes), settings.seconds, rate=settings.rate)
        return protocol.voices(found, settings.frames)
    shortest = settings.frames * features.HOP_SECONDS
    found = recordings.read_folder(settings.data, rate=settings.rate, shortest=shortest)
    speech = protocol.voices(found, settings.frames)
    minutes = sum(len(each.signal) for each in found.recordings) / settings.rate / 60
    console.print(
        f"{len(speech)} speakers, {len(found.recordings)} recordings, {minutes:.0f} minutes in "
        f"{settings.data}",
        markup=False,
    )
    tell_skipped(found.skipped, console)
    return speech


def tell_skipped(skipped: Sequence[tuple[str, str]], console: Console) -> None:
    """Name the first files that were left out, and count them all."""
    for where, reason in skipped[:5]:
        console.print(f"  left out: {where}: {reason}", style="yellow", markup=False)
    if skipped:
        console.print(f"  left out {len(skipped)} recordings in all", style="yellow")


# --- what is trained ------------------------------------------------------------------------------

State = dict[str, Any]  # "params", "optimizer", "scale", "last": outputs and speakers of a batch


@dataclasses.dataclass(frozen=True)
class Model:
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


def _forward(graph: Any, params: Any, scale: Any, segments: jax.Array) -> Outputs:
    network = nnx.merge(graph, nnx.State(params))
    return network((segments - scale["mean"][None, None]) / scale["deviation"][None, None])


def make_update(
    graph: Any, loss: Loss, optimizer: optax.GradientTransformation
) -> training.Update[State]:
    """The training step: a compiled, pure program."""

    @functools.partial(jax.jit, donate_argnums=0)
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


AT_ONCE = 256  # segments in a program


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network after training."""

    settings: Settings
    model: Model
    state: State

    def segments(self, segments: np.ndarray) -> np.ndarray:
        """Embeddings [n, D] at length 1 of log-mel segments [n, frames, bands]."""
        embed = functools.partial(self.model.embed, self.state["params"], self.state["scale"])
        return features.in_chunks(embed, segments, AT_ONCE)

    def __call__(self, utterances: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Embeddings of the segments of each utterance, given as mel power [frames, bands]."""
        cut = [
            protocol.segments(features.log_mel(each), self.settings.frames) for each in utterances
        ]
        ends = np.cumsum([len(each) for each in cut])[:-1]
        return np.split(self.segments(np.concatenate(cut)), ends)


def hear(embed: Any, voices: Sequence[Voice]) -> Heard:
    """Embeddings of the two utterances of each speaker, and of a few of their segments."""
    spoken = embed([each for voice in voices for each in (voice.first, voice.second)])
    speakers = np.repeat(np.arange(len(voices)), 2)
    few = [spread_evenly(each, FEW) for each in spoken]
    owners = np.repeat(speakers, [len(each) for each in few])
    utterances = np.stack([each.mean(0) for each in spoken])
    return Heard(utterances, speakers, np.concatenate(few), owners)


# --- a run ----------------------------------------------------------------------------------------


class Speech(NamedTuple):
    """What a network is trained on."""

    frames: list[np.ndarray]
    """Log-mel frames of each training speaker at each speed."""
    scale: dict[str, Any]
    """Their mean and deviation in each band."""


def training_speech(settings: Settings, voices: Sequence[Voice], parts: Parts) -> Speech:
    """The training speakers at every speed: seconds of work, and the same for every loss."""
    frames = [
        features.log_mel(voices[k].at_speed(speed))
        for speed in settings.speeds
        for k in parts.train
    ]
    every = np.concatenate(frames)
    return Speech(frames, {"mean": every.mean(0), "deviation": every.std(0) + 1e-3})


def fit(
    settings: Settings,
    speech: Speech,
    loss: str,
    seed: int,
    directory: Path,
    console: Console,
) -> tuple[Trained, Watch]:
    """Train one loss in `directory`, or go on with it."""
    steps = steps_of(settings, loss)
    batches = Batches(
        speech.frames,
        settings.batch_speakers,
        settings.batch_segments,
        settings.frames,
        steps,
        seed,
    )
    model, state = initialize(settings, loss, seed, speech.scale)
    watch = Watch(LOSSES[loss], directory, console)
    for step in training.train(
        model.update,
        state,
        batches,
        directory,
        steps=steps,
        batch_size=settings.batch_size,
        title=f"{settings.network}, {loss}, split {seed}",
        unit="segments",
        log_every=max(1, min(50, steps // 20)),
        checkpoint_every=max(1, steps // 4),
        console=console,
    ):
        state = step.state
        watch(step)
    return Trained(settings, model, state), watch


def describe(settings: Settings, loss: str, seed: int) -> dict[str, Any]:
    """Everything that makes a run the run it is."""
    return {"loss": loss, "seed": seed, **dataclasses.asdict(settings)}


def load(directory: Path) -> tuple[str, int, Trained]:
    """A trained run: its loss, its seed, and the network.

    Raises:
      FileNotFoundError: if there is no run or no checkpoint.
    """
    described = records.described(directory)
    loss, seed = described.pop("loss"), described.pop("seed")
    described["data"] = described["data"] and Path(described["data"])
    described["speeds"] = tuple(described["speeds"])
    settings = Settings(**described)
    zeros = np.zeros(features.BANDS, np.float32)
    model, state = initialize(settings, loss, seed, {"mean": zeros, "deviation": zeros})
    return loss, seed, Trained(settings, model, training.restore(state, directory))
