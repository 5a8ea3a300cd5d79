"""One U-Net, trained with each loss on the same images, and what becomes of it.

Your own data: `--data`, folders of images and masks. Your own network: `make_network`. Your own
loss: a function of logits and labels, and a line of `losses.LOSSES`. Thresholds are chosen in
`measure.judge`, on validation images. The losses `asked-…` are those of a question on Stack
Overflow, reproduced literally, errors included.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
from experiments.ships.losses import DECISIONS, LOSSES, at_all_scales
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
    dtype: training.DtypeName = "auto"
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
    """Also train on coarser logits; each level weighs half of the finer one."""
    steps: int = 500
    """Length of the training."""
    learning_rate: float = 4e-3
    """Peak, after a warm-up over the first tenth; then a cosine down to zero."""
    init: Path | None = None
    """Begin with the parameters of another run of the same width, depth and patch; in its path
    {seed} stands for the seed, since only the same seed was not trained on the same test images."""
    tile: int | None = None
    """Predict in overlapping tiles of this edge. Default: the crop, because GroupNorm's statistics
    depend on the field of view: larger tiles shift the probabilities."""

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


def make_network(settings: Settings, seed: int) -> UNet:
    shape = {"width": settings.width, "depth": settings.depth, "patch": settings.patch}
    return UNet(**shape, dtype=training.compute_dtype(settings.dtype), rngs=nnx.Rngs(seed))


def initialize(settings: Settings, seed: int) -> tuple[Any, State]:
    """A network, as an `nnx.GraphDef`, and the state in which its training begins."""
    graph, params = nnx.split(make_network(settings, seed))
    params = nnx.to_pure_dict(params)
    optimizer = make_optimizer(settings)
    state = {"params": params, "optimizer": optimizer.init(params), "step": jnp.int32(0)}
    if settings.init is not None:
        state["params"] = training.restore(state, run_to_begin_with(settings, seed))["params"]
    return graph, state


def make_optimizer(settings: Settings) -> optax.GradientTransformation:
    return optax.adam(training.warmup_cosine(settings.learning_rate, settings.steps))


def run_to_begin_with(settings: Settings, seed: int) -> Path:
    """Where it lies.

    Raises:
      ValueError: if its network has another shape, or has learnt from what is to be tested on.
    """
    directory = Path(str(settings.init).replace("{seed}", str(seed)))
    before, rest = study.settings_of(directory, Settings)
    for name in ("width", "depth", "patch"):
        theirs, ours = getattr(before, name), getattr(settings, name)
        if theirs != ours:
            raise ValueError(f"init: that run has {name} {theirs}, this one {ours}")
    learnt = {folder.resolve() for folder in (*before.data, *before.weak)}
    if learnt & {folder.resolve() for folder in settings.data} and rest["seed"] != seed:
        raise ValueError(
            f"init: {directory} has seed {rest['seed']}, so it was trained on images that seed "
            f"{seed} tests on"
        )
    return directory


# --- loss and step --------------------------------------------------------------------------------


@functools.lru_cache
def make_update(graph: Any, settings: Settings, loss: str) -> Callable[..., Any]:
    """The training step from augmentation to parameters: one program for all seeds."""
    score, optimizer = LOSSES[loss], make_optimizer(settings)
    if settings.deep_supervision and loss in DECISIONS:
        raise ValueError(f"deep_supervision gives shares as labels, and {loss} takes decisions")

    @jax.jit
    def update(seed: jax.Array, state: State, batch: Batch) -> tuple[State, jax.Array]:
        key = jax.random.fold_in(jax.random.key(seed), state["step"])
        image, mask = augment(key, batch["image"], batch["mask"], photometric=settings.photometric)

        def objective(params: Any) -> jax.Array:
            network = nnx.merge(graph, nnx.State(params))
            if settings.deep_supervision:
                return at_all_scales(score, network.at_all_scales(normalize(image)), mask)
            return score(network(normalize(image)), mask.astype(jnp.float32))

        value, gradient = jax.value_and_grad(objective)(state["params"])
        change, memory = optimizer.update(gradient, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], change)
        # A gradient that is not finite shows in the loss, so that it stops the run unsaved.
        value += 0.0 * optax.tree.norm(gradient)
        return {"params": params, "optimizer": memory, "step": state["step"] + 1}, value

    return update


# --- loop -----------------------------------------------------------------------------------------


def crops_of(
    settings: Settings, reading: Reading, images: Images, members: list[int], seed: int
) -> Callable[..., Iterator[Batch]]:
    """This process's rows of the batches; `start` and `steps` say which."""
    return partial(
        batches,
        images,
        members,
        seed=seed,
        steps=settings.steps,
        batch_size=settings.batch_size,
        crop=settings.crop,
        ship_share=settings.ship_share,
        workers=reading.workers,
        rows=processes.rows(settings.batch_size),
    )


