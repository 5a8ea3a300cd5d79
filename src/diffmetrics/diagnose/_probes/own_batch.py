"""Probes of a loss on a batch of the user's, in its shapes and with its numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._probes.contracts import intermediate_shapes
from diffmetrics.diagnose._forms import CONCRETE, Loss, labels_lead, quiet, required, total
from diffmetrics.diagnose._report import Finding, note, ok


def probe(loss: Loss, predictions: Any, labels: Any) -> tuple[str, list[Finding]]:
    """How the loss was called, and what was found.

    Raises:
      Exception: whatever the loss raises on this batch.
    """
    lead = labels_lead(required(loss))
    z = jax.tree.map(jnp.asarray, predictions)
    y = jnp.asarray(labels)
    first = jax.tree.leaves(z)[0]
    words = f"predictions {_shapes(z)}, labels {y.shape} {y.dtype}"

    def scalar(z: Any, y: Any) -> Any:
        return total(loss(y, z) if lead else loss(z, y))

    found: list[Finding] = []
    differentiate: Any = jax.value_and_grad(scalar)
    try:
        with quiet():
            trace = jax.make_jaxpr(scalar)(z, y)
        differentiate = jax.jit(differentiate)
        found += _outer(trace, first, y)
    except CONCRETE as error:
        found.append(
            Finding(
                "jit",
                "it cannot be compiled: it looks at values while being traced",
                f"{type(error).__name__}",
                "check shapes only, replace `if` on values by jnp.where",
            )
        )
    with quiet():
        value, gradient = differentiate(z, y)
    value, slopes = float(value), [np.asarray(g, np.float64) for g in jax.tree.leaves(gradient)]
    found += _finite(value, slopes)
    if all(f.status == "ok" for f in found if f.probe == "finite"):
        found += _labels(differentiate, z, y, value)
        found += _halves(differentiate, z, y, value, slopes)
        if y.shape == first.shape and len(slopes) == 1 and bool(((y == 0) | (y == 1)).all()):
            found += _elements(np.asarray(first, np.float64), np.asarray(y), slopes[0])
        elif not any(s.any() for s in slopes):
            found.append(
                Finding(
                    "alive",
                    "no prediction gets a gradient",
                    "gradient 0 everywhere",
                    "diagnose.loss tells why",
                )
            )
    return words, found


def _shapes(z: Any) -> str:
    return " and ".join(str(a.shape) for a in jax.tree.leaves(z))


def _outer(trace: Any, z: jax.Array, y: jax.Array) -> list[Finding]:
    """Whether predictions of one shape met labels of another, all with all."""
    if z.shape == y.shape or z.size != y.size or z.size < 2:
        return [ok("shapes", f"{z.shape} and {y.shape}")]
    shapes = [s for s in intermediate_shapes(trace.jaxpr) if len(s) >= 2]
    outer = [s for s in shapes if int(np.prod(s)) > z.size]
    if not outer:
        return [ok("shapes", f"{z.shape} and {y.shape}, brought together by the loss")]
    return [
        Finding(
            "shapes",
            f"predictions {z.shape} were broadcast against labels {y.shape} to {outer[0]}: every "
            "prediction meets every label",
            f"{z.size} predictions, an array of shape {outer[0]} inside the loss",
            "give both the same shape: labels.reshape(logits.shape)",
        )
    ]


def _finite(value: float, slopes: list[np.ndarray]) -> list[Finding]:
    bad = sum(int((~np.isfinite(s)).sum()) for s in slopes)
    size = sum(s.size for s in slopes)
    if np.isfinite(value) and not bad:
        return [ok("finite", f"loss {value:.4g}, gradient finite")]
    return [
        Finding(
            "finite",
            "value or gradient are not finite on this batch",
            f"loss {value:g}, {bad} of {size} entries of the gradient not finite",
            "diagnose.loss tells from which logit on; clip the gradients' norm, not the logits",
        )
    ]


def _labels(differentiate: Any, z: Any, y: jax.Array, value: float) -> list[Finding]:
    flat = np.asarray(y).ravel()
    if flat.size < 2 or np.ptp(flat.astype(np.float64)) == 0:
        return [note("labels", "all labels are the same", f"{flat[:1]}", "look at another batch")]
    shuffled = np.random.default_rng(0).permutation(flat).reshape(y.shape)
    other = float(differentiate(z, jnp.asarray(shuffled))[0])
    moved = abs(other - value) / max(abs(value), 1e-30)
    spread = float(np.ptp(np.asarray(jax.tree.leaves(z)[0], np.float64)))
    if moved > 1e-5 or spread == 0:
        return [ok("labels", f"shuffling the labels moves the loss by {moved:.2g} of itself")]
    return [
        Finding(
            "labels",
            "it is blind to its labels: only their share counts, not whose they are",
            f"{value:.6g}, with shuffled labels {other:.6g}",
            "look for (B,) against (B, 1), and for means over the batch before the labels come in",
        )
    ]


def _halves(
    differentiate: Any, z: Any, y: jax.Array, value: float, slopes: list[np.ndarray]
) -> list[Finding]:
    first = jax.tree.leaves(z)[0]
    n = first.shape[0] if first.ndim else 0
    if n < 2 or n % 2 or y.ndim == 0 or y.shape[0] != n:
        return []
    values, gradients = [], []
    for part in (slice(0, n // 2), slice(n // 2, n)):
        v, g = differentiate(jax.tree.map(lambda a, p=part: a[p], z), y[part])
        values.append(float(v))
        gradients.append([np.asarray(a, np.float64) / 2 for a in jax.tree.leaves(g)])
    parts = [np.concatenate(pair) for pair in zip(*gradients, strict=True)]
    error = sum(float(((a - b) ** 2).sum()) for a, b in zip(slopes, parts, strict=True)) ** 0.5
    norm = sum(float((a**2).sum()) for a in slopes) ** 0.5
    off = error / max(norm, 1e-30)
    mean = sum(values) / 2
    if off < 1e-3 and abs(mean - value) <= 1e-4 * (abs(value) + 1e-3):
        return [ok("decomposable", "its loss is the mean over its halves")]
    return [
        note(
            "decomposable",
            "it is a loss of the whole batch: a mean over microbatches or devices is another loss",
            f"whole {value:.4g}, mean over halves {mean:.4g}; the gradient is off by {off:.0%}",
            "sum its counts first and divide once, see docs/microbatches.md",
        )
    ]


def _elements(z: np.ndarray, y: np.ndarray, slope: np.ndarray) -> list[Finding]:
    """Who gets the gradient, and who should."""
    found: list[Finding] = []
    positive = y == 1
    wrong = (z > 0) != positive
    size = np.abs(slope)
    if not size.any():
        return [
            Finding(
                "alive",
                "no prediction gets a gradient",
                "gradient 0 everywhere",
                "diagnose.loss tells why",
            )
        ]
    dead = wrong & (size == 0)
    if dead.sum() > 0.01 * max(wrong.sum(), 1):
        of = {"positives": dead[positive].mean() if positive.any() else 0.0,
              "negatives": dead[~positive].mean() if (~positive).any() else 0.0}  # fmt: skip
        found.append(
            Finding(
                "alive",
                "predictions that are wrong get no gradient",
                f"{dead.sum()} of {wrong.sum()} wrong ones; "
                + ", ".join(f"{share:.1%} of the {name}" for name, share in of.items()),
                "diagnose.loss tells why",
            )
        )
    else:
        found.append(ok("alive", f"all {wrong.sum()} wrong predictions get a gradient"))
    astray = (slope * np.where(positive, 1, -1) > 1e-6 * size.max()) & wrong
    if astray.any():
        found.append(
            Finding(
                "direction",
                "wrong predictions are pulled further to the wrong side",
                f"{astray.sum()} of {wrong.sum()} wrong ones",
                "check the sign of the loss, and which class is called 1",
            )
        )
    if positive.any() and not positive.all():
        share, of = size[positive].sum() / size.sum(), positive.mean()
        found.append(
            ok(
                "weights",
                f"positives are {of:.2%} of the batch and hold {share:.1%} of the gradient",
            )
        )
    return found
