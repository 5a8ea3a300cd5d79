"""Expected F-beta: the F1 to expect from calibrated probabilities, and the best set to predict."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, numbers, set_doors
from diffmetrics._core.calls import Axis

# With r = beta² / (1 + beta²), k elements chosen and m that are positive, F-beta is
# TP / ((1 - r) k + r m). One over the denominator is an integral of exponentials,
# ∫ exp(-s (1 - r) k) exp(-s r m) ds, and the expectation of exp(-s r m), unlike that of 1 / m, is a
# product over independent elements. So the sum over 2ⁿ outcomes is one integral of a positive
# product, which a fixed rule of some 50 nodes computes to the last digit of a float32.


@calls.compiled("axis")
def expected_fbeta(
    probabilities: ArrayLike,
    chosen: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    axis: Axis = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Expected F1 or F-beta of a decision, from calibrated probabilities, without labels.

    Use it to judge a decision without labels, or as a differentiable objective of the
    probabilities. Labels are taken to be independent. F-beta of soft counts is a ratio of
    expectations, this the expectation of the ratio; they differ if positives are few.

    .. math:: \mathbb{E}_{y_i \sim \mathrm{Bernoulli}(p_i)}\, F_\beta(\mathrm{chosen}, y)

    It is exact to rounding (1e-9 in float64) and takes linear time; dynamic programming takes
    quadratic time. There are no weights: an element of weight 2 would not be two elements, whose
    labels may differ.

    Args:
      probabilities: of being positive, in [0, 1], ``[...]``; meaningless unless calibrated.
      chosen: what is predicted positive, boolean, of the shape of `probabilities`.
      beta: how many times recall matters more than precision; broadcasts to the result.
      axis: axes that form one set; ``axis=-1`` of ``[n, L]`` scores each instance's labels.
      where: boolean, broadcasts to `probabilities`.

    Returns:
      Expected score in [0, 1], of the shape of `probabilities` without `axis`. It is 0 if nothing
      is chosen, even if nothing is positive. Where that case scores 1, as in some multi-label work,
      the empty set is worth ``jnp.prod(1 - probabilities)``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p = jnp.array([0.5, 0.5])
      >>> print(dm.expected_fbeta(p, jnp.array([True, True])))  # (1 + 2/3 + 2/3 + 0) / 4
      0.58333

    References:
      Jansche, A maximum expected utility framework for binary sequence labeling, ACL 2007; Ye et
      al., Optimizing F-measures: a tale of two approaches, ICML 2012, arXiv:1206.4625 (dynamic
      programming for the same number).
    """
    p = _probabilities(probabilities, where)
    among = jnp.asarray(chosen)
    if among.dtype != jnp.bool_:
        raise TypeError(f"chosen must be boolean, got {among.dtype}: what is predicted positive.")
    doors.require_shape("chosen", among, p.shape, "probabilities")
    if where is not None:
        among &= jnp.broadcast_to(jnp.asarray(where), p.shape)
    axes = doors.normalize_axis(axis, p.ndim)
    p, among = (set_doors.sets_last(x, axes) for x in (p, among))
    number = jnp.sum(among, -1, dtype=p.dtype, keepdims=True)

    def found(hits: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(among, hits, 0.0), -1, keepdims=True)

    return _expectation(p, _miss_share(beta, p), number, found)[..., 0]


