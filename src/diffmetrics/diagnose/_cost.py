"""What a loss and its gradient cost: bytes, memory and kernels of the program that XLA makes.

On an accelerator a loss takes as long as its bytes take between memory and chip, and how many those
are is decided by the compiler. So the program is compiled, for the device that is here or for one
that is not, and read. Nothing runs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose import _counterparts, _forms, _programs, _targets
from diffmetrics.diagnose._forms import Form, Loss, name_of
from diffmetrics.diagnose._programs import quiet
from diffmetrics.diagnose._report import WIDTH

Call = Callable[[Any, Any], Any]

# What readers of JSON, who have no docstring, are told in place of a name.
READABLE = {"decided": "ours_same_at_hard_labels_only", "endless": "loops_of_unknown_length"}
# A loss that moves hardly more than it must, or than another, needs no other.
HARDLY_MORE = 1.05
# No device holds more; XLA ends the process where a size does not fit into 64 bits.
LARGEST = 2**44
# Arrays of so many numbers lie in memory, not in a cache nor on a TPU's chip.
MANY, OF_EACH = 2**24, 256


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a loss and its gradient: bytes, memory and kernels.

    `print` it: a sentence or two.

    Attributes:
      loss: its name.
      device: the name of the device that it was compiled for.
      bytes: number of bytes that move between memory and chip.
      least_bytes: one reading of predictions and labels, and one writing of the gradient. A loss
        that needs a sum over a whole set before it has a slope, like Dice, reads twice.
      temporary_bytes: memory beside predictions, labels and gradient, at its height.
      kernels: number of programs that are launched one after the other.
      compile_seconds: processor time of the compiler.
      endless: number of loops that were counted once, because nothing says how often they run.
      ours: the cost of the loss of this library that has the same value and gradient, up to a
        factor as between a sum and a mean, if there is one and it moves less.
      decided: whether the two are the same at labels of 0 and 1 only, not at soft ones.
      compared: what came of looking for such a loss, if none moves less.
      broadcast: to which shape predictions and labels of other shapes were broadcast, if they were.
    """

    loss: str
    device: str
    bytes: int
    least_bytes: int
    temporary_bytes: int
    kernels: int
    compile_seconds: float
    endless: int = 0
    ours: Cost | None = None
    decided: bool = False
    compared: str = ""
    broadcast: tuple[int, ...] | None = None

    @property
    def ratio(self) -> float:
        """The bytes, divided by the least."""
        return self.bytes / max(self.least_bytes, 1)

    @property
    def times(self) -> str:
        """The ratio as text, such as `2.00 x`."""
        digits = 2 if self.ratio < 10 else 1 if self.ratio < 100 else 0
        return f"{'at least ' if self.endless else ''}{self.ratio:,.{digits}f} x"

    @property
    def size(self) -> str:
        """Temporary memory and kernels as text."""
        arrays = f"{mebibytes(self.temporary_bytes)} of" if self.temporary_bytes else "no"
        number = f"{self.kernels:,} kernel{'' if self.kernels == 1 else 's'}"
        return f"{arrays} temporary arrays, {number}"

    @property
    def same(self) -> str:
        """What the loss of this library has in common with it, as text."""
        return f"the same value and gradient{' at labels of 0 and 1' if self.decided else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Everything, as a dictionary that JSON can hold."""
        ours = self.ours.to_dict() if self.ours else None
        written = {**dataclasses.asdict(self), "ratio": self.ratio, "ours": ours}
        return {READABLE.get(name, name): value for name, value in written.items()}

    def __str__(self) -> str:
        lines = [
            f"{self.loss} on {self.device}: moves {self.times} the least bytes, {self.size}, "
            f"compiled in {self.compile_seconds:.1f} s.",
            "The least: one reading of predictions and labels, one writing of the gradient, "
            f"{mebibytes(self.least_bytes)}.",
        ]
        if self.broadcast:
            lines.append(
                f"Predictions and labels were broadcast against each other, to {self.broadcast}: "
                "every prediction meets every label. Give both the same shape."
            )
        if self.ours:
            lines.append(f"{self.ours.loss}, of {self.same}: {self.ours.times}.")
        elif self.compared:
            lines.append(self.compared)
        return "\n".join(textwrap.fill(line, WIDTH) for line in lines)


def mebibytes(number: int) -> str:
    """So many bytes, for readers."""
    if number < 0.1 * 2**20:
        return f"{number / 2**10:,.1f} KiB"
    return f"{number / 2**20:,.{0 if number >= 100 * 2**20 else 1}f} MiB"


class Place(NamedTuple):
    """A device, and what it is called."""

    device: Any
    title: str


def place(target: str | None = None) -> Place:
    """The device on which JAX computes here, or a target.

    Raises:
      ValueError: if there is no such target, or its compiler is not installed.
    """
    if target is not None:
        target = target.lower()  # people write H100
        return Place(_targets.device(target), _targets.TARGETS[target].title)
    device = next(iter(jnp.zeros(()).devices()))  # several, in the context of a mesh
    return Place(device, title(device))


def title(device: Any) -> str:
    """What a device that is here is called."""
    return "CPU" if device.platform == "cpu" else device.device_kind


