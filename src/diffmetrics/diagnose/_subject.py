"""The loss under examination: compiled once, then measured on as many batches as the probes like.

Almost everything that a probe wants to know is the value and the gradient of a batch of one fixed
shape. So one program, over `ROWS` batches at a time, serves them all, and a diagnosis costs little
more than its compilation.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._forms import CONCRETE, Form, Loss, name_of, quiet, said, shape_of, total
from diffmetrics.diagnose._report import Finding, note

ROWS = 64


class Measured(NamedTuple):
    """Of every batch: its loss ``[R]``, and the gradient in its predictions ``[R, ...]``."""

    value: np.ndarray
    gradient: np.ndarray


class Subject:
    """A loss and the form in which it is called.

    Attributes:
      loss: the callable.
      form: how it is called.
      mode: "compiled"; "mapped" if it cannot be vmapped; "eager" if it cannot be compiled either;
        "values" if it has no gradient at all, which is then taken by differences.
      findings: what was found out by merely calling it.
    """

    def __init__(self, loss: Loss, form: Form) -> None:
        self.loss, self.form = loss, form
        self.findings: list[Finding] = []
        self.mode = "compiled"
        self._program = self._compile()

    @property
    def name(self) -> str:
        return name_of(self.loss)

    def one(self, predictions: Any, labels: Any) -> Any:
        """The loss of one batch as a scalar."""
        return total(self.form.call(self.loss, predictions, labels))

    def measure(self, predictions: Any, labels: Any = None) -> Measured:
        """Loss and gradient of many batches; `labels` of one batch serve all."""
        z = np.asarray(predictions, np.float32)
        y = self.form.targets() if labels is None else np.asarray(labels)
        if y.ndim < z.ndim and y.shape == self.form.targets().shape:
            y = np.broadcast_to(y, (len(z), *y.shape))
        values, gradients = [], []
        for start in range(0, len(z), ROWS):
            some = (a[start : start + ROWS] for a in (z, y))
            value, gradient = self._program(*some)
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

    @functools.cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of what the loss returns."""
        return shape_of(self.loss, self.form, self.form.predictions(), self.form.targets())

    @functools.cached_property
    def claims(self) -> dict[str, float]:
        """Hyper-parameters by name: defaults, what `partial` bound, attributes of an object."""
        found: dict[str, float] = {}
        names = ("alpha", "beta", "gamma", "pos_weight", "positive_weight")
        try:
            parameters = inspect.signature(self.loss).parameters
        except (TypeError, ValueError):
            parameters = {}
        for name in names:
            default = parameters[name].default if name in parameters else None
            value = getattr(self.loss, name, default)
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[name] = float(value)
        return found

    def _compile(self) -> Callable[..., Any]:
        z, y = self.form.predictions(), self.form.targets()
        differentiate = jax.value_and_grad(self.one)
        with quiet():
            mapped, error = _tried(_in_full_rows(jax.jit(jax.vmap(differentiate))), z, y)
            if error is None:
                return mapped
            looped, worse = _tried(_one_by_one(jax.jit(differentiate)), z, y)
            if worse is None:
                self.mode = "mapped"
                self.findings.append(
                    note(
                        "vmap",
                        "it cannot be vmapped",
                        said(error),
                        "per-example gradients and sweeps need a Python loop; look for callbacks "
                        "or indexing by a traced number",
                    )
                )
                return looped
            eager, worst = _tried(_one_by_one(differentiate), z, y)
            if worst is None:
                self.mode = "eager"
                self.findings.append(
                    Finding(
                        "jit",
                        "it cannot be compiled: it looks at values while being traced",
                        said(worse),
                        "check shapes only, replace `if` on values by jnp.where",
                    )
                )
                return eager
            if not isinstance(worst, CONCRETE):
                raise worst
            self.mode = "values"
            self.findings.append(
                Finding(
                    "jit",
                    "no gradient flows through it: it leaves JAX, and computes in NumPy or Python",
                    said(worst),
                    "write it in jax.numpy; the other probes here used finite differences",
                )
            )
            return _by_differences(self.one)


def _tried(
    program: Callable[..., Any], z: np.ndarray, y: np.ndarray
) -> tuple[Callable[..., Any], Exception | None]:
    try:
        program(z[None], y[None])
    except Exception as error:  # whatever a user's function may raise
        return program, error
    return program, None


def _in_full_rows(program: Callable[..., Any]) -> Callable[..., Any]:
    """Pads to `ROWS` batches, so that there is one compilation."""

    def run(z: np.ndarray, y: np.ndarray) -> Any:
        missing = ROWS - len(z)
        fill = (np.concatenate([a, np.repeat(a[-1:], missing, 0)]) for a in (z, y))
        return tuple(np.asarray(x)[: len(z)] for x in program(*fill))

    return run


def _one_by_one(program: Callable[..., Any]) -> Callable[..., Any]:
    def run(z: np.ndarray, y: np.ndarray) -> Any:
        each = [program(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(z, y, strict=True)]
        return tuple(np.stack([np.asarray(x) for x in part]) for part in zip(*each, strict=True))

    return run


def _by_differences(one: Callable[..., Any]) -> Callable[..., Any]:
    step = 1e-4

    def run(z: np.ndarray, y: np.ndarray) -> Any:
        values, gradients = [], []
        for a, b in zip(z.astype(np.float64), y, strict=True):
            values.append(float(one(a, b)))
            gradient = np.zeros(a.size)
            for i in range(a.size):
                nudge = np.zeros(a.size)
                nudge[i] = step
                nudge = nudge.reshape(a.shape)
                gradient[i] = (float(one(a + nudge, b)) - float(one(a - nudge, b))) / (2 * step)
            gradients.append(gradient.reshape(a.shape))
        return np.array(values), np.stack(gradients)

    return run
