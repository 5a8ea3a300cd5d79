"""One run: settings, images, a pure training step, and the trained model as a predictor."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console

from experiments.shared import records, training
from experiments.ships import tiles
from experiments.ships.images import ImageFolder, open_airbus, open_masks
from experiments.ships.losses import LOSSES
from experiments.ships.pipeline import Batch, Images, Split, augment, batches, normalize, split
from experiments.ships.scenes import Scenes
from experiments.ships.tiles import Predict
from experiments.ships.unet import UNet


@dataclasses.dataclass(frozen=True)
class Settings:
    """What makes two runs the same run."""

    data: Path | None = None
    """Folder with images; without it scenes are generated."""
    layout: Literal["airbus", "masks"] = "airbus"
    """The challenge's CSV and folder, or any folder of images with mask files."""
    strict: bool = False
    """Stop at the first unusable file instead of leaving it out."""
    scenes: int = 1000
    """How many scenes to generate, in all three parts together."""
    size: int = 256
    """Edge of a generated scene in pixels."""
    width: int = 8
    """Channels at full resolution; each level down doubles them."""
    depth: int = 3
    """How many times the U-Net halves the resolution."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type; auto is bfloat16 on an accelerator and float32 on a CPU."""
    batch_size: int = 8
    """Crops in a step; spread over all devices that divide it."""
    crop: int = 96
    """Edge of a training crop; a multiple of 2**depth."""
    ship_share: float = 0.25
    """Share of the crops that are drawn near a ship."""
    steps: int = 500
    """Length of the training."""
    learning_rate: float = 4e-3
    """Peak, after a warm-up over the first tenth; then a cosine down to zero."""
    tile: int | None = None
    """Predict in overlapping tiles of this edge, 0: each image whole. Default: a bit more than two
    crops. GroupNorm's statistics depend on the field of view, so ½ means less the larger it is."""

    def __post_init__(self) -> None:
        least = {"depth": 0, "crop": 8, "batch_size": 1, "steps": 1, "width": 1, "scenes": 1}
        for name, least_value in {**least, "learning_rate": 0.0}.items():
            if getattr(self, name) < least_value:
                raise ValueError(
                    f"{name} must be at least {least_value}, got {getattr(self, name)}"
                )
        halvings = 2**self.depth
        for name, value in (("crop", self.crop), ("tile", self.tile)):
            if value is not None and (value < 0 or value % halvings or 0 < value < 8):
                raise ValueError(f"{name} must be a multiple of 2**depth = {halvings}, got {value}")
        if not 0.0 <= self.ship_share <= 1.0:
            raise ValueError(f"ship_share must lie in [0, 1], got {self.ship_share}")


def open_images(settings: Settings, console: Console) -> Images:
    """The images that the settings name, with a word on what was left out."""
    if settings.data is None:
        return Images(Scenes(count=settings.scenes, size=settings.size))
    opener = {"airbus": open_airbus, "masks": open_masks}[settings.layout]
    images: ImageFolder = opener(settings.data, strict=settings.strict)
    full = sum(images.has_ships(i) for i in range(len(images)))
    console.print(f"{len(images)} images in {settings.data}, {full} of them with objects")
    for name, reason in images.skipped[:5]:
        console.print(f"  left out: {name}: {reason}", style="yellow", markup=False)
    if images.skipped:
        console.print(f"  left out {len(images.skipped)} files in all", style="yellow")
    return Images(images, strict=settings.strict)


@dataclasses.dataclass(frozen=True)
class Model:
    """A U-Net without its parameters, and how it is trained."""

    graph: Any  # nnx.GraphDef
    optimizer: optax.GradientTransformation
    settings: Settings


State = dict[str, Any]  # "params", "optimizer" and the number of steps made


def initialize(settings: Settings, seed: int) -> tuple[Model, State]:
    """A fresh U-Net and the state in which its training begins."""
    auto = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    dtype = auto if settings.dtype == "auto" else jnp.dtype(settings.dtype)
    net = UNet(width=settings.width, depth=settings.depth, dtype=dtype, rngs=nnx.Rngs(seed))
    graph, params = nnx.split(net)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, settings.learning_rate, max(1, settings.steps // 10), max(2, settings.steps)
    )
    model = Model(graph, optax.adam(schedule), settings)
    params = nnx.to_pure_dict(params)
    return model, {
        "params": params,
        "optimizer": model.optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
    }