def check(name: str, tree: Any, *, differentiable: bool = False) -> None:
    """Whether the argument called `name` holds arrays whose program can be compiled.

    Raises:
      TypeError: if it holds none, or something else.
      ValueError: if it is empty, or larger than any memory.
    """
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: x is None)
    expected = "an array, a tree of arrays or of jax.ShapeDtypeStruct"
    if isinstance(tree, tuple) and tree and all(type(x) is int for x in leaves):
        struct = f"jax.ShapeDtypeStruct({tree}, 'float32')"
        raise TypeError(f"{name} must be {expected}, got {tree}: of a shape make a {struct}")
    others = [x for x in leaves if not (hasattr(x, "shape") and hasattr(x, "dtype"))]
    if others or not leaves:
        came = type(tree if isinstance(tree, list | tuple) or not others else others[0]).__name__
        raise TypeError(f"{name} must be {expected}, got {came}")
    for x in leaves:
        size = math.prod(x.shape)
        if not size:
            raise ValueError(f"{name} must not be empty, got an array of shape {x.shape}")
        if size * x.dtype.itemsize > LARGEST:
            raise ValueError(
                f"{name} of shape {x.shape} are {size * x.dtype.itemsize / 2**40:,.0f} TiB, "
                f"expected at most {LARGEST / 2**40:.0f}"
            )
        if differentiable and not jnp.issubdtype(x.dtype, jnp.inexact):
            raise TypeError(f"{name} must be floating-point numbers, got {x.dtype}")


def cost(loss: Loss, call: Call, predictions: Any, labels: Any, at: Place) -> Cost:
    """The cost of ``call(predictions, labels)``, which calls `loss`."""
    shapes = jax.eval_shape(lambda *batch: batch, predictions, labels)
    z, y = _targets.abstract(shapes, at.device)

    def of(name: str, function: Call) -> Cost:
        program = _targets.compiled(jax.value_and_grad(mean_of(function)), z, y)
        return read(name, at.title, program, z, y)

    with quiet():
        found = of(name_of(loss), call)
        return dataclasses.replace(
            _compared(found, loss, call, z, y, of), broadcast=_met(call, z, y)
        )


def _compared(
    found: Cost, loss: Loss, call: Call, z: Any, y: Any, of: Callable[[str, Call], Cost]
) -> Cost:
    """The cost, beside that of a loss of ours that is the same, or why there is none."""

    def less(why: str) -> Cost:
        return dataclasses.replace(found, compared=why)

    if found.ratio <= HARDLY_MORE:
        return less("No loss of the same arrays moves less.")
    if _counterparts.is_ours(loss):
        return less("It is of this library, which has no other that is the same.")
    same = _counterparts.equal(loss, mean_of(call), z, y)
    if same is None:
        return less("No loss of this library was found that has the same value and gradient.")
    ours = of(same.name, same.call)
    beside = dataclasses.replace(found, ours=ours, decided=same.decided)
    if HARDLY_MORE * ours.bytes < found.bytes:
        return beside
    return less(f"{same.name}, of {beside.same}, moves no less: {ours.times}.")


def _met(call: Call, predictions: Any, labels: Any) -> tuple[int, ...] | None:
    """The shape in which every prediction meets every label, as (B,) against (B, 1) do."""
    if len(jax.tree.leaves((predictions, labels))) != 2:
        return None
    try:
        both = np.broadcast_shapes(predictions.shape, labels.shape)
    except ValueError:
        return None
    if math.prod(both) <= max(math.prod(x.shape) for x in (predictions, labels)):
        return None
    traced = jax.make_jaxpr(call)(predictions, labels)
    return both if both in _programs.shapes_within(traced.jaxpr) else None


def mean_of(call: Call) -> Call:
    """The mean of what a loss returns."""
    return lambda z, y: _programs.total(call(z, y))


def read(name: str, at: str, program: _targets.Program, predictions: Any, labels: Any) -> Cost:
    """The cost of a program that was compiled for value and gradient."""
    gradient = _bytes(predictions)
    return Cost(
        loss=name,
        device=at,
        bytes=program.bytes,
        least_bytes=gradient + _bytes(labels) + gradient,
        temporary_bytes=program.temp_bytes,
        kernels=program.kernels,
        compile_seconds=program.compile_s,
        endless=program.endless,
    )


def _bytes(tree: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


# --- arrays that are made up ----------------------------------------------------------------------


def made_up(loss: Loss, form: Form, shape: tuple[int, ...] | None) -> tuple[Call, Any, Any]:
    """How a loss of this form is called with arrays of a `shape`, and these, without numbers."""
    shape = shape or usual_shape(form)
    call = functools.partial(dataclasses.replace(form, step=None).call, loss)
    array = functools.partial(jax.ShapeDtypeStruct, dtype=np.float32)
    if form.raw_scale:
        return call, array((*shape, 2)), array(shape)
    stacked = form.kind in _forms.STACKED
    z = (array(shape),) * form.shape[0] if stacked else array(shape)
    return call, z, _labels(form, shape)


def usual_shape(form: Form) -> tuple[int, ...]:
    """A shape of predictions such as people have, whose arrays fit on no chip."""
    if form.kind == "embedding":
        return (MANY // 4096, OF_EACH)  # all pairs of which are as many
    if form.kind in ("mean_scale", "regression"):
        return (MANY,)
    if form.kind in (*_forms.COMPARING, "multiclass", "multilabel"):
        return (MANY // OF_EACH, OF_EACH)
    images = {1: (MANY,), 3: (64, 512, 512), 4: (64, 512, 512, 1), 5: (8, 128, 128, 128, 1)}
    return images.get(len(form.shape), (MANY // OF_EACH, OF_EACH))


def _labels(form: Form, shape: tuple[int, ...]) -> Any:
    if form.labels == "ids":
        return jax.ShapeDtypeStruct(shape[:-1], np.int32)
    whole = form.classifies or form.labels == "real"
    return jax.ShapeDtypeStruct(shape if whole else shape[:1], np.float32)
