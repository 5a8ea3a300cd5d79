"""The loss under examination: compiled once, then measured on as many batches as the probes like.

Almost everything that a probe wants to know is the value and the gradient of a batch of one fixed
shape. So one program, over `ROWS` batches at a time, serves them all, and a diagnosis costs little
more than its compilation.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose import _forms, _programs
from diffmetrics.diagnose._forms import Form, Loss
from diffmetrics.diagnose._programs import quiet
from diffmetrics.diagnose._report import Finding

ROWS = 64
POSITIVE = ("pos_weight", "positive_weight", "weight_pos", "weight_positive", "w_pos", "pos_w")
NEGATIVE = ("neg_weight", "negative_weight", "weight_neg", "weight_negative", "w_neg", "neg_w")
CLAIMS = {"alpha", "beta", "gamma", *POSITIVE, *NEGATIVE}  # in lower case
Program = Callable[[Any, Any], Any]


class Measured(NamedTuple):
    """Of every batch: its loss ``[R]``, and the gradient in its predictions ``[R, ...]``."""

    value: np.ndarray
    gradient: np.ndarray

    @property
    def finite(self) -> np.ndarray:
        """Whether value and gradient of each batch are finite ``[R]``."""
        slopes = np.isfinite(self.gradient).reshape(len(self.value), -1)
        return np.isfinite(self.value) & slopes.all(1)


class Subject:
    """A loss and the form in which it is called.

    Attributes:
      loss: the callable.
      form: how it is called.
      noticed: what was found out by looking for that form.
      parts: losses that it claims to combine.
      mode: "compiled"; "mapped" if it cannot be vmapped; "eager" if it cannot be compiled either;
        "values" if it has no gradient at all, which is then taken by differences.
      obstacle: the error on account of which it is not compiled.
    """

    def __init__(self, loss: Loss, form: Form, *noticed: Finding) -> None:
        self.loss, self.form, self.noticed = loss, form, noticed
        self.parts: Mapping[str, Loss] = {}
        with quiet():
            self.mode, self.program, self.obstacle = self._compile()

    def one(self, predictions: Any, labels: Any) -> Any:
        """The loss of one batch as a scalar."""
        return _programs.total(self.form.call(self.loss, predictions, labels))

    def measure(self, predictions: Any, labels: Any = None) -> Measured:
        """Loss and gradient of many batches; `labels` of one batch serve all."""
        z = np.asarray(predictions, np.float32)
        y = self.form.targets() if labels is None else np.asarray(labels)
        if y.ndim < z.ndim and y.shape == self.form.targets().shape:
            y = np.broadcast_to(y, (len(z), *y.shape))
        values, gradients = [], []
        for start in range(0, len(z), ROWS):
            some = (a[start : start + ROWS] for a in (z, y))
            value, gradient = self.program(*some)
            values.append(np.asarray(value, np.float64))
            gradients.append(np.asarray(gradient, np.float64))
        return Measured(np.concatenate(values), np.concatenate(gradients))

    @functools.cached_property
    def jaxpr(self) -> Any:
        """The traced loss, or None if it cannot be traced."""
        if self.mode in ("eager", "values"):
            return None
        with quiet():
            return jax.make_jaxpr(self.one)(self.form.predictions(), self.form.targets())

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of all that it computes on the way, none if it cannot be traced."""
        return list(_programs.shapes_within(self.jaxpr.jaxpr)) if self.jaxpr is not None else []

    @functools.cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of what the loss returns."""
        return _forms.shape_of(self.loss, self.form, self.form.predictions(), self.form.targets())

    @functools.cached_property
    def claims(self) -> dict[str, float]:
        """Hyper-parameters by name: what is written down where the loss can see it."""
        return {
            name.lower(): float(value)
            for name, value in _written_down(self.loss).items()
            if name.lower() in CLAIMS and _is_number(value)
        }

    def _compile(self) -> tuple[str, Program, Exception | None]:
        differentiate = jax.value_and_grad(self.one)
        ways = {
            "compiled": _in_full_rows(_programs.jitted(jax.vmap(differentiate))),
            "mapped": _one_by_one(_programs.jitted(differentiate)),
            "eager": _one_by_one(differentiate),
        }
        z, y = self.form.predictions()[None], self.form.targets()[None]
        try:
            return first_that_runs(ways, z, y)
        except _programs.CONCRETE as error:
            return "values", _by_differences(self.one), error


class Seen(NamedTuple):
    """Value of a batch, and its gradient in every array of the predictions."""

    value: float
    slopes: list[np.ndarray]

    @property
    def slope(self) -> np.ndarray:
        """The gradient as one vector."""
        return np.concatenate([slope.ravel() for slope in self.slopes])

    @property
    def finite(self) -> bool:
        """Whether value and gradient are."""
        return bool(np.isfinite(self.value) and np.isfinite(self.slope).all())


class OwnBatch(Subject):
    """A loss on a batch of the user's, which is one, and may be large: nothing is mapped."""

    @functools.cached_property
    def seen(self) -> Seen:
        """What the batch shows."""
        return self.look(self.form.predictions(), self.form.targets())

    def look(self, predictions: Any, labels: Any) -> Seen:
        """What another batch like it shows."""
        value, gradient = self.program(predictions, labels)
        return Seen(float(value), [np.asarray(g, np.float64) for g in jax.tree.leaves(gradient)])

    def _compile(self) -> tuple[str, Program, Exception | None]:
        differentiate = jax.value_and_grad(self.one)
        ways = {"compiled": jax.jit(differentiate), "eager": differentiate}
        return first_that_runs(ways, self.form.predictions(), self.form.targets())