def make_update(model: Model, loss: str, seed: int) -> training.Update[State]:
    """The training step: one compiled, pure program from augmentation to parameters."""
    score = LOSSES[loss]

    @jax.jit
    def update(state: State, batch: Batch) -> tuple[State, jax.Array]:
        key = jax.random.fold_in(jax.random.key(seed), state["step"])
        image, mask = augment(key, batch["image"], batch["mask"])

        def objective(params: Any) -> jax.Array:
            logits = nnx.merge(model.graph, nnx.State(params))(normalize(image))
            return score(logits, mask.astype(jnp.float32))

        value, gradient = jax.value_and_grad(objective)(state["params"])
        change, memory = model.optimizer.update(gradient, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], change)
        # A gradient that is not finite shows in the loss, so that it stops the run unsaved.
        value += 0.0 * optax.tree.norm(gradient)
        return {"params": params, "optimizer": memory, "step": state["step"] + 1}, value

    return update


def make_predict(model: Model, params: Any) -> Predict:
    """The trained model as a function of one image of any size, whole or in tiles."""

    @jax.jit
    def forward(params: Any, image: np.ndarray) -> jax.Array:
        return nnx.merge(model.graph, nnx.State(params))(normalize(image))

    unit = 2**model.settings.depth
    # Three such tiles with their overlap span the 768 pixels of a real image at a crop of 128.
    default = -(-model.settings.crop * 17 // 8 // unit) * unit
    tile = default if model.settings.tile is None else model.settings.tile

    def whole(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        padding = [(0, -height % unit), (0, -width % unit), (0, 0)]
        logits = forward(params, np.pad(image, padding, "reflect")[None])
        return np.asarray(logits)[0, :height, :width]

    if not tile:
        return whole
    return tiles.predictor(forward, params, tile, overlap=max(unit, tile // 17))


def parts(settings: Settings, images: Images, seed: int) -> Split:
    """Which images a run trains on, tunes on and is judged on.

    Generated scenes are divided once, since there is no end of them; a folder anew for every seed,
    so that the error over seeds contains the luck of the split.
    """
    if settings.data is None:
        return split(images, seed=0, shares=(0.10, 0.10))
    return split(images, seed=seed)


def fit(
    settings: Settings,
    images: Images,
    loss: str,
    seed: int,
    directory: Path,
    console: Console,
    *,
    resume: bool,
) -> Predict:
    """Train one loss with one seed in `directory`, or continue what is there.

    Raises:
      FileExistsError: if a run is there and `resume` is not set.
      ValueError: if the run there was made with other settings; they are named.
    """
    records.claim(directory, describe(settings, loss, seed), resume=resume)
    members = parts(settings, images, seed).train
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
        )

    update = make_update(model, loss, seed)
    training.examine(LOSSES[loss], "binary", console)
    title = f"{loss}, seed {seed}"
    for step in training.train(
        update,
        state,
        from_step,
        directory,
        steps=settings.steps,
        batch_size=settings.batch_size,
        title=title,
        unit="images",
        console=console,
    ):
        state = step.state
    return make_predict(model, state["params"])


def describe(settings: Settings, loss: str, seed: int) -> dict[str, Any]:
    """Everything that makes a run the run it is."""
    return {"loss": loss, "seed": seed, **dataclasses.asdict(settings)}


def load(directory: Path) -> tuple[Settings, str, int, Predict]:
    """A trained run: its settings, loss, seed, and predictor.

    Raises:
      FileNotFoundError: if there is no run or no checkpoint.
    """
    described = records.described(directory)
    loss, seed = described.pop("loss"), described.pop("seed")
    described["data"] = described["data"] and Path(described["data"])
    settings = Settings(**described)
    model, state = initialize(settings, seed)
    state = training.restore(state, directory)
    return settings, loss, seed, make_predict(model, state["params"])
