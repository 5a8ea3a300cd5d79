"""Assertions for tests of your own losses, in the style of chex. Ours pass them all.

Each takes a loss ``f(logits, labels, **options)`` of any reduction and a batch on which to try it.
It raises `AssertionError` that says which property failed, and where. The tests of this library
run them over every public loss. What the properties mean is in docs/arguments.md.

Example:
  >>> import diffmetrics as dm, jax.numpy as jnp
  >>> z, y = jnp.array([0.3, -2.0, 1.0, 0.5]), jnp.array([1, 0, 0, 1])
  >>> dm.testing.assert_gradient_finite(dm.dice_loss, z, y)
  >>> dm.testing.assert_shapes_checked(dm.dice_loss, z, y)
  >>> naive = lambda logits, labels: ((logits - labels) ** 2).mean()
  >>> dm.testing.assert_shapes_checked(naive, z, y)
  Traceback (most recent call last):
  ...
  AssertionError: loss accepted logits (4,) with labels (4, 1) ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics import diagnose

Loss = Callable[..., jax.Array]

# From no evidence to the largest finite float32, on which a naive softplus or log overflows.
SCALES = (0.0, 1.0, 1e4, float(np.finfo(np.float32).max))


def _total(loss: Loss, labels: Any, options: dict[str, Any]) -> Callable[[Any], jax.Array]:
    """The loss as a scalar function of the logits, whatever it reduces."""
    return lambda logits: jnp.sum(loss(logits, labels, **options))


def _both(
    loss: Loss, options: dict[str, Any]
) -> Callable[[jax.Array, Any], tuple[jax.Array, jax.Array]]:
    """Value and gradient of the sum, of logits and labels, in one program."""

    @jax.jit
    def both(logits: jax.Array, labels: Any) -> tuple[jax.Array, jax.Array]:
        value, pull = jax.vjp(lambda z: loss(z, labels, **options), logits)
        return value, pull(jnp.ones_like(value))[0]

    return both


def assert_gradient_finite(
    loss: Loss,
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    scales: Sequence[float] = SCALES,
    **options: Any,
) -> None:
    """Assert that value and gradient are finite, up to the largest float32 logits.

    It multiplies the logits by each of `scales`, and tries the labels as they are, all zero and all
    one (for class ids: all of class 0).

    Args:
      loss: the loss under test.
      logits: shape ``[...]``; also the direction in which the extremes are tried.
      labels: labels of these logits.
      scales: factors; at the largest, ±float32 max, the logits' signs alone are kept.
      **options: passed to the loss.

    Raises:
      AssertionError: naming scale, labels and the number of non-finite entries.
    """
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    same = y.shape == z.shape
    all_labels = {"given": y, "all zero": jnp.zeros_like(y)}
    if same:
        all_labels["all one"] = jnp.ones_like(y)
    both = _both(loss, options)
    for scale in scales:
        scaled = scale * (jnp.sign(z) if scale > 1e30 else z)
        for name, some in all_labels.items():
            # Of every element, because a sum of finite losses may overflow.
            value, gradient = both(scaled, some)
            worst, bad = (int(jnp.sum(~jnp.isfinite(x))) for x in (value, gradient))
            if worst or bad:
                raise AssertionError(
                    f"loss is not finite for logits scaled by {scale:g} with labels {name}: "
                    f"{worst} of {value.size} values and {bad} of {gradient.size} gradient entries "
                    "are not finite"
                )


def assert_gradient_matches_numerical(
    loss: Loss,
    logits: Any,
    labels: Any,
    *,
    step: float = 1e-6,
    tolerance: float = 1e-6,
    **options: Any,
) -> None:
    """Assert that the first two derivatives agree with central differences in float64.

    It goes along one random direction: the slope by forward mode must be the change of the value,
    the gradient by reverse mode must give the same slope, and the product of Hessian and direction
    must be the change of the gradient. All come out of one compiled program.

    Args:
      loss: the loss under test; it must compute in float64 for float64 logits.
      logits: where to differentiate, an array or a tree of them; keep away from kinks.
      labels: labels of these logits, or whatever else the loss takes second.
      step: how far to go from there; so near nothing may bend much.
      tolerance: relative and absolute.
      **options: passed to the loss.

    Raises:
      AssertionError: with both derivatives.
    """
    draws = np.random.default_rng(0)
    with jax.enable_x64(True):
        at = jax.tree.map(lambda x: np.asarray(x, np.float64), logits)
        along = jax.tree.map(lambda x: draws.normal(size=x.shape), at)

        @jax.jit
        def everything(x: Any) -> Any:
            return jax.jvp(jax.value_and_grad(_total(loss, labels, options)), (x,), (along,))

        def moved(by: float) -> Any:
            return everything(jax.tree.map(lambda x, v: x + by * v, at, along))[0]

        (_, gradient), (slope, bend) = everything(at)
        differences = jax.tree.map(lambda a, b: (a - b) / (2 * step), moved(step), moved(-step))
        products = jax.tree.map(lambda g, v: np.vdot(g, v), gradient, along)
        chex.assert_trees_all_close((slope, bend), differences, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-9, atol=1e-12)


def assert_jit_and_vmap_agree(
    loss: Loss, logits: ArrayLike, labels: ArrayLike, **options: Any
) -> None:
    """Assert that `jax.jit` and `jax.vmap` do not change the loss.

    The reference is a plain loop with `jax.disable_jit`.

    Args:
      loss: the loss under test.
      logits: one example of the input; three variations of it make the batch.
      labels: labels of these logits.
      **options: passed to the loss.

    Raises:
      AssertionError: with the largest difference.
    """
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    batch, same = jnp.stack([z, -z, 0.5 * z]), jnp.stack([y, y, y])

    def one(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return loss(logits, labels, **options)

    with jax.disable_jit():
        looped = jnp.stack([one(*pair) for pair in zip(batch, same, strict=True)])
    jitted = jnp.stack([jax.jit(one)(*pair) for pair in zip(batch, same, strict=True)])
    chex.assert_trees_all_close(jitted, looped, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(jax.vmap(one)(batch, same), looped, rtol=1e-5, atol=1e-6)


def assert_order_invariant(
    loss: Loss, logits: ArrayLike, labels: ArrayLike, **options: Any
) -> None:
    """Assert that the order of the examples does not matter.

    Permuting the examples (axis 0) must permute a per-example loss and leave a set loss alone.

    Args:
      loss: the loss under test.
      logits: shape ``[examples, ...]``.
      labels: shape ``[examples, ...]``.
      **options: passed to the loss.

    Raises:
      AssertionError: with the largest difference.
    """
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    order = np.random.default_rng(0).permutation(z.shape[0])
    value, permuted = loss(z, y, **options), loss(z[order], y[order], **options)
    if value.shape[:1] == z.shape[:1]:
        value = value[order]
    chex.assert_trees_all_close(permuted, value, rtol=1e-5, atol=1e-6)


def assert_shapes_checked(loss: Loss, logits: ArrayLike, labels: ArrayLike, **options: Any) -> None:
    """Assert that labels of a wrong shape raise and are not broadcast.

    It tries labels with an axis too many and with an example too few. ``(B,)`` against ``(B, 1)``
    silently becomes ``(B, B)`` in most libraries, which makes a loss nearly blind to its labels.

    Args:
      loss: the loss under test.
      logits: shape ``[examples, ...]``.
      labels: matching labels.
      **options: passed to the loss.

    Raises:
      AssertionError: naming the shapes that were accepted.
    """
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    wrong = [(z, y[..., None]), (z[..., None], y), (z, y[:-1]), (z[:1], y)]
    for some, other in wrong:
        try:
            value = _traced(lambda z, y: loss(z, y, **options), some, other)
        except (ValueError, TypeError, AssertionError):
            continue
        raise AssertionError(
            f"loss accepted logits {some.shape} with labels {other.shape} and returned shape "
            f"{value.shape}; it should raise"
        )


def _traced(f: Callable[..., Any], *arrays: jax.Array) -> Any:
    """The shape of what `f` returns, without compiling it, if it does not look at numbers."""
    try:
        return jax.eval_shape(f, *arrays)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        return f(*arrays)


def assert_where_selects(loss: Loss, logits: ArrayLike, labels: ArrayLike, **options: Any) -> None:
    """Assert that examples under ``where=False`` count as absent, even if they hold NaN.

    Their labels may hold NaN, too.

    Args:
      loss: a set loss with a `where` option.
      logits: shape ``[examples, ...]``; half of them are hidden.
      labels: shape ``[examples, ...]``.
      **options: passed to the loss.

    Raises:
      AssertionError: if value or gradient differ from those of the visible examples alone, or the
        gradient of a hidden one is not zero.
    """
    z, y = np.asarray(logits), np.asarray(labels)
    visible = np.arange(z.shape[0]) % 2 == 0
    both = _both(loss, {**options, "where": _rows(visible, z)})
    alone = _both(loss, options)(jnp.asarray(z[visible]), jnp.asarray(y[visible]))
    for poison in (np.nan, np.inf, 0.0):
        strange = (_poisoned(x, visible, poison) for x in (z, y))
        with jax.debug_nans(False):
            value, gradient = both(*map(jnp.asarray, strange))
        chex.assert_trees_all_close((value, gradient[visible]), alone, rtol=1e-5, atol=1e-6)
        if jnp.any(gradient[~visible] != 0):
            raise AssertionError(f"gradient reaches examples hidden by where, which hold {poison}")


def _rows(visible: np.ndarray, x: np.ndarray) -> np.ndarray:
    return visible.reshape(-1, *[1] * (x.ndim - 1))


def _poisoned(x: np.ndarray, visible: np.ndarray, poison: float) -> np.ndarray:
    """Floating `x` with `poison` in what is not visible."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return np.where(_rows(visible, x), x, np.asarray(poison, x.dtype))


