r"""Several losses: their weighted sum, and adaptive weights for multi-task learning.

A loss returns the sum to train on, and the parts to log::

    def loss(parameters, x, y, alpha):
        output = model(parameters, x)
        losses = {"mse": optax.squared_error(output, y).mean(),
                  "huber": optax.huber_loss(output, y).mean()}
        return dm.combine(losses, {"mse": 1.0, "huber": alpha})

    (total, parts), gradient = jax.value_and_grad(loss, has_aux=True)(parameters, x, y, alpha)

Losses and weights have the same names, so none is left out by mistake. Parts are unweighted.

**Adaptive weights** are functions ``(state, parts) -> (weights, state)`` for losses of different
units or difficulty. They have no memory and no gradient: keep the state, one number per name,
beside the optimiser's, and start it with ``dict.fromkeys(names, 0.0)``. Two losses of the *same*
error, such as its square and Huber's, are one robust loss with a parameter, which you must choose:
adaptive weights would only change the step size.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, numbers

Parts = dict[str, jax.Array]
Loss = ArrayLike | Callable[[], ArrayLike]
T = TypeVar("T")


def combine(
    losses: Mapping[str, Loss], weights: Mapping[str, ArrayLike]
) -> tuple[jax.Array, Parts]:
    r"""Weighted sum of several losses, and each of them for the log.

    Use it to train one output, or several, on several losses. Weights are traced: a schedule does
    not compile again, and a sweep is one `jax.vmap`. Every loss gets its gradient times its weight.
    A name without a weight or without a loss raises. (Keras silently trains on the first loss of a
    list.)

    **The number 0 as weight** drops a term, where 0 times an infinite loss would be NaN, and does
    not compute a loss given as a function. A *traced* 0 only multiplies.

    .. math:: \sum_k w_k L_k

    Args:
      losses: by name, each a loss or a function without arguments that computes it. All have one
        shape: scalars, or one value per example ``[...]``.
      weights: a number, or an array that broadcasts to the losses, for each of the same names.

    Returns:
      The sum ``[...]``, and the losses by name, *unweighted*, without dropped functions.

    Raises:
      TypeError: if losses or weights are not given by name.
      ValueError: if the names differ, or a loss has another shape than the first.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> error = jnp.array([0.5, 3.0])
      >>> losses = {"mse": (error**2).mean(), "mae": jnp.abs(error).mean()}
      >>> total, parts = dm.combine(losses, {"mse": 1.0, "mae": 2.0})
      >>> print(total, parts["mse"], parts["mae"])
      8.125 4.625 1.75
      >>> def at(alpha): return dm.combine(losses, {"mse": 1.0, "mae": alpha})[0]
      >>> print(jax.vmap(at)(jnp.array([0.0, 1.0, 2.0])))
      [4.625 6.375 8.125]
      >>> dm.combine(losses, {"mse": 1.0})
      Traceback (most recent call last):
      ...
      ValueError: weights must have the names of losses: 'mae' has no weight.
    """
    _require_names("weights", weights, losses, "weight")
    if not losses:
        raise ValueError("losses must not be empty.")
    computed = {
        name: numbers.as_float(loss() if callable(loss) else loss)
        for name, loss in losses.items()
        if not (callable(loss) and _is_zero(weights[name]))
    }
    first = next(iter(computed), "")
    for name, part in computed.items():
        doors.require_shape(name, part, computed[first].shape, first)
    terms = [
        _weighted(name, part, weights[name])
        for name, part in computed.items()
        if not _is_zero(weights[name])
    ]
    if not terms:
        return jnp.zeros_like(computed[first]) if computed else jnp.zeros(()), computed
    return functools.reduce(operator.add, numbers.floats(*terms)), computed


def _weighted(name: str, part: jax.Array, weight: ArrayLike) -> jax.Array:
    w, part = numbers.floats(weight, part)
    doors.require_broadcast(f"the weight of {name}", w, part.shape, name)
    return jnp.broadcast_to(w, part.shape) * part


def _is_zero(weight: ArrayLike) -> bool:
    """Whether it is 0 while the program is traced, not only when it runs."""
    return isinstance(weight, int | float | np.number) and weight == 0


def _require_names(
    name: str, found: Mapping[str, object], losses: Mapping[str, object], what: str
) -> None:
    for what_is, given in (("losses", losses), (name, found)):
        if not isinstance(given, Mapping):
            raise TypeError(
                f"{what_is} must be given by name, a mapping such as {{'mse': ..., 'mae': ...}}, "
                f"got {type(given).__name__}: in a list one could be left out without a word."
            )
    missing = [f"{n!r} has no {what}" for n in losses if n not in found]
    unknown = [f"{n!r} is no loss" for n in found if n not in losses]
    if missing or unknown:
        raise ValueError(f"{name} must have the names of losses: {', '.join(missing + unknown)}.")


@calls.compiled()
def uncertainty_weights(
    state: Mapping[str, ArrayLike],
    parts: Mapping[str, ArrayLike],
    *,
    rate: ArrayLike = 0.01,
    bound: ArrayLike = 10.0,
) -> tuple[Parts, Parts]:
    r"""Uncertainty weighting of losses (homoscedastic uncertainty): large losses weigh less.

    Use it for positive losses of different units: in the end each contributes about ½. For given
    losses the best log-variance s has a closed form, the logarithm of the loss; the state moves
    there by `rate`.

    A negative loss, such as a negative log-likelihood can be, has no best s: the objective falls
    without end. Such a loss says nothing of its noise, and its s stays where it is. It needs no
    weight either, if it is a likelihood: combine it with the others' likelihoods at weight 1.

    .. math:: \min_s \sum_k \tfrac12 e^{-s_k} L_k + \tfrac12 s_k
              \;\Rightarrow\; s_k \to \log L_k, \quad w_k = \tfrac12 e^{-s_k}

    To train s with the network instead, add ``0.5 * sum(s.values())`` to the combined loss. Small
    losses then make it negative, which is right.

    Args:
      state: s of each loss by name, scalars; 0 at first, or the logarithm of its first value.
      parts: each loss by name, a scalar > 0. A loss of 0 counts as nearly 0.
      rate: share of the way that s moves, in (0, 1].
      bound: s stays within ± `bound`, so that a loss of 0 does not take over.

    Returns:
      Weights, for `combine`, and the new state, both without gradient. A loss that is NaN makes
      both NaN.

    Raises:
      TypeError: if the losses or the state are not given by name.
      ValueError: if the names differ, or a loss is no scalar.

    Example:
      >>> import diffmetrics as dm
      >>> state, parts = {"metres": 0.0, "grams": 0.0}, {"metres": 0.1, "grams": 50.0}
      >>> for _ in range(300):
      ...     weights, state = dm.uncertainty_weights(state, parts, rate=0.1)
      >>> print(weights["metres"].round(2), weights["grams"].round(2))
      5.0 0.01

    References:
      Kendall, Gal and Cipolla, Multi-task learning using uncertainty to weigh losses for scene
      geometry and semantics, CVPR 2018, arXiv:1705.07115.
    """
    losses, s = _scalars(parts, state)

    def moved(s: jax.Array, loss: jax.Array) -> jax.Array:
        share, top = (jnp.asarray(x).astype(s.dtype) for x in (rate, bound))
        to = jnp.clip(s + share * (numbers.log(loss) - s), -top, top)
        return jnp.where(loss < 0.0, s, to)

    s = {name: moved(s[name], loss) for name, loss in losses.items()}
    return {name: 0.5 * jnp.exp(-x) for name, x in s.items()}, s


@calls.compiled()
def dynamic_average_weights(
    state: Mapping[str, ArrayLike], parts: Mapping[str, ArrayLike], *, temperature: ArrayLike = 2.0
) -> tuple[Parts, Parts]:
    r"""Dynamic weight average (DWA): losses that have stopped falling weigh more.

    Use it once an epoch, with the epoch's mean losses; from step to step the ratio is noise. The
    weights add up to the number K of losses and do not depend on the units.

    .. math:: w_k = K \,\mathrm{softmax}_k \Big( \frac{1}{T}
              \frac{L_k^{(t)}}{L_k^{(t-1)}} \Big)

    Args:
      state: each loss one epoch ago, by name; 0 if there is none.
      parts: each loss by name, a scalar > 0.
      temperature: T > 0; large for equal weights.

    Returns:
      Weights for the next epoch, for `combine`, and the new state, both without gradient. A loss
      that is NaN makes all weights NaN.

    Raises:
      TypeError: if the losses or the state are not given by name.
      ValueError: if the names differ, or a loss is no scalar.

    Example:
      >>> import diffmetrics as dm
      >>> state = {"a": 0.0, "b": 0.0}
      >>> for parts in ({"a": 8.0, "b": 1.0}, {"a": 2.0, "b": 1.0}):   # a falls, b does not
      ...     weights, state = dm.dynamic_average_weights(state, parts)
      ...     print(weights["a"].round(2), weights["b"].round(2))
      1.0 1.0
      0.81 1.19

    References:
      Liu et al., End-to-end multi-task learning with attention, CVPR 2019, arXiv:1803.10704.
    """
    losses, before = _scalars(parts, state)
    ratios = jnp.stack([_fall(x, before[name]) for name, x in losses.items()])
    temperature = jnp.asarray(temperature).astype(ratios.dtype)
    weights = len(losses) * jax.nn.softmax(numbers.held(ratios / temperature))
    return dict(zip(losses, weights, strict=True)), losses


def _fall(loss: jax.Array, before: jax.Array) -> jax.Array:
    """What is left of a loss, 1 if it is the first; NaN of NaN, which is neither."""
    first = jnp.where(jnp.isnan(loss), loss, 1.0)
    return jnp.where(before <= 0.0, first, numbers.divide(loss, before))


def gradient_norm_weights(
    state: Mapping[str, ArrayLike],
    losses: Mapping[str, Callable[[T], jax.Array]],
    output: T,
    *,
    decay: ArrayLike = 0.9,
) -> tuple[Parts, Parts]:
    r"""Gradient norm weights, as in GradNorm: all losses of one output get equally long gradients.

    Use it if the losses' gradients differ by orders of magnitude. Lengths at the *output* o are
    cheap: the network's backward pass runs once, for the combined loss, not once per loss, as
    lengths over all parameters would need. All get the mean length; a bar is a running mean.

    .. math:: G_k = \Big\lVert \frac{\partial L_k}{\partial o} \Big\rVert, \quad
              w_k = \frac{\tfrac1K \sum_j \bar G_j}{\bar G_k}

    Args:
      state: running mean of each length, by name, scalars; 0 at first.
      losses: functions of the output that return a scalar, by name.
      output: what the network returned, an array or a pytree of floating ones.
      decay: share of the running mean that is kept, in [0, 1).

    Returns:
      Weights, for `combine`, and the new state, both without gradient. A loss that never had a
      gradient has weight 1. A gradient that is NaN makes all weights NaN.

    Raises:
      TypeError: if the losses or the state are not given by name.
      ValueError: if the names differ, or a loss is no scalar.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> x, y = jnp.arange(4.0), jnp.array([0.0, 2.0, 4.0, 9.0])
      >>> losses = {"mse": lambda o: ((o - y) ** 2).mean(),
      ...           "scaled": lambda o: 1000 * jnp.abs(o - y).mean()}
      >>> def loss(slope, state):
      ...     output = slope * x                                   # the network
      ...     weights, state = dm.gradient_norm_weights(state, losses, output)
      ...     parts = {name: f(output) for name, f in losses.items()}
      ...     total, parts = dm.combine(parts, weights)
      ...     return total, (parts, weights, state)
      >>> step = jax.value_and_grad(loss, has_aux=True)
      >>> (_, (_, weights, state)), gradient = step(1.0, {"mse": 0.0, "scaled": 0.0})
      >>> print(weights["mse"] > 100 * weights["scaled"])
      True

    References:
      Chen et al., GradNorm: gradient normalization for adaptive loss balancing in deep multitask
      networks, ICML 2018, arXiv:1711.02257 (which trains the weights, with a rate for each task).
    """
    _require_names("state", state, losses, "entry")
    held_output = jax.lax.stop_gradient(output)
    lengths = {name: _length(jax.grad(_scalar(name, f))(held_output)) for name, f in losses.items()}
    after = {name: _averaged(state[name], x, decay) for name, x in lengths.items()}
    mean = sum(x / len(after) for x in after.values())
    # Of what is not above 0, because NaN is not either, and must not have weight 1.
    weights = {n: jnp.where(x <= 0.0, 1.0, numbers.divide(mean, x)) for n, x in after.items()}
    return weights, after


def _averaged(before: ArrayLike, now: jax.Array, decay: ArrayLike) -> jax.Array:
    """The running mean of a length, which begins with the first that is not 0."""
    share = jnp.asarray(decay).astype(now.dtype)
    before = jax.lax.stop_gradient(jnp.asarray(before)).astype(now.dtype)
    return jnp.where(before <= 0.0, now, share * before + (1.0 - share) * now)


def _scalar(name: str, loss: Callable[[T], jax.Array]) -> Callable[[T], jax.Array]:
    def checked(output: T) -> jax.Array:
        value = jnp.asarray(loss(output))
        doors.require_shape(name, value, (), "a scalar")
        return value

    return checked


def _length(gradient: object) -> jax.Array:
    flat = [x.ravel() for x in numbers.floats(*jax.tree.leaves(gradient))]
    joined = jnp.concatenate(flat)
    return jax.lax.stop_gradient(numbers.root_mean_square(joined, jnp.mean) * joined.size**0.5)


def _scalars(parts: Mapping[str, ArrayLike], state: Mapping[str, ArrayLike]) -> tuple[Parts, Parts]:
    """Both without gradient, in the order of `parts`, in one type."""
    _require_names("state", state, parts, "entry")
    for name, x in parts.items():
        doors.require_shape(name, jnp.asarray(x), (), "a scalar")
    both = numbers.floats(*parts.values(), *(state[name] for name in parts))
    losses, before = (
        map(jax.lax.stop_gradient, x) for x in (both[: len(parts)], both[len(parts) :])
    )
    return dict(zip(parts, losses, strict=True)), dict(zip(parts, before, strict=True))
