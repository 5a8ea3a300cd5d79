"""One U-Net, trained with each loss on the same images, and what becomes of it.

From top to bottom: settings, network, loss, step, loop, judge, table. Images of your own are
folders, `--data`; another network is another `make_network`; a loss of your own is a function of
logits and labels among `losses.LOSSES`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from rich.console import Console

from experiments.shared import processes, study, training
from experiments.shared.settings import require_known, require_within
from experiments.ships import measure, report, tiles
from experiments.ships.augmentation import augment
from experiments.ships.data import Reading, Source, open_images
from experiments.ships.losses import LOSSES, Loss
from experiments.ships.pipeline import Batch, Images, batches, normalize
from experiments.ships.splits import split
from experiments.ships.unet import UNet

# --- settings -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings(Source):
    """What makes two runs the same run: which images, the network and its training."""

    width: int = 8
    """Channels at full resolution; each level down doubles them."""
    depth: int = 3
    """How many times the U-Net halves the resolution."""
    patch: int = 1
    """Edge of the squares of pixels that the U-Net takes as one; 2 takes a quarter of the time."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type; auto is bfloat16 on an accelerator and float32 on a CPU."""
    batch_size: int = 8
    """Crops in a step; spread over all devices that divide it, of all processes."""
    crop: int = 96
    """Edge of a training crop; a multiple of patch * 2**depth."""
    ship_share: float = 0.25
    """Share of the crops that are drawn near a ship."""
    photometric: bool = False
    """Change the light of the crops: gamma, contrast, brightness, a little colour."""
    deep_supervision: bool = False
    """Judge coarser logits as well, each half as much as the next finer."""
    steps: int = 500
    """Length of the training."""
    learning_rate: float = 4e-3
    """Peak, after a warm-up over the first tenth; then a cosine down to zero."""
    init: Path | None = None
    """Begin with the parameters of another run of the same width, depth and patch."""
    tile: int | None = None
    """Predict in overlapping tiles of this edge. Default: a bit more than two crops. GroupNorm's
    statistics depend on the field of view, so ½ means less the larger it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        least = dict.fromkeys(("batch_size", "steps", "width", "patch"), "[1, inf)")
        require_within(self, depth="[0, inf)", crop="[8, inf)", **least)
        require_within(self, learning_rate="[0, inf)", ship_share="[0, 1]", tile="[8, inf)")
        unit = self.patch * 2**self.depth
        for name in ("crop", "tile"):
            if (getattr(self, name) or 0) % unit:
                raise ValueError(
                    f"{name} must be a multiple of patch * 2**depth = {unit}, "
                    f"got {getattr(self, name)}"
                )


# --- network --------------------------------------------------------------------------------------

State = dict[str, Any]  # "params", "optimizer" and the number of steps made


@dataclasses.dataclass(frozen=True)
class Model:
    """A network without its parameters, and how it is trained."""

    graph: Any  # nnx.GraphDef
    optimizer: optax.GradientTransformation
    settings: Settings


def make_network(settings: Settings, seed: int) -> UNet:
    auto = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    dtype = auto if settings.dtype == "auto" else jnp.dtype(settings.dtype)
    shape = {"width": settings.width, "depth": settings.depth, "patch": settings.patch}
    return UNet(**shape, dtype=dtype, rngs=nnx.Rngs(seed))


def initialize(settings: Settings, seed: int) -> tuple[Model, State]:
    """A fresh network and the state in which its training begins."""
    graph, params = nnx.split(make_network(settings, seed))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, settings.learning_rate, max(1, settings.steps // 10), max(2, settings.steps)
    )
    model = Model(graph, optax.adam(schedule), settings)
    params = nnx.to_pure_dict(params)
    state = {"params": params, "optimizer": model.optimizer.init(params), "step": jnp.int32(0)}
    if settings.init is not None:
        require_same_network(study.described(settings.init), settings)
        state["params"] = training.restore(state, settings.init)["params"]
    return model, state


def require_same_network(run: dict[str, Any], settings: Settings) -> None:
    """Raise `ValueError` if the run to begin with has a network of another shape."""
    for name in ("width", "depth", "patch"):
        if run[name] != getattr(settings, name):
            raise ValueError(
                f"init must be a run of {name} {getattr(settings, name)}, {run[name]} is its own"
            )


# --- loss and step --------------------------------------------------------------------------------


def of_scales(loss: Loss, scales: Sequence[jax.Array], mask: jax.Array) -> jax.Array:
    """The loss of the logits, and of coarser ones against the shares of ship in their squares."""
    total = jnp.zeros(())
    for k, logits in enumerate(scales):
        edge = mask.shape[1] // logits.shape[1]
        squares = mask.reshape(-1, logits.shape[1], edge, logits.shape[2], edge)
        total += 0.5**k * loss(logits, squares.mean((2, 4), dtype=jnp.float32))
    return total


def make_update(model: Model, loss: str, seed: int) -> training.Update[State]:
    """The training step: one compiled, pure program from augmentation to parameters."""
    settings = model.settings

    @jax.jit
    def update(state: State, batch: Batch) -> tuple[State, jax.Array]:
        key = jax.random.fold_in(jax.random.key(seed), state["step"])
        image, mask = augment(key, batch["image"], batch["mask"], photometric=settings.photometric)

        def objective(params: Any) -> jax.Array:
            network = nnx.merge(model.graph, nnx.State(params))
            if settings.deep_supervision:
                return of_scales(LOSSES[loss], network.at_all_scales(normalize(image)), mask)
            return LOSSES[loss](network(normalize(image)), mask.astype(jnp.float32))

        value, gradient = jax.value_and_grad(objective)(state["params"])
        change, memory = model.optimizer.update(gradient, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], change)
        # A gradient that is not finite shows in the loss, so that it stops the run unsaved.
        value += 0.0 * optax.tree.norm(gradient)
        return {"params": params, "optimizer": memory, "step": state["step"] + 1}, value

    return update


# --- loop -----------------------------------------------------------------------------------------


def fit(
    settings: Settings,
    reading: Reading,
    images: Images,
    loss: str,
    seed: int,
    console: Console,
    directory: Path,
) -> tiles.Predict:
    """Train one loss with one seed in `directory`, or continue what is there."""
    members = split(images, seed).train
    model, state = initialize(settings, seed)

    def from_step(start: int) -> Iterable[Batch]:
        return batches(
            images,
            members,
            seed=seed,
            steps=settings.steps,
            start=start,
            batch_size=settings.batch_size,
            crop=settings.crop,
            ship_share=settings.ship_share,
            workers=reading.workers,
            rows=processes.rows(settings.batch_size),
        )

    training.examine(LOSSES[loss], "binary", console)
    for step in training.train(
        make_update(model, loss, seed),
        state,
        from_step,
        directory,
        steps=settings.steps,
        batch_size=settings.batch_size,
        title=f"{loss}, seed {seed}",
        unit="images",
        console=console,
    ):
        state = step.state
    return make_predict(model, state["params"])


# --- judge ----------------------------------------------------------------------------------------


def make_predict(model: Model, params: Any) -> tiles.Predict:
    """The trained network as a function of one image of any size."""

    @jax.jit
    def forward(params: Any, image: jax.Array) -> jax.Array:
        return nnx.merge(model.graph, nnx.State(params))(normalize(image))

    settings = model.settings
    unit = settings.patch * 2**settings.depth
    # Three such tiles with their overlap span the 768 pixels of a real image at a crop of 128.
    tile = settings.tile or -(-settings.crop * 17 // 8 // unit) * unit
    return tiles.predictor(forward, params, tile, overlap=max(unit, tile // 17))


def find(
    settings: Settings,
    reading: Reading,
    images: Images,
    loss: str,
    seed: int,
    console: Console,
    directory: Path,
) -> dict[str, Any]:
    """Train, then judge on images that were not trained on."""
    parts = split(images, seed)
    predict = fit(settings, reading, images, loss, seed, console, directory)
    return measure.report(predict, images, parts.validation, parts.test)


# --- table ----------------------------------------------------------------------------------------


def compare(
    settings: Settings,
    reading: Reading,
    losses: Sequence[str],
    seeds: int,
    out: Path,
    console: Console,
    *,
    resume: bool,
) -> None:
    """Train every loss with every seed, each in a directory under `out`, then report on all."""
    require_known("loss", losses, LOSSES)
    require_within({"seeds": seeds}, seeds="[1, inf)")
    images = open_images(settings, reading, console)
    found: dict[str, list[dict[str, Any]]] = {loss: [] for loss in losses}
    for seed, loss in itertools.product(range(seeds), losses):
        each = partial(find, settings, reading, images, loss, seed, console)
        described = describe(settings, loss, seed)
        found[loss].append(study.result(out / f"{loss}-{seed}", described, each, resume=resume))
    report.publish(found, settings, out, console)
    first = {loss: out / f"{loss}-0" for loss in losses}
    trained = {loss: each for loss, each in first.items() if training.has_checkpoint(each)}
    if trained:
        report.draw(trained, images, split(images, 0).test, lambda each: load(each).predict, out)


# --- a run that is there --------------------------------------------------------------------------


def describe(settings: Settings, loss: str, seed: int) -> dict[str, Any]:
    """Everything that makes a run the run it is."""
    return {"loss": loss, "seed": seed, **dataclasses.asdict(settings)}


class Trained(NamedTuple):
    settings: Settings
    loss: str
    seed: int
    predict: tiles.Predict


def load(directory: Path) -> Trained:
    """A trained run.

    Raises:
      FileNotFoundError: if there is no run or no checkpoint.
    """
    described = study.described(directory)
    loss, seed = described.pop("loss"), described.pop("seed")
    described["init"] = None  # what was begun with is in the checkpoint
    for name in ("data", "weak"):
        described[name] = tuple(map(Path, described[name]))
    settings = Settings(**described)
    model, state = initialize(settings, seed)
    params = training.restore(state, directory)["params"]
    return Trained(settings, loss, seed, make_predict(model, params))