def fit(
    settings: Settings,
    reading: Reading,
    images: Images,
    members: list[int],
    loss: str,
    seed: int,
    directory: Path,
    console: Console,
) -> tiles.Predict:
    """Train one loss on the images `members`, or continue what is in `directory`."""
    graph, state = initialize(settings, seed)
    crops = crops_of(settings, reading, images, members, seed)
    training.examine(LOSSES[loss], "binary", console)
    for step in training.train(
        partial(make_update(graph, settings, loss), jnp.uint32(seed)),
        state,
        lambda start: crops(start=start),
        directory,
        steps=settings.steps,
        batch_size=settings.batch_size,
        title=f"{loss}, seed {seed}",
        unit="images",
        console=console,
    ):
        state = step.state
    return make_predict(graph, settings, state["params"])


# --- judge ----------------------------------------------------------------------------------------


def make_predict(graph: Any, settings: Settings, params: Any) -> tiles.Predict:
    """The trained network as a function of one image of any size."""

    @jax.jit
    def forward(params: Any, image: jax.Array) -> jax.Array:
        return nnx.merge(graph, nnx.State(params))(normalize(image))

    return tiles.predictor(forward, params, settings.tile or settings.crop)


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
    results: dict[str, list[dict[str, Any]]] = {loss: [] for loss in losses}
    for seed, loss in itertools.product(range(seeds), losses):
        directory = out / f"{loss}-{seed}"
        result = result_of(settings, reading, images, loss, seed, directory, console, resume=resume)
        results[loss].append(result)
    report.publish(results, settings, out, console)
    runs = {loss: out / f"{loss}-0" for loss in losses if "failed" not in results[loss][0]}
    if runs and processes.first():
        predict = {loss: load(directory).predict for loss, directory in runs.items()}
        report.draw(runs, predict, images, split(images, 0).test, out)


def result_of(
    settings: Settings,
    reading: Reading,
    images: Images,
    loss: str,
    seed: int,
    directory: Path,
    console: Console,
    *,
    resume: bool,
) -> dict[str, Any]:
    """Train, and judge on images that were not trained on; or read what was found there."""

    def train_and_judge(directory: Path) -> dict[str, Any]:
        parts = split(images, seed)
        predict = fit(settings, reading, images, parts.train, loss, seed, directory, console)
        return measure.judge(predict, images, parts.validation, parts.test)

    described = {"loss": loss, "seed": seed, **dataclasses.asdict(settings)}
    return study.result(directory, described, train_and_judge, resume=resume)


# --- a run that is there --------------------------------------------------------------------------


class Run(NamedTuple):
    settings: Settings
    loss: str
    seed: int
    predict: tiles.Predict


def load(directory: Path) -> Run:
    """A trained run.

    Raises:
      FileNotFoundError: if there is no run or no checkpoint.
      ValueError: if its training was stopped.
    """
    settings, rest = study.settings_of(directory, Settings)
    graph, state = initialize(dataclasses.replace(settings, init=None), rest["seed"])
    params = training.restore(state, directory, steps=settings.steps)["params"]
    return Run(settings, rest["loss"], rest["seed"], make_predict(graph, settings, params))