def _written_down(loss: Any) -> dict[str, Any]:
    """What a loss may mean by a name, the nearest last.

    Constants of its module that it uses, of the function around it, defaults, what `partial` bound,
    and attributes of an object.
    """
    bound: dict[str, Any] = {}
    while isinstance(loss, functools.partial):
        bound, loss = {**loss.keywords, **bound}, loss.func
    function, outside = inspect.unwrap(loss), {}
    with contextlib.suppress(TypeError, ValueError):  # no function, or one that awaits a variable
        seen = inspect.getclosurevars(function)
        outside = {**seen.globals, **seen.nonlocals}
    attributes = {name: getattr(loss, name) for name in CLAIMS if hasattr(loss, name)}
    return {**outside, **defaults(loss), **bound, **attributes}


def defaults(loss: Any) -> dict[str, Any]:
    """Values of the arguments that may be left out."""
    some = _forms.parameters(loss).items()
    return {name: p.default for name, p in some if p.default is not p.empty}


def _is_number(value: Any) -> bool:
    """Whether it is one number, and no truth value."""
    if isinstance(value, int | float):
        return not isinstance(value, bool)
    return (
        isinstance(value, np.ndarray | np.generic | jax.Array)
        and value.ndim == 0
        and value.dtype.kind in "fiu"
    )


def first_that_runs(
    ways: Mapping[str, Program], z: Any, y: Any
) -> tuple[str, Program, Exception | None]:
    """Of some ways to differentiate the first that does not raise, and what the one before raised.

    Raises:
      Exception: what the last one raised, if all do.
    """
    obstacle = None
    for mode, program in ways.items():
        try:
            program(z, y)
        except Exception as error:  # whatever a user's function may raise
            obstacle = error
        else:
            return mode, program, obstacle
    raise obstacle or ValueError("no way")


def _in_full_rows(program: Program) -> Program:
    """Pads to `ROWS` batches, so that there is one compilation."""

    def run(z: np.ndarray, y: np.ndarray) -> Any:
        missing = ROWS - len(z)
        fill = (np.concatenate([a, np.repeat(a[-1:], missing, 0)]) for a in (z, y))
        return tuple(np.asarray(x)[: len(z)] for x in program(*fill))

    return run


def _one_by_one(program: Program) -> Program:
    def run(z: np.ndarray, y: np.ndarray) -> Any:
        each = [program(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(z, y, strict=True)]
        return tuple(np.stack([np.asarray(x) for x in part]) for part in zip(*each, strict=True))

    return run


def _by_differences(one: Callable[..., Any]) -> Program:
    """Value and gradient of each batch, one entry after the other."""
    step = 1e-4

    def run(z: np.ndarray, y: np.ndarray) -> Any:
        values, gradients = [], []
        for a, b in zip(z.astype(np.float64), y, strict=True):
            nudges = step * np.eye(a.size).reshape(-1, *a.shape)
            ends = np.array([[float(one(a + s * n, b)) for s in (1, -1)] for n in nudges])
            values.append(float(one(a, b)))
            gradients.append(((ends[:, 0] - ends[:, 1]) / (2 * step)).reshape(a.shape))
        return np.array(values), np.stack(gradients)

    return run
