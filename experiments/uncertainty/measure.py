"""What predicted Normals are worth: likelihood, calibration, and whether the uncertain ones err."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import diffmetrics as dm
from experiments.uncertainty.data import Folds
from experiments.uncertainty.predictions import Normals

COVERAGE = 0.95


def _rank(scale: jax.Array, error: jax.Array) -> jax.Array:
    return dm.rank_correlation(scale, jnp.abs(error))


def total(means: jax.Array, scales: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation [n] of mixtures of K Normals [K, n]."""
    return means.mean(0), jnp.sqrt(sum(dm.decompose_variance(means, scales)))


def judge_split(
    key: jax.Array, test: tuple[jax.Array, ...], inner: tuple[jax.Array, ...]
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """All figures of one split, and the mean and deviation that they are of.

    Args:
      key: for the attainable values, which are simulated.
      test: means and scales [K, n] and target [n], in the units of the target.
      inner: the same for held-out training rows [K, v], on which factor and quantile are fitted.
    """
    means, scales, y = test
    mean, deviation = total(means, scales)
    error = y - mean
    inner_mean, inner_deviation = total(*inner[:2])
    factor = dm.fit_scale(inner_mean, inner_deviation, inner[2])
    scores = jnp.abs(inner[2] - inner_mean) / inner_deviation
    quantile = dm.conformal_quantile(scores, coverage=COVERAGE)
    figures = {
        "rmse": jnp.sqrt(jnp.square(error).mean()),
        "mixture": dm.mixture_log_likelihood(means, scales, y).mean(),
        "moment_matched": dm.moment_matched_log_likelihood(means, scales, y).mean(),
        "scaled": -dm.gaussian_nll(mean, factor * deviation, y).mean(),
        "crps": dm.crps_mixture(means, scales, y).mean(),
        "calibration_error": dm.regression_calibration_error(mean, deviation, y),
        "ause": dm.ause(deviation, error),
        "ause_attainable": dm.attainable(key, deviation, metric=dm.ause, draws=20).mean(),
        "rank": _rank(deviation, error),
        "rank_attainable": dm.attainable(key, deviation, metric=_rank, draws=20).mean(),
        "error_of_surest_80": dm.risk_at_coverage(deviation, error, coverage=0.8)
        / jnp.abs(error).mean(),
        "factor": factor,
        "quantile": quantile,
    }
    predicted = {"mean": mean, "deviation": deviation}
    intervals = {
        "": dm.normal_interval(mean, deviation, coverage=COVERAGE),
        "_scaled": dm.normal_interval(mean, factor * deviation, coverage=COVERAGE),
        "_conformal": (mean - quantile * deviation, mean + quantile * deviation),
    }
    for name, (lower, upper) in intervals.items():
        figures["coverage" + name], figures["width" + name] = dm.interval_coverage(lower, upper, y)
    return figures, predicted


@jax.jit
def _judge(keys: jax.Array, test: Any, inner: Any) -> Any:
    # One split after the other: all pairs of members meet in the score of a mixture.
    return jax.lax.map(lambda split: judge_split(*split), (keys, test, inner))


def judge(
    rows: Folds, test: Normals, inner: Normals, *, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Every figure of every split [S]; target, mean and deviation [S, n] that they are of.

    Args:
      rows: of the table; figures are in its units.
      test: what is predicted of the test rows, standardised.
      inner: the same of the held-out rows, the last ones of the training rows.
      seed: of what is simulated.
    """
    center, unit = rows.center[:, None], rows.scale[:, None]
    inner_y = rows.train_y[:, -inner.mean.shape[-1] :] * unit + center
    keys = jax.random.split(jax.random.key(seed + 2), len(center))
    arrays = [
        tuple(
            np.asarray(array, np.float32)
            for array in (
                normals.mean * unit[..., None] + center[..., None],
                normals.scale * unit[..., None],
                y,
            )
        )
        for normals, y in ((test, rows.test_y), (inner, inner_y))
    ]
    figures, predicted = jax.device_get(_judge(keys, *arrays))
    return figures, {"target": rows.test_y, **predicted}
