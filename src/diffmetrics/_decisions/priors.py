"""Class frequencies: logits corrected for other shares of classes, and estimates of these shares.

Try the threshold first (`fit_threshold`): on tabular data it usually does as much for a decision as
a weight or a resampled batch, and leaves the probabilities alone.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, masses, numbers, set_doors
from diffmetrics._core.calls import Axis


@calls.compiled()
def correct_prior(
    logits: ArrayLike, *, trained_prior: ArrayLike, true_prior: ArrayLike
) -> jax.Array:
    r"""Prior correction of binary logits, after resampling, class weights or label shift.

    Use it if positives are as frequent as π' where you predict, and were as frequent as π in
    training. If only the class frequencies differ, it corrects the probabilities. ROC AUC and
    average precision do not change.

    .. math:: z' = z + \log\frac{\pi'}{1 - \pi'} - \log\frac{\pi}{1 - \pi}

    Known corrections are this shift:

    * *Undersampling*, which keeps a share b of the negatives, trains on
      :math:`\pi = \pi' / (\pi' + b (1 - \pi'))` and shifts by :math:`\log b`; in probabilities,
      :math:`b p / (b p - p + 1)` (Dal Pozzolo).
    * *Weights* w of the positives shift by :math:`-\log w`.
    * *King and Zeng's* correction of the intercept, for a share τ of the population and ȳ of the
      sample, has ``true_prior=τ`` and ``trained_prior=ȳ``.

    Args:
      logits: real scores ``[...]``, calibrated where the model was trained.
      trained_prior: π, the share of positives there, in (0, 1); broadcasts to `logits`.
      true_prior: π', the share of positives in use; broadcasts to `logits`. See `estimate_prior`.

    Returns:
      Logits ``[...]``. A share of 0 or 1 is taken as 1e-18 away.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> z = jnp.array([0.0, 2.0])  # of a model trained on balanced batches
      >>> z = dm.correct_prior(z, trained_prior=0.5, true_prior=0.01)
      >>> print(*jax.nn.sigmoid(z))
      0.01 0.069

    References:
      Elkan, The foundations of cost-sensitive learning, IJCAI 2001; King and Zeng, Logistic
      regression in rare events data, Political Analysis 9, 2001; Dal Pozzolo et al., Calibrating
      probability with undersampling for unbalanced classification, SSCI 2015.
    """
    z = _logits(logits)
    given = {"trained_prior": trained_prior, "true_prior": true_prior}
    trained, true = (doors.parameter(name, x, z) for name, x in given.items())
    return z + _log_odds(true) - _log_odds(trained)


@calls.compiled("class_axis")
def correct_class_priors(
    logits: ArrayLike,
    *,
    trained_priors: ArrayLike,
    true_priors: ArrayLike,
    class_axis: int = -1,
) -> jax.Array:
    r"""Prior correction of softmax logits, for class frequencies that changed (label shift).

    It is `correct_prior` for many classes. With uniform `true_priors` it is post-hoc logit
    adjustment: the largest corrected logit has the best balanced accuracy.

    .. math:: z'_c = z_c + \log \pi'_c - \log \pi_c

    Args:
      logits: real scores ``[..., C]``, calibrated where the model was trained.
      trained_priors: π, the class frequencies there, ``[C]``; broadcasts to ``[..., C]``. Counts do
        as well, because a factor does not change the softmax.
      true_priors: π', the class frequencies in use, of the same form; see `estimate_class_priors`.
      class_axis: axis of the classes in `logits`; 1 for ``[B, C, H, W]``. The frequencies always
        have them last. Static.

    Returns:
      Logits of the shape of `logits`. A frequency of 0 is taken as 1e-18.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([1.0, 0.0, -1.0])
      >>> print(*dm.correct_class_priors(z, trained_priors=[90, 9, 1], true_priors=[1, 1, 1]))
      -3.50 -2.20 -1.0

    References:
      Saerens et al., Adjusting the outputs of a classifier to new a priori probabilities, Neural
      Computation 14, 2002; Menon et al., Long-tail learning via logit adjustment,
      ICLR 2021, arXiv:2007.07314.
    """
    z = _logits(logits)
    place = doors.axis_of_classes(class_axis, z.shape)
    shape = (*doors.without(z.shape, place), z.shape[place])
    given = {"trained_priors": trained_priors, "true_priors": true_priors}
    trained, true = (doors.parameter(name, x, z, "logits", shape) for name, x in given.items())
    shift = numbers.log(true) - numbers.log(trained)
    return z + (jnp.moveaxis(shift, -1, place) if shift.ndim else shift)


@calls.compiled("axis", "steps")
def estimate_prior(
    logits: ArrayLike,
    *,
    trained_prior: ArrayLike,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    steps: int = 100,
) -> jax.Array:
    r"""Share of positives in data without labels (label shift), by a model trained on other data.

    Use it if the share drifts, and pass the estimate to `correct_prior`. Expectation maximisation
    finds the most likely share: the mean corrected probability is the next estimate.

    .. math:: \pi' \leftarrow \frac{1}{n} \sum_i \sigma\Big(z_i + \log\frac{\pi'}{1 - \pi'}
       - \log\frac{\pi}{1 - \pi}\Big)

    It makes two assumptions that it cannot check: the classes look as they did in training, and the
    logits are calibrated there (if they are overconfident, fit a temperature first). The likelihood
    is concave, so the result is its maximum. The less the logits say, the flatter it is: equal
    logits leave `trained_prior` unchanged, and overlapping classes need thousands of examples and
    more steps.

    Args:
      logits: real scores ``[...]`` of the new data.
      trained_prior: π in training, where the search starts, in (0, 1); broadcasts to the result.
      axis: axes that form one set; ``axis=0`` of ``[n, L]`` gives one estimate per label.
      where: boolean, broadcasts to `logits`.
      weights: ≥ 0, broadcast to `logits`.
      steps: number of steps of expectation maximisation, each a pass over the logits. Static.

    Returns:
      Share in [0, 1], of the shape of `logits` without `axis`; `trained_prior` without examples.

    Raises:
      ValueError: if there are no logits.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([-3.0, -2.5, -4.0, -3.0, 2.0])  # trained on balanced batches
      >>> print(dm.estimate_prior(z, trained_prior=0.5).round(3))
      0.085

    References:
      Saerens et al., Adjusting the outputs of a classifier to new a priori probabilities, Neural
      Computation 14, 2002.
    """
    z = _logits(logits)
    z, w = masses.rows({"logits": z}, axis=axis, where=where, weights=weights)
    trained = doors.parameter("trained_prior", trained_prior, z[..., 0], of="the sets")
    trained = _like(z, trained)

    def posterior(prior: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(z + (_log_odds(prior) - _log_odds(trained))[..., None])

    return _expectation_maximisation(posterior, trained, w, steps)


@calls.compiled("axis", "steps", "class_axis")
def estimate_class_priors(
    logits: ArrayLike,
    *,
    trained_priors: ArrayLike,
    class_axis: int = -1,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    steps: int = 100,
) -> jax.Array:
    r"""Class frequencies in data without labels (label shift), by a model trained on other data.

    It is `estimate_prior` for many classes, with the same assumptions. If one class looks
    like a mixture of others, the frequencies cannot be identified, either.

    .. math:: \pi'_c \leftarrow \frac{1}{n} \sum_i \mathrm{softmax}(z_i + \log \pi' - \log \pi)_c

    Args:
      logits: real scores ``[..., C]`` of the new data.
      trained_priors: π in training, where the search starts, ``[C]`` or broadcast; normalised.
      class_axis: axis of the classes in `logits`; 1 for ``[B, C, H, W]``. Static.
      axis: axes of `logits` that form one set, not `class_axis`. Default: all others.
      where: boolean, broadcasts to the examples ``[...]``.
      weights: ≥ 0, broadcast to the examples.
      steps: number of steps of expectation maximisation, each a pass over the logits. Static.

    Returns:
      Frequencies that sum to 1, of the shape of `logits` without `axis`, the classes last;
      `trained_priors` without examples.

    Raises:
      ValueError: if there are no logits.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[4.0, 0, 0], [4, 0, 0], [4, 0, 0], [0, 0, 4]])
      >>> print(*dm.estimate_class_priors(z, trained_priors=[1, 1, 1]).round(2))
      0.76 0.00 0.24

    References:
      Saerens et al., Adjusting the outputs of a classifier to new a priori probabilities, Neural
      Computation 14, 2002.
    """
    z = _logits(logits)
    place = doors.axis_of_classes(class_axis, z.shape)
    axes = masses.example_axes(axis, place, z.shape)
    z = jnp.moveaxis(z, place, -1)
    mask, mass = masses.of(where, weights, z[..., 0], "the examples")
    z = z if mask is None else jnp.where(mask[..., None], z, 0.0)
    z, w = set_doors.sets_last(z, axes), set_doors.sets_last(mass, axes)  # [..., C, n] and [..., n]
    if w.shape[-1] == 0:
        raise ValueError(f"logits must not be empty, got shape {jnp.shape(logits)}.")
    given = doors.parameter("trained_priors", trained_priors, z[..., 0], of="the sets' classes")
    given = _like(z, given)
    trained = given / jnp.sum(given, -1, keepdims=True)

    def posterior(priors: jax.Array) -> jax.Array:
        return jax.nn.softmax(z + (numbers.log(priors) - numbers.log(trained))[..., None], -2)

    return _expectation_maximisation(posterior, trained, w[..., None, :], steps)


def _like(z: jax.Array, prior: jax.Array) -> jax.Array:
    """`prior` for each set of ``[..., n]``, made from the data: shard_map keeps a carry's type."""
    return jnp.broadcast_to(prior, z.shape[:-1]) + jnp.zeros_like(z[..., 0])


def _logits(logits: ArrayLike) -> jax.Array:
    z = jnp.asarray(logits)
    doors.require_float("logits", z, "Priors shift raw scores, not decisions.")
    return numbers.as_float(z)


def _log_odds(probability: jax.Array) -> jax.Array:
    return numbers.log(probability) - numbers.log(1.0 - probability)


def _expectation_maximisation(
    posterior: Callable[[jax.Array], jax.Array], start: jax.Array, w: jax.Array, steps: int
) -> jax.Array:
    """From `start` on, the prior that equals the mean of the posteriors that it gives."""
    share = masses.shares(w)
    some = jnp.any(w != 0, -1)

    def step(_: int, prior: jax.Array) -> jax.Array:
        return jnp.where(some, jnp.sum(share * posterior(prior), -1), start)

    return jax.lax.fori_loop(0, steps, step, start)
