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

from diffmetrics.diagnose import _counterparts, _forms, _targets
from diffmetrics.diagnose._forms import Form, Loss, name_of, quiet
from diffmetrics.diagnose._report import WIDTH

Call = Callable[[Any, Any], Any]

# A loss that moves hardly more than it must, or than another, needs no other.
HARDLY_MORE = 1.05
# Arrays of so many numbers lie in memory, not in a cache nor on a TPU's chip.
MANY, OF_EACH = 2**24, 256


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a loss and its gradient in the predictions cost. `print` it: a sentence or two.

    Attributes:
      loss: its name.
      device: the name of the device that it was compiled for.
      bytes: what moves between memory and chip.
      least_bytes: one reading of predictions and labels, and one writing of the gradient. A loss
        that needs a sum over a whole set before it has a slope, like Dice, reads twice.
      temporary_bytes: memory beside predictions, labels and gradient, at its height.
      kernels: programs that are launched one after the other.
      compile_seconds: processor time of the compiler.
      endless: loops that were counted once, because nothing says how often they run.
      ours: the cost of the loss of this library that has the same value and gradient, up to a
        factor as between a sum and a mean, if there is one and it moves less.
      decided: whether the two are the same at labels of 0 and 1 only, not at soft ones.
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

    @property
    def ratio(self) -> float:
        """The bytes over the least."""
        return self.bytes / max(self.least_bytes, 1)

    @property
    def times(self) -> str:
        """The ratio, for readers."""
        digits = 2 if self.ratio < 10 else 1 if self.ratio < 100 else 0
        return f"{'at least ' if self.endless else ''}{self.ratio:,.{digits}f} x"

    @property
    def size(self) -> str:
        """Temporary memory and kernels, for readers."""
        arrays = mebibytes(self.temporary_bytes)
        number = f"{self.kernels:,} kernel{'' if self.kernels == 1 else 's'}"
        return f"{'no' if arrays == '0.0 MiB' else f'{arrays} of'} temporary arrays, {number}"

    @property
    def same(self) -> str:
        """What ours has in common with it, for readers."""
        return f"the same value and gradient{' at labels of 0 and 1' if self.decided else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Everything, as what JSON can hold."""
        ours = self.ours.to_dict() if self.ours else None
        return {**dataclasses.asdict(self), "ratio": self.ratio, "ours": ours}

    def __str__(self) -> str:
        lines = [
            f"{self.loss} on {self.device}: moves {self.times} the least bytes, {self.size}, "
            f"compiled in {self.compile_seconds:.1f} s.",
            "The least: one reading of predictions and labels, one writing of the gradient, "
            f"{mebibytes(self.least_bytes)}.",
        ]
        if self.ours:
            lines.append(f"{self.ours.loss}, of {self.same}: {self.ours.times}.")
        return "\n".join(textwrap.fill(line, WIDTH) for line in lines)


def mebibytes(number: int) -> str:
    """So many bytes, for readers."""
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
        return Place(_targets.device(target), _targets.TARGETS[target].title)
    device = next(iter(jnp.zeros(()).devices()))  # several, in the context of a mesh
    return Place(device, title(device))


def title(device: Any) -> str:
    """What a device that is here is called."""
    return "CPU" if device.platform == "cpu" else device.device_kind


def cost(loss: Loss, call: Call, predictions: Any, labels: Any, at: Place) -> Cost:
    """The cost of ``call(predictions, labels)``, which calls `loss`."""
    shapes = jax.eval_shape(lambda *batch: batch, predictions, labels)
    z, y = _targets.abstract(shapes, at.device)

    def of(name: str, function: Call) -> Cost:
        program = _targets.compiled(jax.value_and_grad(mean_of(function)), z, y)
        return read(name, at.title, program, z, y)

    with quiet():
        found = of(name_of(loss), call)
        if found.ratio <= HARDLY_MORE:
            return found
        same = _counterparts.equal(loss, mean_of(call), z, y)
        if same is None:
            return found
        ours = of(same.name, same.call)
        less = HARDLY_MORE * ours.bytes < found.bytes
        return dataclasses.replace(found, ours=ours, decided=same.decided) if less else found


def mean_of(call: Call) -> Call:
    """The mean of what a loss returns."""
    return lambda z, y: _forms.total(call(z, y))


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