def assert_weights_count(loss: Loss, logits: ArrayLike, labels: ArrayLike, **options: Any) -> None:
    """Assert that a weight of 0 removes an example from a set loss, and that 2 counts it twice.

    Args:
      loss: a set loss with a `weights` option.
      logits: shape ``[examples, ...]``.
      labels: shape ``[examples, ...]``.
      **options: passed to the loss.

    Raises:
      AssertionError: with the difference.
    """
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    times = np.arange(z.shape[0]) % 3
    weights = times.astype(np.float32).reshape(-1, *[1] * (z.ndim - 1))
    weighted = loss(z, y, **{**options, "weights": weights})
    repeated = loss(jnp.repeat(z, times, 0), jnp.repeat(y, times, 0), **options)
    chex.assert_trees_all_close(weighted, repeated, rtol=1e-5, atol=1e-6)


def assert_accumulates_in_float32(
    loss: Loss, logits: ArrayLike, labels: ArrayLike, **options: Any
) -> None:
    """Assert that float16 and bfloat16 logits give the float32 loss of the same numbers.

    Args:
      loss: the loss under test.
      logits: shape ``[...]``; more than 65,504 positives show a float16 sum that overflows.
      labels: labels of these logits.
      **options: passed to the loss.

    Raises:
      AssertionError: if the value is not float32 or differs, or the gradient is not of the
        logits' type or not finite.
    """
    for dtype in (jnp.float16, jnp.bfloat16):
        narrow = jnp.asarray(logits, dtype)
        value, gradient = _both(loss, options)(narrow, labels)
        wide = loss(narrow.astype(jnp.float32), labels, **options)
        chex.assert_type(value, jnp.float32)
        chex.assert_type(gradient, dtype)
        chex.assert_tree_all_finite(gradient)
        chex.assert_trees_all_close(value, wide, rtol=1e-5, atol=1e-6)


