r"""Losses at an operating point: one rate is given, and another is to be as good as it can be.

Precision at recall 0.98, recall at precision 0.9, the hits at one false alarm in a thousand. There
are two forms of each; docs/operating_points.md says which to take.

**Quantile form** (``*_loss``): the constraint is solved for the threshold, an order statistic q of
one class's logits, through which the gradient flows; what is left is the other class's errors at
that threshold. No state and no rate to choose; it ranks, and q is the threshold to decide by. It
needs batches with enough of the constrained class to have such a quantile: recall 0.98 of twenty
positives is recall 1.

**Lagrangian form** (``*_lagrangian``): the threshold is logit 0, the objective a mean over
examples, and a multiplier sets the exchange rate of the two errors. It works on small batches. The
multipliers are an array that the caller keeps *outside* the optimiser and moves by `dual_update`:
Adam would cancel the dual rate, and weight decay would shrink the multipliers.

An error is replaced by a surrogate that bounds it from above, :math:`\ell(x) / c \ge [x \ge 0]`
with x the logit on the wrong side of the threshold: ``"logistic"``,
:math:`\ell(x) = \log(1 + e^x)` and c = log 2, or ``"hinge"``, :math:`\ell(x) = \max(0, 1 + x)` and
c = 1.

The arguments mean the same everywhere:

* `logits`: real scores ``[...]``, floating. float16 and bfloat16 are accumulated in float32.
* `labels`: the shape of `logits`; 0/1 as boolean, integer or float (positive above ½).
* `target_*`: the rate to be kept, in [0, 1]; broadcasts to the loss (one per label). Traced.
* `surrogate`: ``"logistic"`` (default) or ``"hinge"``. Static.
* `axis`: axes that form one set; the loss has the shape of the others. Default: all. Static.
* `where`: boolean, broadcasts to `logits`; False leaves an element out, even a NaN.
* `weights`: non-negative factor per element, broadcasts to `logits`; 2 counts an element twice.

Errors, at trace time: `TypeError` for integer logits, boolean weights or a `where` that is not
boolean; `ValueError` for labels of another shape (``(B,)`` against ``(B, 1)`` too), an argument
that does not broadcast, an axis out of range, an unknown surrogate.
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics import _math

Surrogate = Literal["logistic", "hinge"]

# The surrogates at 0, by which they are divided to bound the step.
AT_ZERO: dict[str, float] = {"logistic": math.log(2.0), "hinge": 1.0}


def given(name: str, value: ArrayLike, z: jax.Array) -> jax.Array:
    """A hyper-parameter in the shape of the loss of the sets `z`."""
    x = _math.as_float(value)
    _math.require_broadcast(name, x, z.shape[:-1], "the loss")
    return jnp.broadcast_to(x, z.shape[:-1])


def share_of(mass: jax.Array, total: jax.Array) -> jax.Array:
    """Each element's share of a total, taken before summing: large logits would overflow."""
    return _math.divide(mass, total[..., None])


def cost(x: jax.Array, surrogate: Surrogate) -> jax.Array:
    """The surrogate of x ≥ 0."""
    if surrogate == "logistic":
        return _math.capped(_math.softpluses(x)[0])
    if surrogate == "hinge":
        return _math.hinge(1.0 + x)
    raise ValueError(f'surrogate must be "logistic" or "hinge", got {surrogate!r}.')