@calls.compiled("axis")
def maximize_expected_fbeta(
    probabilities: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    axis: Axis = None,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""The set of elements with the largest expected F1 or F-beta, and that expectation.

    Use it to decide from calibrated probabilities, without labels, if F-beta is judged per *set*:
    each instance's labels, each document's words, each image's pixels. It tries every size k,
    because the best set is always the k largest probabilities for some k. In a large set that is a
    threshold of F / (1 + beta²); in a small one the threshold depends on the other elements. If the
    probabilities say nothing, it predicts everything, as F-beta rewards.

    Args:
      probabilities: of being positive, in [0, 1], ``[...]``; of independent labels.
      beta: how many times recall matters more than precision; broadcasts to the value.
      axis: axes that form one set; ``axis=-1`` of ``[n, L]`` decides each instance.
      where: boolean, broadcasts to `probabilities`.

    Returns:
      The set, boolean, of the shape of `probabilities`, and its expected score, without `axis`.
      Ties go to the smallest set; it is empty, with score 0, only if all probabilities are 0.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> chosen, value = dm.maximize_expected_fbeta(jnp.array([0.4, 0.05, 0.3]))
      >>> print(chosen, value)
      [ True False  True] 0.422

    References:
      Lewis, Evaluating and optimizing autonomous text classification systems, SIGIR 1995; Ye et
      al., Optimizing F-measures: a tale of two approaches, ICML 2012, arXiv:1206.4625.
    """
    p = _probabilities(probabilities, where)
    axes = doors.normalize_axis(axis, p.ndim)
    sets = set_doors.sets_last(p, axes)
    falling = -jnp.sort(-sets, -1)
    rank = jnp.broadcast_to(
        jnp.arange(sets.shape[-1] + 1, dtype=p.dtype), (*sets.shape[:-1], sets.shape[-1] + 1)
    )
    values = _expectation(
        falling, _miss_share(beta, sets), rank, lambda hits: _after_zero(jnp.cumsum(hits, -1))
    )
    number = jnp.argmax(values, -1)[..., None]
    order = jnp.argsort(-sets, -1, stable=True)
    chosen = jnp.put_along_axis(
        jnp.zeros_like(sets, bool),
        order,
        rank[..., :-1] < number.astype(rank.dtype),
        axis=-1,
        inplace=False,
    )
    value = jnp.take_along_axis(values, number, -1)[..., 0]
    return set_doors.sets_back(chosen, p.shape, axes), value


def _probabilities(probabilities: ArrayLike, where: ArrayLike | None) -> jax.Array:
    """Checked probabilities, 0 for what is left out: it is never positive."""
    p = jnp.asarray(probabilities)
    doors.require_float("probabilities", p, "They are numbers in [0, 1].")
    mask = doors.select(where, p.shape, "probabilities")
    p = numbers.as_float(p)
    return p if mask is None else jnp.where(jnp.broadcast_to(mask, p.shape), p, 0.0)


def _miss_share(beta: ArrayLike, sets: jax.Array) -> jax.Array:
    """Weight of a miss relative to a false alarm, beta² / (1 + beta²), for sets ``[..., n]``."""
    squared = doors.parameter("beta", beta, sets, "the sets", sets.shape[:-1]) ** 2
    share = squared / (1.0 + squared)
    return jnp.broadcast_to(share, sets.shape[:-1])[..., None]


def _expectation(
    p: jax.Array,
    share: jax.Array,
    number: jax.Array,
    found: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Expected F-beta if `number` elements are chosen, over which `found` sums."""

    @jax.checkpoint  # else the gradient keeps every node's arrays
    def add(total: jax.Array, node: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        s, weight = node
        # E[exp(-s r m)] over independent elements, and each one's part in it if it is positive.
        lost = p * jnp.expm1(-s * share)
        lost = jnp.maximum(lost, jnp.finfo(p.dtype).epsneg - 1.0)  # a factor of 0 has no logarithm
        log_product = jnp.sum(jnp.log1p(lost), -1, keepdims=True)
        hits = p * jnp.exp(-s * share) / (1.0 + lost)
        return total + weight * jnp.exp(log_product - s * (1.0 - share) * number) * found(
            hits
        ), None

    # Made from the data, so that a loop's carry keeps its type in shard_map, too.
    start = jnp.zeros_like(number + share + jnp.sum(p, -1, keepdims=True))
    nodes = tuple(jnp.asarray(x, p.dtype) for x in _rule(p.shape[-1]))
    return jax.lax.scan(add, start, nodes)[0]


def _rule(largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes s and weights with Σ weight · exp(-a s) = 1 / a for a in [1, largest], to 5e-10.

    The trapezoidal rule in log(s), which converges exponentially. What lies below the least node,
    where exp(-a s) is 1, is a geometric series: the weight of a node at 0.
    """
    step, below, above = 0.4, 11.0, 3.2
    logs = np.arange(-np.log(max(largest, 1)) - below, above + step, step)
    weights = step * np.exp(logs)
    rest = weights[0] / np.expm1(step)
    return np.append(np.exp(logs), 0.0), np.append(weights, rest)


def _after_zero(x: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.zeros_like(x, shape=(*x.shape[:-1], 1)), x], -1)