def assert_tends_to_metric(
    loss: Loss,
    metric: Callable[[jax.Array, ArrayLike], jax.Array],
    logits: ArrayLike,
    labels: ArrayLike,
    **options: Any,
) -> None:
    """Assert that the loss tends to one minus an exact metric as the logits sharpen.

    The metric is that of the decisions ``logits > 0``.

    Args:
      loss: a loss that claims to be the metric's twin.
      metric: ``f(predictions, labels)`` of boolean predictions.
      logits: shape ``[...]``, none of them 0.
      labels: 0/1 labels.
      **options: passed to the loss.

    Raises:
      AssertionError: with both values.
    """
    z = jnp.asarray(logits)
    sharp = loss(1e4 * jnp.sign(z), labels, **options)
    chex.assert_trees_all_close(sharp, 1.0 - metric(z > 0, labels), rtol=1e-5, atol=1e-6)


def assert_healthy(
    loss: Loss,
    *,
    kind: diagnose.Kind | None = None,
    probes: Sequence[str] | None = None,
    allow: Sequence[str] = (),
) -> None:
    """Assert that the loss doctor finds no defect in the loss; see `diagnose.loss`.

    Args:
      loss: the loss under test, ``f(logits, labels)`` of any reduction.
      kind: one of `diagnose.KINDS`; by default inferred.
      probes: names of those to run; by default all of the kind.
      allow: names of probes whose defects are known and meant.

    Raises:
      AssertionError: with the report.
    """
    report = diagnose.loss(loss, kind=kind, probes=probes)
    if not report.results or any(defect.probe not in allow for defect in report.defects):
        raise AssertionError(str(report))
